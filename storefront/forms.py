"""What people type into the shop. A field says what is wrong with it, and keeps what was typed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from django import forms
from django.contrib.auth.forms import AuthenticationForm, UserCreationForm
from django.contrib.auth.models import User
from django.http import QueryDict

from inventory.selectors import CategoryView, ProductView

MAX_QUANTITY = 999
MAX_LINES = 100
MAX_COUPON = 40
MAX_PASSWORD = 128

QUANTITY = "q-"  # the name of a product's field is this and its sku
KEY = re.compile(r"[0-9a-f]{32}")
WHOLE_NUMBER = re.compile(r"[0-9]{1,9}")


class SignInForm(AuthenticationForm):
    error_messages = {
        "invalid_login": "This user name and password do not belong together. Both mind capital letters.",
        "inactive": "This account is closed.",
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.label_suffix = ""
        self.fields["username"].label = "User name"
        self.fields["password"] = forms.CharField(
            max_length=MAX_PASSWORD,
            strip=False,
            widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
        )


class RegistrationForm(UserCreationForm):
    """A user name nobody has (whatever its capitals), an e-mail address nobody has, and a password twice."""

    email = forms.EmailField(
        label="E-mail address",
        max_length=254,
        help_text="Where we write to when something happens to your orders.",
        widget=forms.EmailInput(attrs={"autocomplete": "email"}),
    )

    class Meta:
        model = User
        fields = ("username", "email")
        labels = {"username": "User name"}
        help_texts = {"username": "Letters, digits and @ . + - _ only."}
        error_messages = {"username": {"unique": "This user name is taken."}}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.label_suffix = ""
        self.fields["username"].widget.attrs |= {"maxlength": 150, "autocomplete": "username"}
        self.fields["password1"].help_text = "At least 8 characters, and not one of those that everybody uses."
        self.fields["password2"].label = "Password again"
        self.fields["password2"].help_text = ""
        for name in ("password1", "password2"):
            self.fields[name].widget.attrs["maxlength"] = MAX_PASSWORD

    def clean_password1(self) -> str:
        password = str(self.cleaned_data["password1"])
        if len(password) > MAX_PASSWORD:  # hashing a book takes its time
            raise forms.ValidationError(f"A password has at most {MAX_PASSWORD} characters.")
        return password

    def clean_email(self) -> str:
        return str(self.cleaned_data["email"]).lower()


class QuantityInput(forms.NumberInput):
    """A product that is named twice is wanted as often as both say together."""

    def value_from_datadict(self, data: Mapping[str, Any], files: Any, name: str) -> str:
        values = data.getlist(name) if isinstance(data, QueryDict) else [data.get(name) or ""]
        typed = [text for value in values if (text := str(value).strip())]
        if len(typed) > 1 and all(WHOLE_NUMBER.fullmatch(text) for text in typed):
            return str(sum(int(text) for text in typed))
        return next((text for text in typed if WHOLE_NUMBER.fullmatch(text) is None), typed[0] if typed else "")


class QuantityField(forms.Field):
    """A whole number of pieces; nothing and 0 both mean that the product is not wanted."""

    def to_python(self, value: Any) -> int:
        text = str(value or "").strip()
        if not text:
            return 0
        if WHOLE_NUMBER.fullmatch(text) is None:
            raise forms.ValidationError(f"A whole number from 1 to {MAX_QUANTITY}, please.", code="invalid")
        if int(text) > MAX_QUANTITY:
            raise forms.ValidationError(f"At most {MAX_QUANTITY} pieces of one product.", code="max_value")
        return int(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A product, and the field for how many of it."""

    product: ProductView
    field: forms.BoundField


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """The products of a category on this page."""

    slug: str
    name: str
    choices: tuple[Choice, ...]


def new_key() -> str:
    """What tells one filled-in form from every other."""
    return uuid4().hex


def picked(data: QueryDict) -> list[str]:
    """The products that have something in their field, on whichever page they are shown."""
    return [
        name.removeprefix(QUANTITY)
        for name in data
        if name.startswith(QUANTITY) and any(value.strip() for value in data.getlist(name))
    ]


class OrderForm(forms.Form):
    """Quantities of products, and a coupon. The hidden key lets the shop place one filled-in form only once.

    So key and quantities belong together: `autocomplete` is off, or a browser that goes back might put the old
    quantities into a new form with a new key; and an address that has quantities has their key as well.
    """

    key = forms.CharField(widget=forms.HiddenInput(attrs={"autocomplete": "off"}), required=False)
    coupon = forms.CharField(
        required=False,
        max_length=MAX_COUPON,
        widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "characters", "spellcheck": "false"}),
    )

    def __init__(
        self,
        data: QueryDict | None,
        products: Sequence[ProductView],
        *,
        initial: QueryDict,
        may_be_empty: bool = False,
    ) -> None:
        """`products` are all that have a field; of `initial`, which comes from an address, only the valid is taken."""
        key = initial.get("key", "")
        super().__init__(
            data,
            initial={
                "key": key if KEY.fullmatch(key) else new_key(),
                "coupon": _printable(initial.get("coupon", "")),
            },
        )
        self.label_suffix = ""
        self.products = tuple(products)
        self.may_be_empty = may_be_empty
        for product in self.products:
            name = QUANTITY + product.sku
            attrs = {"min": 0, "max": MAX_QUANTITY, "inputmode": "numeric", "placeholder": "0", "autocomplete": "off"}
            quantity = QuantityField(required=False, label=f"Quantity of {product.name}", widget=QuantityInput(attrs))
            self.fields[name] = quantity
            self.initial[name] = _quantity(quantity, initial, name)

    def shelves(self, categories: Sequence[CategoryView]) -> list[Shelf]:
        """The products by category, in the order of the shop."""
        choices = [Choice(product=product, field=self[QUANTITY + product.sku]) for product in self.products]
        found = [
            Shelf(
                slug=category.slug,
                name=category.name,
                choices=tuple(choice for choice in choices if choice.product.category == category.slug),
            )
            for category in categories
        ]
        return [shelf for shelf in found if shelf.choices]

    def clean_coupon(self) -> str | None:
        coupon = str(self.cleaned_data["coupon"])
        if not coupon.isprintable():
            raise forms.ValidationError("A coupon has no characters that cannot be seen.")
        return coupon or None

    def clean(self) -> dict[str, Any]:
        if KEY.fullmatch(self.cleaned_data.get("key", "")) is None:
            self.renew_key()
            self.add_error(None, "The form was not complete. Please look through it and send it again.")
        on_sale = {product.sku for product in self.products if product.active}
        unknown = [sku for sku in picked(self._typed) if sku not in on_sale]
        if unknown:
            names = ", ".join(_printable(sku)[:40] or "?" for sku in unknown[:5])
            self.add_error(None, f"Not on sale in this shop: {names}.")
        elif len(self.wanted) > MAX_LINES:
            self.add_error(None, f"An order has at most {MAX_LINES} different products, not {len(self.wanted)}.")
        elif not (self.wanted or self.may_be_empty or any(name.startswith(QUANTITY) for name in self.errors)):
            self.add_error(None, "Choose at least one product: type how many you want of it.")
        return self.cleaned_data

    def renew_key(self) -> None:
        """Make this another form, that may place another order."""
        data = self._typed.copy()
        data["key"] = new_key()
        self.data = data

    @property
    def wanted(self) -> list[tuple[str, int]]:
        """Pairs of sku and quantity."""
        if not self.is_bound:
            return [(product.sku, quantity) for product in self.products if (quantity := self._initial_of(product))]
        return [
            (product.sku, quantity)
            for product in self.products
            if (quantity := self.cleaned_data.get(QUANTITY + product.sku))
        ]

    @property
    def coupon_code(self) -> str | None:
        return (self.cleaned_data if self.is_bound else self.initial).get("coupon") or None

    @property
    def chosen(self) -> bool:
        """Whether there is something in the field of any product, be it right or wrong."""
        return bool(self.wanted or picked(self._typed))

    @property
    def complaints(self) -> list[str]:
        """All that is wrong, each in a sentence of its own."""
        labels = {name: f"{field.label or name.capitalize()}: " for name, field in self.fields.items()}
        return [f"{labels.get(name, '')}{message}" for name, errors in self.errors.items() for message in errors]

    @property
    def first_error(self) -> str:
        """The id of the first element that says what is wrong."""
        visible = (field.auto_id for field in self.visible_fields() if field.errors)
        return next(visible, "order")

    def as_query(self) -> str:
        """What is chosen, as part of an address from which the same form can be made again."""
        query = QueryDict(mutable=True)
        for sku, quantity in self.wanted:
            query[QUANTITY + sku] = str(quantity)
        if self.coupon_code:
            query["coupon"] = self.coupon_code
        if query:
            query["key"] = (self.cleaned_data if self.is_bound else self.initial)["key"]
        return query.urlencode()

    @property
    def _typed(self) -> QueryDict:
        return self.data if isinstance(self.data, QueryDict) else QueryDict()

    def _initial_of(self, product: ProductView) -> int | None:
        quantity: int | None = self.initial[QUANTITY + product.sku]
        return quantity


class PaymentForm(forms.Form):
    """The sandbox takes no cards; each of its tokens plays one way in which a payment can go."""

    TOKENS = (
        ("tok_ok", "The payment goes through at once."),
        ("tok_declined", "The bank says no. The order stays open, and you can try again."),
        ("tok_slow", "The bank takes a few seconds to answer."),
        ("tok_error_then_ok", "The first attempt fails on the way; the shop tries again by itself."),
    )

    token = forms.ChoiceField(
        label="Payment token",
        choices=TOKENS,
        initial="tok_ok",
        widget=forms.RadioSelect,
        error_messages={
            "required": "Choose one of the tokens.",
            "invalid_choice": "The sandbox knows only the tokens of this list.",
        },
    )


def _printable(text: str) -> str:
    return "".join(character for character in text if character.isprintable())[:MAX_COUPON]


def _quantity(field: QuantityField, initial: QueryDict, name: str) -> int | None:
    try:
        return field.to_python(field.widget.value_from_datadict(initial, None, name)) or None
    except forms.ValidationError:
        return None
