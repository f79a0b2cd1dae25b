"""The cart: what a visitor has put aside, kept in the session with the prices that were seen.

Every change gives it another key, so a key stands for one content, and at most one order is placed for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from django.contrib.sessions.backends.base import SessionBase

from inventory import selectors as inventory
from inventory.selectors import ProductView
from storefront.forms import MAX_LINES, MAX_QUANTITY

CART = "cart"
PLACED = "placed"
REMEMBERED = 10  # keys of forms that have placed an order, for as long as somebody might go back to one


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
        """Whether there are fewer pieces than wanted, as far as one can know before they are reserved."""
        return self.product is not None and self.product.available < self.quantity


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What is in the cart at the prices of this moment."""

    lines: tuple[CartLine, ...]

    @property
    def orderable(self) -> bool:
        return bool(self.lines) and all(line.on_sale for line in self.lines)

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


class Cart:
    """The cart of a session."""

    def __init__(self, session: SessionBase) -> None:
        self._session = session
        stored: dict[str, Any] = session.get(CART) or {}
        self.key: str = stored.get("key", "")
        self._lines: dict[str, list[Any]] = stored.get("lines", {})

    @property
    def wanted(self) -> list[tuple[str, int]]:
        """Pairs of sku and quantity, in the order in which they were put in."""
        return [(sku, quantity) for sku, (quantity, _, _) in self._lines.items()]

    @property
    def pieces(self) -> int:
        return sum(quantity for _, quantity in self.wanted)

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

    def add(self, product: ProductView, quantity: int) -> None:
        """Put in some pieces at the present price, besides those that are in already. Raises CartError."""
        inside = self._lines.get(product.sku, [0])[0]
        if not product.active:
            raise CartError(f"{product.name} is no longer on sale.")
        if inside + quantity > MAX_QUANTITY:
            raise CartError(f"At most {MAX_QUANTITY} pieces of one product; {inside} are in your cart already.")
        if product.sku not in self._lines and len(self._lines) >= MAX_LINES:
            raise CartError(f"An order has at most {MAX_LINES} different products.")
        self._lines[product.sku] = [inside + quantity, product.price, product.currency]
        self._changed()

    def put(self, products: Sequence[tuple[ProductView, int]]) -> None:
        """Put in several products, up to what an order may have of each. Raises CartError."""
        for product, quantity in products:
            inside = self._lines.get(product.sku, [0])[0]
            if room := MAX_QUANTITY - inside:
                self.add(product, min(quantity, room))

    def set_quantities(self, quantities: dict[str, int]) -> None:
        """Change how many pieces of products that are in; none of a product takes it out."""
        before = self.wanted
        for sku, quantity in quantities.items():
            if sku in self._lines and quantity:
                self._lines[sku][0] = quantity
            else:
                self._lines.pop(sku, None)
        if self.wanted != before:
            self._changed()

    def renew_key(self) -> None:
        """Let the same content be ordered once more."""
        self._changed()

    def has_placed(self, key: str, number: str) -> None:
        """Remember which order was placed under this key, and empty the cart if it is still the one of the order."""
        placed = {**self._session.get(PLACED, {}), key: number}
        self._session[PLACED] = dict(list(placed.items())[-REMEMBERED:])
        if key == self.key:
            self._lines = {}
            self._changed()

    def placed_under(self, key: str) -> str | None:
        """The number of the order that was placed under this key in this session."""
        number: str | None = self._session.get(PLACED, {}).get(key)
        return number

    def _changed(self) -> None:
        self.key = uuid4().hex
        self._session[CART] = {"key": self.key, "lines": self._lines}
