"""Who gets which stock: pure functions, no Django, no clock, no I/O."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import assert_never

from inventory.commands import Command, ReleaseStock, ReserveStock, ShipStock
from inventory.events import (
    MissingItem,
    ReservedItem,
    StockRefused,
    StockReleased,
    StockReserved,
    StockShipped,
)
from values.errors import RuleError
from values.text import InvalidText, Text

MAX_QUANTITY = 999  # of one product in one order
MAX_RECEIVED = 1_000_000  # of one product at once
MAX_ON_HAND = 2**31 - 1  # of one product
MAX_PRICE = 10**12  # minor units

NAME = Text(longest=200)
DESCRIPTION = Text(shortest=0, longest=5000, lines=True)
CATEGORY_NAME = Text(longest=80)
REASON = Text(longest=200)  # of a change of stock
MAX_SEARCH = NAME.longest  # a name that is shown can be looked for

SKU = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
CURRENCY = re.compile(r"[A-Z]{3}")

Event = StockReserved | StockRefused | StockReleased | StockShipped


class InventoryError(RuleError):
    """Inventory refused what was asked of it."""


class UnknownSku(InventoryError):
    """There is no such product."""

    def __init__(self, *skus: str) -> None:
        super().__init__(", ".join(skus))
        self.skus = skus


class NotOnSale(InventoryError):
    """The product is no longer on sale."""

    def __init__(self, *skus: str) -> None:
        super().__init__(", ".join(skus))
        self.skus = skus


class InvalidQuantity(InventoryError):
    """A quantity must be a whole number within limits."""


class MixedCurrencies(InventoryError):
    """The products are not sold in one currency."""


class InvalidProduct(InventoryError):
    """The product cannot be described like this."""


class InvalidReason(InventoryError):
    """A change of stock needs a reason of one line."""


class UnknownCategory(InventoryError):
    """There is no such category."""


class DuplicateSku(InventoryError):
    """There is a product with this number already."""


class BelowReserved(InventoryError):
    """Stock cannot go below what is set aside for orders."""


class NotReserved(InventoryError):
    """Nothing is set aside for the order, so nothing can be shipped."""


class Status(StrEnum):
    """Of a reservation. `void` is a tombstone: the order ended before its placement was heard of."""

    RESERVED = "reserved"
    REFUSED = "refused"
    RELEASED = "released"
    SHIPPED = "shipped"
    VOID = "void"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """What is known of an order here. `Reservation()` is an order not heard of; its status is None."""

    status: Status | None = None
    items: tuple[ReservedItem, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """How many pieces of a product there are, and how many of them are set aside for orders."""

    on_hand: int = 0
    reserved: int = 0

    @property
    def available(self) -> int:
        return self.on_hand - self.reserved


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """What a batch comes to. `events` has one entry for each command, None where nothing happens."""

    events: tuple[Event | None, ...]
    reservations: dict[int, Reservation]
    stock: dict[str, Level]


def allocate(
    commands: Sequence[Command], reservations: Mapping[int, Reservation], stock: Mapping[str, Level]
) -> Allocation:
    """Serve the commands in their order, each from what those before it have left.

    `reservations` and `stock` are what stands in the database; what they do not name is unknown, and an unknown
    product has nothing available. Raises NotReserved.
    """
    known = dict(reservations)
    levels = dict(stock)
    events: list[Event | None] = []
    for command in commands:
        reservation = known.get(command.order_id, Reservation())
        event = decide(reservation, command, levels)
        if event is not None:
            reservation = evolve(reservation, event)
            levels |= levels_after(levels, event)
        elif reservation.status is None:
            reservation = Reservation(status=Status.VOID)
        known[command.order_id] = reservation
        events.append(event)
    return Allocation(events=tuple(events), reservations=known, stock=levels)


def decide(reservation: Reservation, command: Command, stock: Mapping[str, Level]) -> Event | None:
    """The event that the command causes; None if it is repeated or too late. Raises NotReserved."""
    match command:
        case ReserveStock():
            if reservation.status is not None:
                return None
            items = merge(command.items)
            missing = tuple(
                MissingItem(sku=item.sku, wanted=item.quantity, available=available)
                for item in items
                if (available := stock.get(item.sku, Level()).available) < item.quantity
            )
            if missing:
                return StockRefused(missing=missing, at=command.at)
            return StockReserved(items=items, at=command.at)
        case ReleaseStock():
            if reservation.status is not Status.RESERVED:
                return None
            return StockReleased(items=reservation.items, at=command.at)
        case ShipStock():
            if reservation.status is Status.SHIPPED:
                return None
            if reservation.status is not Status.RESERVED:
                raise NotReserved(f"its reservation is {reservation.status or 'unknown'}")
            return StockShipped(items=reservation.items, at=command.at)
        case _:
            assert_never(command)


def evolve(reservation: Reservation, event: Event) -> Reservation:
    """Apply one event. Accepts every event ever stored."""
    match event:
        case StockReserved():
            return Reservation(status=Status.RESERVED, items=event.items)
        case StockRefused():
            return Reservation(status=Status.REFUSED)
        case StockReleased():
            return replace(reservation, status=Status.RELEASED)
        case StockShipped():
            return replace(reservation, status=Status.SHIPPED)
        case _:
            assert_never(event)


def levels_after(stock: Mapping[str, Level], event: Event) -> dict[str, Level]:
    """The levels that the event changes, as they are after it."""
    match event:
        case StockReserved():
            return {
                item.sku: replace(stock[item.sku], reserved=stock[item.sku].reserved + item.quantity)
                for item in event.items
            }
        case StockReleased():
            return {
                item.sku: replace(stock[item.sku], reserved=stock[item.sku].reserved - item.quantity)
                for item in event.items
            }
        case StockShipped():
            return {
                item.sku: Level(
                    on_hand=stock[item.sku].on_hand - item.quantity,
                    reserved=stock[item.sku].reserved - item.quantity,
                )
                for item in event.items
            }
        case StockRefused():
            return {}
        case _:
            assert_never(event)


def merge(items: Iterable[ReservedItem]) -> tuple[ReservedItem, ...]:
    """The items with each product once, in the order of their first mention."""
    quantities: dict[str, int] = {}
    for item in items:
        quantities[item.sku] = quantities.get(item.sku, 0) + item.quantity
    return tuple(ReservedItem(sku=sku, quantity=quantity) for sku, quantity in quantities.items())


def merge_wanted(wanted: Iterable[tuple[str, int]]) -> dict[str, int]:
    """The quantity wanted of each product. Raises InvalidQuantity unless each is a whole number from 1 to 999."""
    quantities: dict[str, int] = {}
    for sku, quantity in wanted:
        check_quantity(sku, quantity, MAX_QUANTITY)
        quantities[sku] = quantities.get(sku, 0) + quantity
        check_quantity(sku, quantities[sku], MAX_QUANTITY)
    return quantities


def check_quantity(sku: str, quantity: int, highest: int) -> None:
    """Raises InvalidQuantity unless it is a whole number from 1 to `highest`."""
    # bool is a subclass of int, and True is not a quantity
    if type(quantity) is not int or not 1 <= quantity <= highest:
        raise InvalidQuantity(f"expected 1..{highest} of {sku}, got {quantity}")


def check_adjustment(sku: str, change: int, level: Level) -> None:
    """Raises InvalidQuantity unless it is a change by -1,000,000..1,000,000 that leaves 0..2,147,483,647 pieces;
    BelowReserved if it takes what orders have been promised.
    """
    if type(change) is not int or not 1 <= abs(change) <= MAX_RECEIVED:
        raise InvalidQuantity(f"expected -{MAX_RECEIVED}..{MAX_RECEIVED} of {sku} and not 0, got {change}")
    if change < 0 and level.available + change < 0:
        raise BelowReserved(f"{level.on_hand} of {sku} on hand, {level.reserved} set aside, and {-change} to be taken")
    if change > 0:
        check_quantity(sku, level.on_hand + change, MAX_ON_HAND)


def clean_reason(text: str) -> str:
    """The reason as it is stored; raises InvalidReason."""
    try:
        return REASON.clean(text)
    except InvalidText as error:
        raise InvalidReason(str(error)) from None


def clean_description(field: str, rule: Text, text: str) -> str:
    """A text about a product or category as it is stored; raises InvalidProduct."""
    try:
        return rule.clean(text)
    except InvalidText as error:
        raise InvalidProduct(f"{field}: {error}") from None


def check_product(*, sku: str, name: str, price: int, currency: str) -> None:
    """Raises InvalidProduct, naming the field and what it may be. `price` is in minor units."""
    if SKU.fullmatch(sku) is None:
        raise InvalidProduct(f"a sku has up to 40 letters, digits, dots, dashes and underscores, got {sku!r}")
    clean_description("name", NAME, name)
    if type(price) is not int or not 1 <= price <= MAX_PRICE:
        raise InvalidProduct(f"a price has 1..{MAX_PRICE} minor units, got {price}")
    if CURRENCY.fullmatch(currency) is None:
        raise InvalidProduct(f"a currency is a code of three capital letters, got {currency!r}")
