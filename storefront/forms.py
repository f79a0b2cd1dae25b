"""What people type into the shop. A field says what is wrong with it, and keeps what was typed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from django import forms
from django.contrib.auth.forms import AuthenticationForm, PasswordChangeForm, UserCreationForm, UsernameField
from django.contrib.auth.models import User
from django.core.validators import MaxLengthValidator
from django.http import QueryDict

from accounts.identity import AccountNameField
from accounts.registration import PERSON_NAME
from orders.domain import CITY, NAME, POSTAL_CODE, STREET
from orders.events import Address
from values.countries import COUNTRIES
from values.fields import TextField

MAX_QUANTITY = 999
MAX_LINES = 100
MAX_COUPON = 40
MAX_PASSWORD = 128
HELP_WITH_PASSWORDS = "At least 8 characters, and not one of those that everybody uses."
ADDRESS_FIELDS = ("name", "street", "postal_code", "city", "country")

ONCE = 40  # the longest name of a rendered button
QUANTITY = "q-"  # the name of a product's field is this and its sku
WHOLE_NUMBER = re.compile(r"[0-9]{1,9}")


def filled_in_as(kind: str) -> forms.TextInput:
    """A text that browsers know as a person's name, street and so on."""
    return forms.TextInput(attrs={"autocomplete": kind})


def email_field() -> forms.EmailField:
    return forms.EmailField(
        label="E-mail address",
        max_length=254,
        help_text="Where we write to when something happens to your orders.",
        widget=forms.EmailInput(attrs={"autocomplete": "email"}),
    )


def limit_passwords(form: forms.BaseForm, *names: str) -> None:
    """Refuse what is too long before it is hashed, which takes time."""
    for name in names:
        form.fields[name].widget.attrs["maxlength"] = MAX_PASSWORD
        form.fields[name].validators.append(
            MaxLengthValidator(MAX_PASSWORD, f"A password has at most {MAX_PASSWORD} characters.")
        )


class SignInForm(AuthenticationForm):
    error_messages = {
        "invalid_login": "User name or password is wrong. Capital letters count in passwords.",
        "inactive": "This account is closed.",
    }

    username = UsernameField(label="User name", widget=forms.TextInput(attrs={"autofocus": True}))
    password = forms.CharField(
        max_length=MAX_PASSWORD,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
    )


class RegistrationForm(UserCreationForm):
    """A user name nobody has (whatever its capitals), an e-mail address nobody has, and a password twice."""

    email = email_field()

    class Meta:
        model = User
        fields = ("username", "email")
        field_classes = {"username": AccountNameField}
        labels = {"username": "User name"}
        help_texts = {"username": "Letters, digits and @ . + - _ only. Capitals make no difference."}
        error_messages = {"username": {"unique": "This user name is taken."}}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["username"].widget.attrs |= {"maxlength": 150, "autocomplete": "username"}
        self.fields["password1"].help_text = HELP_WITH_PASSWORDS
        self.fields["password2"].label = "Password again"
        self.fields["password2"].help_text = ""
        limit_passwords(self, "password1", "password2")

    def clean_email(self) -> str:
        return str(self.cleaned_data["email"]).lower()


class DetailsForm(forms.ModelForm):
    """Who the customer is."""

    email = email_field()
    first_name = TextField(PERSON_NAME, label="First name", required=False, widget=filled_in_as("given-name"))
    last_name = TextField(PERSON_NAME, label="Last name", required=False, widget=filled_in_as("family-name"))

    class Meta:
        model = User
        fields = ("first_name", "last_name", "email")


class NewPasswordForm(PasswordChangeForm):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["old_password"].label = "Present password"
        self.fields["old_password"].widget.attrs.pop("autofocus", None)
        self.fields["new_password1"].label = "New password"
        self.fields["new_password1"].help_text = HELP_WITH_PASSWORDS
        self.fields["new_password2"].label = "New password again"
        self.fields["new_password2"].help_text = ""
        limit_passwords(self, "old_password", "new_password1", "new_password2")


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


class AddForm(forms.Form):
    """Some pieces of a product, to be put into the cart."""

    quantity = QuantityField(
        label="Quantity",
        widget=forms.NumberInput(attrs={"min": 1, "max": MAX_QUANTITY, "inputmode": "numeric", "autocomplete": "off"}),
        initial=1,
        required=False,
    )

    def clean_quantity(self) -> int:
        quantity: int = self.cleaned_data["quantity"]
        if not quantity:
            raise forms.ValidationError(f"A whole number from 1 to {MAX_QUANTITY}, please.")
        return quantity


class CartForm(forms.Form):
    """How many of each product in the cart; what is not sent stays as it is, none takes it out."""

    def __init__(self, data: QueryDict | None, lines: Sequence[tuple[str, str, int]]) -> None:
        """`lines` are sku, name and present quantity."""
        super().__init__(data)
        attrs = {"min": 0, "max": MAX_QUANTITY, "inputmode": "numeric", "autocomplete": "off"}
        for sku, name, quantity in lines:
            self.fields[QUANTITY + sku] = QuantityField(
                required=False, label=f"Quantity of {name}", initial=quantity, widget=forms.NumberInput(attrs)
            )

    @property
    def quantities(self) -> dict[str, int]:
        return {
            name.removeprefix(QUANTITY): quantity for name, quantity in self.cleaned_data.items() if name in self.data
        }


class AddressForm(forms.Form):
    """Where an order goes, by the rules of orders."""

    name = TextField(NAME, label="Name", widget=filled_in_as("name"))
    street = TextField(STREET, label="Street and number", widget=filled_in_as("street-address"))
    postal_code = TextField(POSTAL_CODE, label="Postal code", required=False, widget=filled_in_as("postal-code"))
    city = TextField(CITY, label="City", widget=filled_in_as("address-level2"))
    country = forms.ChoiceField(
        label="Country",
        choices=[("", "Choose a country"), *COUNTRIES.items()],
        widget=forms.Select(attrs={"autocomplete": "country"}),
        error_messages={"invalid_choice": "We do not ship to this country."},
    )

    @property
    def address(self) -> Address:
        """What was typed, once the form is valid."""
        return Address(**{field: self.cleaned_data[field] for field in ADDRESS_FIELDS})


class CheckoutForm(AddressForm):
    """The last page before an order. `key` lets the shop place one cart only once; `prices` are those that were shown.

    `autocomplete` is off: a browser that goes back must not put old hidden values into a new form.
    """

    key = forms.CharField(widget=forms.HiddenInput(attrs={"autocomplete": "off"}), required=False)
    prices = forms.CharField(widget=forms.HiddenInput(attrs={"autocomplete": "off"}), required=False)
    coupon = forms.CharField(
        required=False,
        max_length=MAX_COUPON,
        widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "characters", "spellcheck": "false"}),
    )

    def clean_coupon(self) -> str | None:
        coupon = str(self.cleaned_data["coupon"])
        if not coupon.isprintable():
            raise forms.ValidationError("A coupon has no characters that cannot be seen.")
        return coupon or None

    @property
    def coupon_code(self) -> str | None:
        """What has been typed, if it can be a coupon's code at all."""
        if not self.is_bound:
            return self.initial.get("coupon") or None
        self.is_valid()
        return self.cleaned_data.get("coupon") or None

    def forgive_address(self) -> None:
        """Say nothing about an address that may not be finished yet."""
        for field in ADDRESS_FIELDS:
            self.errors.pop(field, None)

    def show_again(self, key: str, prices: str) -> None:
        """Keep what was typed, for the cart as it is now."""
        data = dict(self.data.items())
        data["key"], data["prices"] = key, prices
        self.data = data


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
