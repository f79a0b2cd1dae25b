"""Who gets which stock: the rules of one order, and what a batch of orders comes to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventing.testing import Scenario
from inventory.commands import Command, ReleaseStock, ReserveStock, ShipStock
from inventory.domain import (
    Event,
    InvalidProduct,
    InvalidQuantity,
    Level,
    NotReserved,
    Reservation,
    Status,
    UnknownSku,
    allocate,
    check_product,
    decide,
    evolve,
    levels_after,
    merge_wanted,
)
from inventory.events import (
    MissingItem,
    ReservedItem,
    StockRefused,
    StockReleased,
    StockReserved,
    StockShipped,
)

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)


def items(**quantities: int) -> tuple[ReservedItem, ...]:
    return tuple(ReservedItem(sku=sku, quantity=quantity) for sku, quantity in quantities.items())


def reserve(order_id: int, **quantities: int) -> ReserveStock:
    return ReserveStock(order_id=order_id, items=items(**quantities), at=NOW)


def release(order_id: int) -> ReleaseStock:
    return ReleaseStock(order_id=order_id, at=NOW)


def ship(order_id: int) -> ShipStock:
    return ShipStock(order_id=order_id, at=NOW)


def reserved(**quantities: int) -> StockReserved:
    return StockReserved(items=items(**quantities), at=NOW)


def shipped(**quantities: int) -> StockShipped:
    return StockShipped(items=items(**quantities), at=NOW)


def released(**quantities: int) -> StockReleased:
    return StockReleased(items=items(**quantities), at=NOW)


def refused(sku: str, *, wanted: int, available: int) -> StockRefused:
    return StockRefused(missing=(MissingItem(sku=sku, wanted=wanted, available=available),), at=NOW)


# --- One order: given what has happened to it, when it asks, then … ---------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """What an order finds: its reservation, and the stock of everything."""

    stock: Mapping[str, Level]
    reservation: Reservation = field(default_factory=Reservation)

    def decide(self, command: Command) -> list[Event]:
        event = decide(self.reservation, command, self.stock)
        return [] if event is None else [event]

    def evolve(self, event: Event) -> Shelf:
        stock = {**self.stock, **levels_after(self.stock, event)}
        return Shelf(stock=stock, reservation=evolve(self.reservation, event))


def order(**on_hand: int) -> Scenario[Shelf, Command]:
    """An order that nobody has heard of, and what is there of each product."""
    stock = {sku: Level(on_hand=pieces) for sku, pieces in on_hand.items()}
    return Scenario(Shelf.decide, Shelf.evolve, Shelf(stock=stock))


def test_order_gets_what_is_there() -> None:
    shelf = order(mug=2, pen=5).when(reserve(1, mug=2, pen=1)).then(reserved(mug=2, pen=1))

    assert shelf.stock == {"mug": Level(on_hand=2, reserved=2), "pen": Level(on_hand=5, reserved=1)}
    assert shelf.reservation == Reservation(status=Status.RESERVED, items=items(mug=2, pen=1))


def test_order_gets_all_items_or_none_and_the_short_ones_are_named() -> None:
    shelf = order(mug=1, pen=5).when(reserve(1, pen=1, mug=2)).then(refused("mug", wanted=2, available=1))

    assert shelf.stock == {"mug": Level(on_hand=1), "pen": Level(on_hand=5)}
    assert shelf.reservation == Reservation(status=Status.REFUSED)


def test_product_that_is_not_there_has_nothing_available() -> None:
    order().when(reserve(1, ghost=1)).then(refused("ghost", wanted=1, available=0))


def test_product_mentioned_twice_counts_together() -> None:
    twice = ReserveStock(order_id=1, items=items(mug=2) + items(mug=1), at=NOW)

    order(mug=3).when(twice).then(reserved(mug=3))
    order(mug=2).when(twice).then(refused("mug", wanted=3, available=2))


def test_shipping_takes_from_on_hand_and_from_reserved() -> None:
    shelf = order(mug=5).given(reserved(mug=2)).when(ship(1)).then(shipped(mug=2))

    assert shelf.stock == {"mug": Level(on_hand=3)}
    assert shelf.reservation.status is Status.SHIPPED


def test_what_is_released_is_available_again() -> None:
    shelf = order(mug=5).given(reserved(mug=2)).when(release(1)).then(released(mug=2))

    assert shelf.stock == {"mug": Level(on_hand=5)}


HISTORIES: dict[Status, tuple[Event, ...]] = {
    Status.RESERVED: (reserved(mug=2),),
    Status.REFUSED: (refused("mug", wanted=9, available=5),),
    Status.RELEASED: (reserved(mug=2), released(mug=2)),
    Status.SHIPPED: (reserved(mug=2), shipped(mug=2)),
}


@pytest.mark.parametrize("status", HISTORIES)
def test_placement_heard_of_before_does_nothing(status: Status) -> None:
    order(mug=5).given(*HISTORIES[status]).when(reserve(1, mug=2)).then()


@pytest.mark.parametrize("status", [status for status in HISTORIES if status is not Status.RESERVED])
def test_release_of_what_is_not_reserved_does_nothing(status: Status) -> None:
    order(mug=5).given(*HISTORIES[status]).when(release(1)).then()


def test_order_is_shipped_once() -> None:
    order(mug=5).given(reserved(mug=1), shipped(mug=1)).when(ship(1)).then()


@pytest.mark.parametrize("status", [None, Status.REFUSED, Status.RELEASED])
def test_what_is_not_reserved_cannot_be_shipped(status: Status | None) -> None:
    history = HISTORIES[status] if status else ()

    error = order(mug=5).given(*history).when(ship(1)).refused(NotReserved)

    assert str(error) == (
        "Nothing is set aside for the order, so nothing can be shipped:"
        f" its reservation is {status.value if status else 'unknown'}."
    )
    assert isinstance(error, NotReserved)
    assert error.code == "not_reserved"


# --- A batch of orders ------------------------------------------------------------------------------------------------


def test_earlier_order_comes_first_and_a_refused_one_leaves_the_rest_to_later_ones() -> None:
    result = allocate([reserve(1, mug=3), reserve(2, mug=4), reserve(3, mug=2)], {}, {"mug": Level(on_hand=5)})

    assert [type(event) for event in result.events] == [StockReserved, StockRefused, StockReserved]
    assert result.events[1] == refused("mug", wanted=4, available=2)
    assert result.stock == {"mug": Level(on_hand=5, reserved=5)}


def test_what_is_released_in_a_batch_serves_the_orders_after_it() -> None:
    known = {1: Reservation(status=Status.RESERVED, items=items(mug=5))}
    stock = {"mug": Level(on_hand=5, reserved=5)}

    result = allocate([reserve(2, mug=1), release(1), reserve(3, mug=5)], known, stock)

    assert [type(event) for event in result.events] == [StockRefused, StockReleased, StockReserved]
    assert result.stock == stock


def test_order_that_ended_before_it_was_heard_of_leaves_a_tombstone() -> None:
    stock = {"mug": Level(on_hand=5)}

    result = allocate([release(1), reserve(1, mug=2)], {}, stock)

    assert result.events == (None, None)
    assert result.stock == stock
    assert result.reservations == {1: Reservation(status=Status.VOID)}


def test_tombstone_is_neither_filled_nor_released_nor_shipped() -> None:
    known = {1: Reservation(status=Status.VOID)}
    stock = {"mug": Level(on_hand=5)}

    result = allocate([reserve(1, mug=2), release(1)], known, stock)

    assert (result.events, result.stock, result.reservations) == ((None, None), stock, known)
    with pytest.raises(NotReserved, match="its reservation is void"):
        allocate([ship(1)], known, stock)


SKUS = ("mug", "pen", "cup")
quantities = st.dictionaries(st.sampled_from(SKUS), st.integers(1, 5), min_size=1)
commands = st.lists(
    st.one_of(
        st.builds(lambda order_id, wanted: reserve(order_id, **wanted), st.integers(1, 6), quantities),
        st.builds(release, st.integers(1, 6)),
    ),
    max_size=30,
)
stocks = st.fixed_dictionaries({sku: st.builds(Level, on_hand=st.integers(0, 12)) for sku in SKUS})


@given(commands=commands, stock=stocks)
def test_whatever_comes_nothing_is_oversold_and_every_reserved_piece_has_its_order(
    commands: list[Command], stock: dict[str, Level]
) -> None:
    result = allocate(commands, {}, stock)

    for sku, level in result.stock.items():
        held = sum(
            item.quantity
            for reservation in result.reservations.values()
            if reservation.status is Status.RESERVED
            for item in reservation.items
            if item.sku == sku
        )
        assert level.on_hand == stock[sku].on_hand
        assert level.reserved == held
        assert level.available >= 0


@given(commands=commands, stock=stocks)
def test_order_is_refused_only_if_what_is_left_is_too_little(commands: list[Command], stock: dict[str, Level]) -> None:
    for count, command in enumerate(commands):
        before = allocate(commands[:count], {}, stock)
        event = allocate(commands[: count + 1], {}, stock).events[-1]
        if isinstance(command, ReserveStock) and command.order_id not in before.reservations:
            short = {
                item.sku: before.stock[item.sku].available
                for item in command.items
                if before.stock[item.sku].available < item.quantity
            }
            if isinstance(event, StockRefused):
                assert {item.sku: item.available for item in event.missing} == short != {}
            else:
                assert isinstance(event, StockReserved)
                assert short == {}


@given(commands=commands, stock=stocks, cut=st.integers(0, 30))
def test_batches_make_no_difference(commands: list[Command], stock: dict[str, Level], cut: int) -> None:
    first = allocate(commands[:cut], {}, stock)
    second = allocate(commands[cut:], first.reservations, first.stock)
    whole = allocate(commands, {}, stock)

    assert first.events + second.events == whole.events
    assert (second.reservations, second.stock) == (whole.reservations, whole.stock)


@given(commands=commands, stock=stocks)
def test_batch_delivered_again_changes_nothing(commands: list[Command], stock: dict[str, Level]) -> None:
    # An order's end comes once and after its placement is decided on, so what is left open is not ended again.
    placements = [command for command in commands if isinstance(command, ReserveStock)]
    first = allocate(placements, {}, stock)
    again = allocate(placements, first.reservations, first.stock)

    assert set(again.events) <= {None}
    assert (again.reservations, again.stock) == (first.reservations, first.stock)


def test_wanted_quantities_of_one_product_add_up() -> None:
    assert merge_wanted([("mug", 2), ("pen", 1), ("mug", 3)]) == {"mug": 5, "pen": 1}


@pytest.mark.parametrize("quantity", [0, -1, 1000, 1.5, True, "2", None])
def test_quantity_is_a_whole_number_from_1_to_999(quantity: object) -> None:
    with pytest.raises(InvalidQuantity) as refused:
        merge_wanted([("mug", quantity)])  # type: ignore[list-item]

    assert refused.value.code == "invalid_quantity"
    assert str(refused.value) == (
        f"A quantity must be a whole number within limits: expected 1..999 of mug, got {quantity}."
    )


def test_merged_quantity_is_limited_too() -> None:
    with pytest.raises(InvalidQuantity, match=r"expected 1\.\.999 of mug, got 1000"):
        merge_wanted([("mug", 999), ("mug", 1)])


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"sku": ""}, "a sku has up to 40"),
        ({"sku": "a b"}, "a sku has up to 40"),
        ({"sku": "x" * 41}, "a sku has up to 40"),
        ({"sku": "mug\n"}, "a sku has up to 40"),
        ({"name": " "}, "name: expected 1..200 characters, got 0"),
        ({"name": "n" * 201}, "name: expected 1..200 characters, got 201"),
        ({"price": 0}, "a price has 1..1000000000000 minor units, got 0"),
        ({"price": 1.5}, "a price has"),
        ({"currency": "eur"}, "a currency is a code of three capital letters, got 'eur'"),
    ],
)
def test_product_that_makes_no_sense_is_refused(wrong: dict[str, Any], message: str) -> None:
    product: dict[str, Any] = {"sku": "mug", "name": "Mug", "price": 100, "currency": "EUR"}

    with pytest.raises(InvalidProduct, match=message):
        check_product(**product | wrong)


def test_unknown_products_are_named() -> None:
    error = UnknownSku("ghost", "wraith")

    assert (error.skus, error.code) == (("ghost", "wraith"), "unknown_sku")
    assert str(error) == "There is no such product: ghost, wraith."
