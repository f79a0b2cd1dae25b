"""The cart: what a visitor has put aside, with the prices that were seen.

A customer's cart is a row in the database, so it is the same on every device and outlives a session. Anybody else's is
in the session, and joins the customer's with the first page after signing in.

Every change gives a cart another key, so a key stands for one content, and at most one order is placed for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import uuid4

import msgspec
import structlog
from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest
from msgspec import Meta

from eventing import registry
from inventory import selectors as inventory
from inventory.selectors import ProductView
from sharding.router import database_of
from storefront.forms import MAX_LINES, MAX_QUANTITY
from storefront.models import CustomerCart

CART = "cart"
REMEMBERED = 10  # keys of forms that have placed an order, for as long as somebody might go back to one
REMEMBERED_FORMS = 50  # that have added something, for as long as somebody might click them twice


logger = structlog.get_logger(__name__)


class CartError(Exception):
    """This cannot be put into the cart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CartLine:
    """A product in the cart as it is now; `seen_price` in minor units is what it cost when it was put in."""

    sku: str
    quantity: int
    seen_price: int
    seen_currency: str
    product: ProductView | None

    @property
    def name(self) -> str:
        return self.product.name if self.product else self.sku

    @property
    def on_sale(self) -> bool:
        return self.product is not None and self.product.active

    @property
    def amount(self) -> int:
        return self.quantity * self.product.price if self.product else 0

    @property
    def price_changed(self) -> bool:
        product = self.product
        return product is not None and (product.price, product.currency) != (self.seen_price, self.seen_currency)

    @property
    def short(self) -> bool:
        return self.product is not None and self.product.available < self.quantity

    @property
    def shortage(self) -> str:
        """What a customer reads about a line that is short."""
        available = self.product.available if self.product else 0
        if available <= 0:
            return f"{self.name} is sold out."
        return f"We have only {available} of {self.name}, you want {self.quantity}."


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What is in the cart at the prices of this moment."""

    lines: tuple[CartLine, ...]

    @property
    def on_sale(self) -> bool:
        return bool(self.lines) and all(line.on_sale for line in self.lines)

    @property
    def short(self) -> list[CartLine]:
        """The lines of which there is too little, as far as one can know before they are reserved."""
        return [line for line in self.lines if line.short]

    @property
    def subtotal(self) -> int | None:
        """In minor units of `currency`; None if the lines cannot be added up."""
        on_sale = [line for line in self.lines if line.on_sale]
        return sum(line.amount for line in on_sale) if self.currency else None

    @property
    def currency(self) -> str:
        currencies = {line.product.currency for line in self.lines if line.product is not None and line.on_sale}
        return currencies.pop() if len(currencies) == 1 else ""

    @property
    def changed(self) -> list[CartLine]:
        """The lines whose price is not that of the moment when they were put in."""
        return [line for line in self.lines if line.on_sale and line.price_changed]

    @property
    def prices(self) -> str:
        """What says, when it comes back from a form, at which prices somebody decided."""
        return ",".join(
            f"{line.sku}:{line.product.price}{line.product.currency}" for line in self.lines if line.product
        )


Pieces = Annotated[int, Meta(ge=1)]
# A sku, how many, and the price and currency when they were put in. Older versions had the rest by sku.
Lines = list[tuple[str, Pieces, int, str]] | dict[str, tuple[Pieces, int, str]]


class _Ordered(msgspec.Struct):
    number: str
    coupon: str
    lines: Lines


class _Stored(msgspec.Struct):
    """What a cart looks like in a session or in the database; any part may be missing."""

    key: str = ""
    coupon: str = ""
    lines: Lines = []
    added: list[str] = []
    placed: list[tuple[str, str]] | dict[str, str] = []
    ordered: _Ordered | None = None


registry.describe(_Stored)


def _is_readable(content: Any) -> bool:
    """Whether this is a cart; one of another version of the shop may not be, and is empty then."""
    try:
        msgspec.convert(content, _Stored)
    except msgspec.ValidationError as error:
        logger.warning("cart.unreadable", error=str(error))
        return False
    return True


class Cart:
    """The content of a cart, as `stored` says it; see `cart_of` and `changing`."""

    def __init__(self, content: Any) -> None:
        stored = content if _is_readable(content) else {}
        self.key: str = stored.get("key", "")
        self.coupon: str = stored.get("coupon", "")  # what the checkout begins with
        self._lines = _by_sku(stored.get("lines", []))
        self._added: list[str] = stored.get("added", [])
        self._placed: dict[str, str] = dict(stored.get("placed", []))
        self._ordered: dict[str, Any] | None = stored.get("ordered")

    @property
    def stored(self) -> dict[str, Any]:
        """What is in it, as JSON; lists, because PostgreSQL's objects have an order of their own."""
        return {
            "key": self.key,
            "coupon": self.coupon,
            "lines": _as_list(self._lines),
            "added": self._added,
            "placed": [list(pair) for pair in self._placed.items()],
            "ordered": self._ordered,
        }

    @property
    def wanted(self) -> list[tuple[str, int]]:
        """Pairs of sku and quantity, in the order in which they were put in."""
        return [(sku, quantity) for sku, (quantity, _, _) in self._lines.items()]

    @property
    def pieces(self) -> int:
        return sum(quantity for _, quantity in self.wanted)

    @property
    def last_order(self) -> str | None:
        """The number of the order that has emptied the cart, for `give_back`."""
        return self._ordered["number"] if self._ordered else None

    def contents(self) -> Contents:
        products = inventory.products_by_sku(self._lines)
        return Contents(
            lines=tuple(
                CartLine(
                    sku=sku, quantity=quantity, seen_price=price, seen_currency=currency, product=products.get(sku)
                )
                for sku, (quantity, price, currency) in self._lines.items()
            )
        )

    def add(self, product: ProductView, quantity: int, *, form: str = "") -> None:
        """Put in some pieces at the present price, besides those that are in already. Raises CartError.

        `form` names one rendered button: what it has added once is not added again by a second click.
        """
        if self._is_repeated(form):
            return
        inside = self._lines.get(product.sku, [0])[0]
        already = f"; {inside} in your cart already" if inside else ""
        if product.active and product.available <= 0:
            raise CartError(f"{product.name} is sold out.")
        if product.active and product.available < inside + quantity <= MAX_QUANTITY:
            raise CartError(f"We have only {product.available} of {product.name}{already}.")
        self._put(product, quantity)
        self._remember(form)

    def put(self, products: Sequence[tuple[ProductView, int]], *, form: str = "") -> None:
        """Put in several products, up to what an order may have of each. Raises CartError.

        There may be less of them: the cart says so.
        """
        if self._is_repeated(form):
            return
        for product, quantity in products:
            inside = self._lines.get(product.sku, [0])[0]
            if room := MAX_QUANTITY - inside:
                self._put(product, min(quantity, room))
        self._remember(form)

    def set_quantities(self, quantities: dict[str, int]) -> None:
        """Change how many pieces of products that are in; none of a product takes it out."""
        before = self.wanted
        for sku, quantity in quantities.items():
            if sku in self._lines and quantity:
                self._lines[sku][0] = quantity
            else:
                self._lines.pop(sku, None)
        if self.wanted != before:
            self.renew_key()

    def renew_key(self) -> None:
        """Let the same content be ordered once more."""
        self.key = uuid4().hex

    def join(self, visitor: Cart) -> bool:
        """Take in what somebody put aside before they signed in; whether there was something else in here.

        Of a product in both carts the larger quantity counts: nobody gets more than they once asked for in one place.
        """
        had_more = not self._lines.keys() <= visitor._lines.keys()
        before = self.wanted
        for sku, (quantity, price, currency) in visitor._lines.items():
            inside = self._lines.get(sku, [0])[0]
            if inside or len(self._lines) < MAX_LINES:
                self._lines[sku] = [max(quantity, inside), price, currency]
        if self.wanted != before:
            self.renew_key()
        return had_more

    def has_placed(self, key: str, number: str, coupon: str | None) -> None:
        """Remember which order was placed under this key, and empty the cart if it is still the one of the order."""
        self._placed = dict([*self._placed.items(), (key, number)][-REMEMBERED:])
        if key == self.key:
            self._ordered = {"number": number, "coupon": coupon or "", "lines": _as_list(self._lines)}
            self._lines, self.coupon = {}, ""
            self.renew_key()

    def placed_under(self, key: str) -> str | None:
        """The number of the order that was placed under this key."""
        return self._placed.get(key)

    def give_back(self, number: str) -> bool:
        """Have in again what a rejected order took out, unless something else is in by now; whether it is."""
        if self._ordered is None or self._ordered["number"] != number or self._lines:
            return False
        self._lines, self.coupon = _by_sku(self._ordered["lines"]), self._ordered["coupon"]
        self._ordered = None
        self.renew_key()
        return True

    def _put(self, product: ProductView, quantity: int) -> None:
        inside = self._lines.get(product.sku, [0])[0]
        if not product.active:
            raise CartError(f"{product.name} is no longer on sale.")
        if inside + quantity > MAX_QUANTITY:
            raise CartError(f"At most {MAX_QUANTITY} pieces of one product; {inside} are in your cart already.")
        if product.sku not in self._lines and len(self._lines) >= MAX_LINES:
            raise CartError(f"An order has at most {MAX_LINES} different products.")
        self._lines[product.sku] = [inside + quantity, product.price, product.currency]
        self.renew_key()

    def _is_repeated(self, form: str) -> bool:
        return bool(form) and form in self._added

    def _remember(self, form: str) -> None:
        if form:
            self._added = [*self._added, form][-REMEMBERED_FORMS:]


def _as_list(lines: dict[str, list[Any]]) -> list[list[Any]]:
    return [[sku, *line] for sku, line in lines.items()]


def _by_sku(stored: Any) -> dict[str, list[Any]]:
    """Quantity, seen price and currency by SKU; sessions of older versions have them like this."""
    if isinstance(stored, dict):
        return {sku: list(line) for sku, line in stored.items()}
    return {sku: line for sku, *line in stored}


def cart_of(request: HttpRequest) -> Cart:
    """The visitor's cart, to be looked at."""
    found: Cart | None = vars(request).get(CART)
    if found is not None:
        return found
    if request.user.is_authenticated and CART not in request.session:
        rows = CustomerCart.objects.using(database_of("storefront")).filter(customer_id=request.user.pk)
        vars(request)[CART] = found = Cart(rows.values_list("content", flat=True).first() or {})
        return found
    with changing(request) as found:
        return found


@contextmanager
def changing(request: HttpRequest) -> Iterator[Cart]:
    """The visitor's cart, to be changed: nobody else changes that of a customer meanwhile."""
    session = request.session
    if not request.user.is_authenticated:
        before = session.get(CART) or {}
        cart = Cart(before)
        yield cart
        if cart.stored != Cart(before).stored:
            session[CART] = cart.stored
        vars(request)[CART] = cart
        return
    alias = database_of("storefront")
    with transaction.atomic(using=alias):
        carts = CustomerCart.objects.using(alias)
        carts.bulk_create([CustomerCart(customer_id=request.user.pk)], ignore_conflicts=True)
        row = carts.select_for_update().get(customer_id=request.user.pk)
        cart = Cart(row.content)
        if CART in session and cart.join(Cart(session[CART])):
            messages.info(request, "What you had put into your cart earlier is in it as well.")
        yield cart
        if cart.stored != row.content:
            row.content = cart.stored
            row.save(using=alias, update_fields=["content"])
    session.pop(CART, None)
    vars(request)[CART] = cart
