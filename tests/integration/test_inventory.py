"""Stock, reservations and the catalogue, whatever comes first, how often, and how many workers there are."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from django.core.cache import cache
from django.db import IntegrityError, connections, transaction
from django.db.models import F, ProtectedError, Sum
from django.test.utils import CaptureQueriesContext

from eventing import store, subscribers
from eventing.models import DeadLetter, OutboxMessage
from eventing.models import Event as StoredEvent
from eventing.recorded import Metadata, NewEvents, Recorded
from eventing.testing import deliver_shuffled, drain
from inventory import handlers, selectors
from inventory.commands import Command, ReleaseStock, ReserveStock, ShipStock
from inventory.domain import (
    DuplicateSku,
    InvalidProduct,
    InvalidQuantity,
    MixedCurrencies,
    NotOnSale,
    NotReserved,
    UnknownCategory,
    UnknownSku,
)
from inventory.events import (
    PRODUCT,
    RESERVATION,
    MissingItem,
    ReservedItem,
    StockReceived,
    StockRefused,
    StockReleased,
    StockReserved,
    StockShipped,
)
from inventory.models import Product, Reservation, ReservationLine, Stock, StockMovement
from inventory.selectors import CategoryView, InvalidPosition, PricedLine, Sort
from inventory.subscribers import follow_orders
from orders.events import CATEGORY as ORDER
from orders.events import (
    CancelReason,
    Line,
    OrderCancelled,
    OrderPlaced,
    OrderRefunded,
    OrderRejected,
    OrderShipped,
    RejectReason,
)
from sharding.router import database_of
from tests.factories import ProductFactory
from tests.integration.parallel import at_once
from tests.integration.statements import counted

pytestmark = pytest.mark.django_db(databases="__all__")
on_several_connections = pytest.mark.django_db(databases=[database_of("inventory")], transaction=True)

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
METADATA = Metadata(correlation_id="test")
CANCELLED = OrderCancelled(customer_id=7, reason=CancelReason.CUSTOMER, at=NOW)
REJECTED = OrderRejected(customer_id=7, reason=RejectReason.COUPON_REFUSED, short=(), detail="", at=NOW)
REFUNDED = OrderRefunded(customer_id=7, payment_id="p", amount=100, currency="EUR", at=NOW)
SHIPPED = OrderShipped(customer_id=7, tracking="", at=NOW)


@pytest.fixture(autouse=True)
def empty_cache() -> None:
    cache.clear()


def add(sku: str, pieces: int = 0, *, price: int = 100, **details: Any) -> None:
    ProductFactory.create(**{"sku": sku, "name": sku.title(), "price": price, "pieces": pieces} | details)


def items(**quantities: int) -> tuple[ReservedItem, ...]:
    return tuple(ReservedItem(sku=sku, quantity=quantity) for sku, quantity in quantities.items())


def placed(**quantities: int) -> OrderPlaced:
    return OrderPlaced(
        customer_id=7,
        currency="EUR",
        lines=tuple(Line(sku=sku, name=sku, quantity=quantity, unit_price=100) for sku, quantity in quantities.items()),
        coupon_code=None,
        discount=0,
        payment_due_at=NOW,
        at=NOW,
    )


def happens(*news: tuple[int, Any]) -> list[Recorded[Any]]:
    """Orders have news, which nobody has delivered yet."""
    versions: dict[int, int] = {}
    writes = []
    for order_id, event in news:
        version = versions.get(order_id, len(store.load(ORDER, order_id, using="default")))
        versions[order_id] = version + 1
        writes.append(NewEvents(stream_id=order_id, expected_version=version, events=[event], metadata=METADATA))
    with transaction.atomic(using="default"):
        return store.append(ORDER, writes, using="default")


def others() -> set[str]:
    """All subscribers but the one under test."""
    return {subscriber.name for subscriber in subscribers.all_subscribers()} - {"inventory"}


def settle() -> None:
    drain(skip=others())


def run(*commands: Command) -> None:
    with transaction.atomic(using=database_of("inventory")):
        handlers.handle_batch([(command, METADATA) for command in commands])


def run_each(batches: Iterable[Sequence[Command]]) -> None:
    for batch in batches:
        run(*batch)


def reserve(order_id: int, **quantities: int) -> ReserveStock:
    return ReserveStock(order_id=order_id, items=items(**quantities), at=NOW)


def release(order_id: int) -> ReleaseStock:
    return ReleaseStock(order_id=order_id, at=NOW)


def ship(order_id: int) -> ShipStock:
    return ShipStock(order_id=order_id, at=NOW)


def level(sku: str) -> tuple[int, int, int]:
    """(on hand, reserved, available)"""
    return Stock.objects.values_list("on_hand", "reserved", "available").get(product__sku=sku)


def stream(order_id: int) -> list[Any]:
    return [recorded.event for recorded in store.load(RESERVATION, order_id, using=database_of("inventory"))]


def happened(order_id: int) -> list[type]:
    return [type(event) for event in stream(order_id)]


def status(order_id: int) -> str:
    return Reservation.objects.get(pk=order_id).status


def snapshot() -> dict[str, list[Any]]:
    """Everything that inventory has written, as far as it must not depend on what comes first."""
    events = StoredEvent.objects.using(database_of("inventory")).filter(category__in=[RESERVATION, PRODUCT])
    return {
        "stock": list(Stock.objects.order_by("pk").values()),
        "reservations": list(Reservation.objects.order_by("pk").values_list("pk", "status", "version")),
        "lines": sorted(ReservationLine.objects.values_list("reservation_id", "sku", "quantity")),
        "movements": sorted(StockMovement.objects.values_list("sku", "kind", "quantity", "reason")),
        "events": sorted(events.values_list("stream_id", "category", "version", "type")),
    }


def assert_books_balance() -> None:
    """What the audit would say: received - shipped = on hand, and every reserved piece has its order."""
    for stock in Stock.objects.all():
        moved = dict(
            StockMovement.objects.filter(sku=stock.pk).values_list("kind").annotate(total=Sum("quantity")).order_by()
        )
        assert stock.on_hand == moved.get("received", 0) - moved.get("shipped", 0)
        held = ReservationLine.objects.filter(sku=stock.pk, reservation__status="reserved")
        assert stock.reserved == (held.aggregate(total=Sum("quantity"))["total"] or 0)
    streams: dict[int, int] = {}
    events = StoredEvent.objects.using(database_of("inventory")).filter(category=RESERVATION)
    for order_id in events.values_list("stream_id", flat=True):
        streams[order_id] = streams.get(order_id, 0) + 1
    assert streams == dict(Reservation.objects.exclude(version=0).values_list("order_id", "version"))


# --- An order's way --------------------------------------------------------------------------------------------------


def test_placed_order_has_its_stock_reserved() -> None:
    add("mug", 5)
    (order,) = happens((1, placed(mug=2)))

    settle()

    (reserved,) = store.load(RESERVATION, 1, using=database_of("inventory"))
    assert reserved.event == StockReserved(items=items(mug=2), at=reserved.event.at)
    assert reserved.metadata == Metadata(correlation_id="test", causation_id=order.id, actor="inventory")
    assert level("mug") == (5, 2, 3)
    assert (status(1), ReservationLine.objects.values_list("reservation_id", "sku", "quantity").get()) == (
        "reserved",
        (1, "mug", 2),
    )
    assert_books_balance()


def test_order_that_cannot_be_had_in_full_is_refused_and_takes_nothing() -> None:
    add("mug", 1)
    add("pen", 9)
    happens((1, placed(pen=1, mug=2, ghost=3)))

    settle()

    (refused,) = stream(1)
    missing = (MissingItem(sku="mug", wanted=2, available=1), MissingItem(sku="ghost", wanted=3, available=0))
    assert refused == StockRefused(missing=missing, at=refused.at)
    assert (status(1), level("mug"), level("pen")) == ("refused", (1, 0, 1), (9, 0, 9))
    assert not ReservationLine.objects.exists()


@pytest.mark.parametrize("end", [CANCELLED, REJECTED, REFUNDED])
def test_order_that_comes_to_nothing_gives_its_stock_back(end: Any) -> None:
    add("mug", 5)
    happens((1, placed(mug=2)))
    settle()
    happens((1, end))

    settle()

    _, released = stream(1)
    assert released == StockReleased(items=items(mug=2), at=released.at)
    assert (status(1), level("mug")) == ("released", (5, 0, 5))
    assert_books_balance()


def test_shipped_order_leaves_the_building_and_stands_in_the_ledger() -> None:
    add("mug", 5)
    happens((1, placed(mug=2)))
    settle()
    happens((1, SHIPPED))

    settle()

    _, shipped = stream(1)
    assert shipped == StockShipped(items=items(mug=2), at=shipped.at)
    assert (status(1), level("mug")) == ("shipped", (3, 0, 3))
    movement = StockMovement.objects.get(kind="shipped")
    assert (movement.sku, movement.quantity, movement.order_id, movement.at) == ("mug", 2, 1, shipped.at)
    assert_books_balance()


def test_cancellation_that_overtakes_its_placement_leaves_a_tombstone() -> None:
    add("mug", 5)
    run(release(1))
    assert status(1) == "void"

    run(reserve(1, mug=2))

    assert (status(1), stream(1), level("mug")) == ("void", [], (5, 0, 5))
    assert not OutboxMessage.objects.using(database_of("inventory")).filter(category=RESERVATION).exists()
    assert_books_balance()


def test_refused_order_that_is_rejected_has_nothing_to_give_back() -> None:
    add("mug", 1)
    run(reserve(1, mug=2))
    run(release(1))

    assert (status(1), happened(1), level("mug")) == ("refused", [StockRefused], (1, 0, 1))


@pytest.mark.parametrize("before", [(), (release(1),), (reserve(1, mug=9),), (reserve(1, mug=1), release(1))])
def test_shipping_what_is_not_reserved_is_an_error_and_writes_nothing(before: tuple[Command, ...]) -> None:
    add("mug", 5)
    for command in before:
        run(command)
    written = snapshot()

    with pytest.raises(NotReserved):
        run(ship(1))

    assert snapshot() == written


def test_shipment_that_makes_no_sense_is_a_dead_letter_and_holds_nobody_up() -> None:
    add("mug", 5)
    happens((1, placed(mug=2)), (2, SHIPPED))

    settle()

    assert DeadLetter.objects.values_list("stream_id", "subscriber", "error").get()[:2] == (2, "inventory")
    assert status(1) == "reserved"
    assert not Reservation.objects.filter(pk=2).exists()


def test_mixed_news_of_one_batch_is_taken_in_its_order() -> None:
    add("mug", 3)
    run(reserve(1, mug=3))

    run(reserve(2, mug=1), release(1), reserve(3, mug=2), ship(3), reserve(4, mug=1), release(4), reserve(4, mug=1))

    assert {order_id: status(order_id) for order_id in range(1, 5)} == {
        1: "released",
        2: "refused",
        3: "shipped",
        4: "released",
    }
    assert happened(3) == [StockReserved, StockShipped]
    assert level("mug") == (1, 0, 1)
    assert_books_balance()


# --- Again and again -------------------------------------------------------------------------------------------------

A_LIFE: list[list[Command]] = [
    [reserve(1, mug=2, pen=1), reserve(2, mug=1), reserve(3, mug=9), reserve(4, pen=1)],
    [release(2), release(3), ship(1)],
]


def test_commands_that_come_again_change_nothing() -> None:
    add("mug", 5)
    add("pen", 5)
    for batch in A_LIFE:
        run(*batch)
    written = snapshot()

    for batch in A_LIFE:
        run(*batch)
    for batch in A_LIFE:
        for command in batch:
            run(command)

    assert snapshot() == written
    assert level("mug") == (3, 0, 3)
    assert_books_balance()


@pytest.mark.parametrize("seed", range(5))
def test_everything_delivered_twice_and_shuffled_ends_the_same(seed: int) -> None:
    add("mug", 100)
    add("pen", 100)
    rng = random.Random(seed)
    happens(*((order_id, placed(mug=order_id, pen=1)) for order_id in range(1, 9)))
    deliver_shuffled(rng, skip=others())
    happens((1, SHIPPED), (2, CANCELLED), (3, REJECTED), (4, REFUNDED))
    happens(*((order_id, event) for order_id in (11, 12, 13) for event in (placed(mug=1), CANCELLED)))
    deliver_shuffled(rng, skip=others())

    assert {order_id: status(order_id) for order_id in range(1, 9)} == {
        1: "shipped",
        2: "released",
        3: "released",
        4: "released",
        5: "reserved",
        6: "reserved",
        7: "reserved",
        8: "reserved",
    }
    assert {status(order_id) for order_id in (11, 12, 13)} <= {"released", "void"}
    assert (level("mug"), level("pen")) == ((99, 26, 73), (99, 4, 95))
    assert not DeadLetter.objects.exists()
    assert_books_balance()


# --- A batch is a fixed number of statements -------------------------------------------------------------------------


def statements(action: Callable[[], object]) -> int:
    with CaptureQueriesContext(connections[database_of("inventory")]) as captured:
        action()
    return len(captured)


@pytest.mark.parametrize("orders", [1, 100])
def test_batch_takes_as_many_statements_as_a_single_order(orders: int) -> None:
    add("mug", 1000)

    def taken_by(make: Callable[[int], Command], order_ids: Iterable[int]) -> int:
        commands = [(make(order_id), METADATA) for order_id in order_ids]
        return statements(lambda: handlers.handle_batch(commands))

    def reserve_one(order_id: int) -> Command:
        return reserve(order_id, mug=1)

    placed, shipped, ended_early, too_many = (range(n, n + orders) for n in (1, 1001, 2001, 3001))
    assert taken_by(reserve_one, placed) == counted(5, 7)
    assert taken_by(reserve_one, placed) == 2
    assert taken_by(release, placed) == counted(8, 9)
    assert taken_by(release, ended_early) == 1
    assert taken_by(reserve_one, ended_early) == 2
    assert taken_by(reserve_one, shipped) == counted(5, 7)
    assert taken_by(ship, shipped) == counted(7, 9)
    assert taken_by(lambda order_id: reserve(order_id, mug=10_000), too_many) == counted(4, 5)


def test_news_of_orders_reaches_the_handler_as_one_batch() -> None:
    add("mug", 1000)
    batch = happens(*((order_id, placed(mug=1)) for order_id in range(1, 101)))

    assert statements(lambda: follow_orders(batch)) == counted(5, 7)
    assert level("mug") == (1000, 100, 900)


# --- What the database refuses ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"reserved": 11, "available": -1},
        {"on_hand": -1, "available": -1},
        {"reserved": -1, "available": 11},
        {"available": 9},
        {"on_hand": 9},
        {"reserved": F("reserved") + 1},
    ],
)
def test_database_refuses_levels_that_cannot_be(change: dict[str, Any]) -> None:
    add("mug", 10)

    with pytest.raises(IntegrityError), transaction.atomic(using=database_of("inventory")):
        Stock.objects.filter(product__sku="mug").update(**change)

    assert level("mug") == (10, 0, 10)


def test_database_refuses_what_a_handler_that_reads_wrongly_would_oversell(monkeypatch: pytest.MonkeyPatch) -> None:
    add("mug", 1)
    locked = handlers._lock_stock

    def dream(skus: Iterable[str], using: str) -> Any:
        return {sku: type(level)(on_hand=level.on_hand + 5) for sku, level in locked(skus, using).items()}

    monkeypatch.setattr(handlers, "_lock_stock", dream)
    with pytest.raises(IntegrityError):
        run(reserve(1, mug=2))

    assert (level("mug"), stream(1), Reservation.objects.count()) == ((1, 0, 1), [], 0)


def test_database_refuses_other_impossible_rows() -> None:
    add("mug", 10)
    run(reserve(1, mug=1))
    run(ship(1))
    reservation = {"version": 1, "created_at": NOW, "updated_at": NOW}
    shipped = {"sku": "mug", "quantity": 1, "reason": "", "at": NOW}
    impossible: list[Callable[[], object]] = [
        lambda: Product.objects.filter(sku="mug").update(price=0),
        lambda: Product.objects.filter(sku="mug").update(name=""),
        lambda: Reservation.objects.create(order_id=-1, status="reserved", **reservation),
        lambda: Reservation.objects.create(order_id=2, status="dreamt", **reservation),
        lambda: Reservation.objects.create(order_id=2, status="void", **reservation),
        lambda: Reservation.objects.filter(pk=1).update(version=0),
        lambda: ReservationLine.objects.create(reservation_id=1, sku="pen", quantity=0),
        lambda: ReservationLine.objects.create(reservation_id=1, sku="mug", quantity=1),
        lambda: StockMovement.objects.create(kind="shipped", order_id=None, **shipped),
        lambda: StockMovement.objects.create(kind="received", order_id=2, **shipped),
        lambda: StockMovement.objects.create(kind="shipped", order_id=1, **shipped),
        lambda: StockMovement.objects.create(kind="shipped", order_id=2, **(shipped | {"quantity": 0})),
    ]
    written = snapshot()
    for act in impossible:
        with pytest.raises(IntegrityError), transaction.atomic(using=database_of("inventory")):
            act()
    assert snapshot() == written
    with pytest.raises(ProtectedError):
        Product.objects.get(sku="mug").delete()


# --- Many workers at once --------------------------------------------------------------------------------------------


@on_several_connections
def test_workers_with_batches_for_one_hot_product_reserve_exactly_what_there_is() -> None:
    add("mug", 100)
    batches = [[reserve(worker * 100 + n, mug=1) for n in range(25)] for worker in range(1, 9)]

    errors = at_once([partial(run, *batch) for batch in batches], using=database_of("inventory"))

    assert errors == []
    assert level("mug") == (100, 100, 0)
    assert sorted(Reservation.objects.values_list("status", flat=True)) == ["refused"] * 100 + ["reserved"] * 100
    assert_books_balance()


@on_several_connections
def test_workers_with_mixed_news_of_the_same_orders_and_products_do_not_stand_in_each_others_way() -> None:
    skus = ("mug", "pen", "cup", "pot")
    for sku in skus:
        add(sku, 1000)
    rng = random.Random(1)
    run(*(reserve(order_id, **dict.fromkeys(skus, 1)) for order_id in range(1, 41)))

    def news() -> list[list[Command]]:
        commands: list[Command] = [ship(order_id) for order_id in range(1, 21)]
        commands += [release(order_id) for order_id in range(21, 61)]
        commands += [reserve(order_id, **dict.fromkeys(rng.sample(skus, 2), 1)) for order_id in range(41, 101)]
        rng.shuffle(commands)
        return [commands[start : start + 15] for start in range(0, len(commands), 15)]

    # Every worker has all the news, cut into batches of its own: whatever can wait for each other, will.
    errors = at_once([partial(run_each, news()) for _ in range(8)], using=database_of("inventory"))

    assert errors == []
    assert {status(order_id) for order_id in range(1, 21)} == {"shipped"}
    assert {status(order_id) for order_id in range(21, 41)} == {"released"}
    assert {status(order_id) for order_id in range(41, 61)} <= {"released", "void"}
    assert {status(order_id) for order_id in range(61, 101)} == {"reserved"}
    assert_books_balance()


@on_several_connections
def test_workers_whose_orders_name_the_products_in_different_order_do_not_stand_in_each_others_way() -> None:
    skus = [f"mug-{n}" for n in range(20)]
    for sku in skus:
        add(sku, 1000)
    rng = random.Random(1)

    def work(worker: int) -> list[list[Command]]:
        orders = range(worker * 100, worker * 100 + 25)
        return [[reserve(order_id, **dict.fromkeys(rng.sample(skus, 10), 1))] for order_id in orders]

    errors = at_once([partial(run_each, work(worker)) for worker in range(8)], using=database_of("inventory"))

    assert errors == []
    assert Reservation.objects.filter(status="reserved").count() == 200
    assert_books_balance()


@on_several_connections
def test_placement_that_races_its_cancellation_holds_nothing_in_the_end() -> None:
    add("mug", 100)
    order_ids = range(1, 21)

    errors = at_once(
        [
            action
            for order_id in order_ids
            for action in (
                partial(run, reserve(order_id, mug=1)),
                partial(run, release(order_id)),
            )
        ],
        using=database_of("inventory"),
    )

    assert errors == []
    for order_id in order_ids:
        assert (status(order_id), happened(order_id)) in [
            ("void", []),
            ("released", [StockReserved, StockReleased]),
        ]
    assert level("mug") == (100, 0, 100)
    assert_books_balance()


@on_several_connections
def test_deliveries_to_a_product_while_it_is_sold_are_all_counted() -> None:
    add("mug", 50)

    errors = at_once(
        [
            action
            for n in range(1, 11)
            for action in (
                partial(run, reserve(n, mug=5)),
                partial(handlers.receive_stock, "mug", n, "delivery", NOW, METADATA),
            )
        ],
        using=database_of("inventory"),
    )

    assert errors == []
    assert level("mug") == (105, 50, 55)
    assert Stock.objects.get(product__sku="mug").version == 11
    assert_books_balance()


# --- Products and deliveries -----------------------------------------------------------------------------------------


def test_received_stock_is_on_the_shelf_in_the_ledger_and_in_the_products_stream() -> None:
    add("mug")
    handlers.receive_stock("mug", 5, "first delivery", NOW, METADATA)
    handlers.receive_stock("mug", 2, "second delivery", NOW, METADATA)

    assert level("mug") == (7, 0, 7)
    recorded = store.load(PRODUCT, Product.objects.get(sku="mug").pk, using=database_of("inventory"))
    assert [(item.version, item.event) for item in recorded] == [
        (1, StockReceived(sku="mug", quantity=5, reason="first delivery", at=NOW)),
        (2, StockReceived(sku="mug", quantity=2, reason="second delivery", at=NOW)),
    ]
    assert StockMovement.objects.count() == 2
    assert_books_balance()


@pytest.mark.parametrize("quantity", [0, -1, 1.5, True, 1_000_001])
def test_quantity_that_cannot_be_received_is_refused_and_nothing_is_written(quantity: Any) -> None:
    add("mug", 5)
    written = snapshot()

    with pytest.raises(InvalidQuantity, match=r"expected 1\.\.1000000 of mug"):
        handlers.receive_stock("mug", quantity, "delivery", NOW, METADATA)

    assert snapshot() == written


def test_shelf_has_an_end() -> None:
    add("mug", 5)
    Stock.objects.update(on_hand=2**31 - 1, available=2**31 - 1)

    with pytest.raises(InvalidQuantity, match=r"expected 1\.\.2147483647 of mug, got 2147483648"):
        handlers.receive_stock("mug", 1, "delivery", NOW, METADATA)


def test_stock_of_an_unknown_product_cannot_be_received() -> None:
    with pytest.raises(UnknownSku, match="There is no such product: ghost"):
        handlers.receive_stock("ghost", 1, "delivery", NOW, METADATA)

    assert not StockMovement.objects.exists()


def test_product_is_added_once_with_an_empty_stock() -> None:
    add("mug", price=250)
    assert level("mug") == (0, 0, 0)

    with pytest.raises(DuplicateSku, match="mug"):
        add("mug", price=300)
    with pytest.raises(UnknownCategory, match="nowhere"):
        handlers.add_product(sku="pen", name="Pen", category="nowhere", price=1, currency="EUR")
    with pytest.raises(InvalidProduct):
        add("p n")

    assert Product.objects.values_list("sku", "price").get() == ("mug", 250)


def test_category_added_again_is_renamed() -> None:
    handlers.add_category(slug="things", name="Things", position=2)
    handlers.add_category(slug="others", name="Others", position=1)
    handlers.add_category(slug="things", name="Nice things", position=0)

    assert selectors.categories() == [
        CategoryView(slug="things", name="Nice things"),
        CategoryView(slug="others", name="Others"),
    ]


# --- Reading ---------------------------------------------------------------------------------------------------------


def skus_of(page: selectors.CataloguePage) -> list[str]:
    return [view.sku for view in page.items]


def all_pages(**arguments: Any) -> list[str]:
    page = selectors.catalogue(limit=2, **arguments)
    skus = skus_of(page)
    while page.next is not None:
        page = selectors.catalogue(limit=2, after=page.next, **arguments)
        assert page.items
        skus += skus_of(page)
    return skus


def test_catalogue_is_paged_without_gaps_or_repeats_in_any_order() -> None:
    for sku, name, price in [("e", "A", 5), ("d", "B", 5), ("c", "B", 3), ("b", "B", 9), ("a", "C", 1)]:
        add(sku, name=name, price=price)
    add("retired", name="A", active=False)

    assert all_pages() == ["e", "b", "c", "d", "a"]
    assert all_pages(sort=Sort.CHEAPEST) == ["a", "c", "d", "e", "b"]
    assert all_pages(sort=Sort.DEAREST) == ["b", "d", "e", "c", "a"]


def test_catalogue_can_be_narrowed_by_category_and_by_words() -> None:
    add("mug", name="Blue mug", category="kitchen")
    add("pot", name="Pot", description="As blue as it gets", category="kitchen")
    add("pen", name="Blue pen", category="desk")

    assert all_pages(category="kitchen") == ["mug", "pot"]
    assert all_pages(query="  BLUE ") == ["mug", "pen", "pot"]
    assert all_pages(query="blue", category="desk") == ["pen"]
    assert all_pages(query="pe") == ["pen"]
    assert all_pages(query="100%") == all_pages(query="_") == all_pages(category="nowhere") == []


@pytest.mark.parametrize("text", ["\x00", "mug\x00", "\ud800", "\x1b[31m"])
def test_text_that_no_product_has_finds_nothing_and_hurts_nobody(text: str) -> None:
    add("mug", 1)

    assert selectors.catalogue(query=text).items == ()
    assert selectors.catalogue(category=text).items == ()
    assert selectors.product(text) is None
    assert selectors.availability([text]) == {text: 0}
    with pytest.raises(UnknownSku):
        selectors.price_lines([(text, 1)])


@pytest.mark.parametrize("sort", Sort)
@pytest.mark.parametrize("after", [(None, "mug"), (1.5, "mug"), ("\x00", "mug"), (True, "mug"), (5, ""), ("a", "\x00")])
def test_position_that_no_page_has_given_is_refused(sort: Sort, after: Any) -> None:
    with pytest.raises(InvalidPosition):
        selectors.catalogue(sort=sort, after=after)


def test_position_of_another_order_is_refused() -> None:
    with pytest.raises(InvalidPosition):
        selectors.catalogue(sort=Sort.NAME, after=(5, "mug"))
    with pytest.raises(InvalidPosition):
        selectors.catalogue(sort=Sort.CHEAPEST, after=("Mug", "mug"))


def test_catalogue_may_be_a_little_old_but_a_product_page_is_not(settings: Any) -> None:
    settings.CATALOGUE_CACHE_SECONDS = 60
    add("mug", 5)
    assert [view.available for view in selectors.catalogue().items] == [5]
    run(reserve(1, mug=2))

    assert statements(selectors.catalogue) == 0
    assert [view.available for view in selectors.catalogue().items] == [5]
    view = selectors.product("mug")
    assert view is not None
    assert view.available == 3
    assert selectors.availability(["mug", "ghost"]) == {"mug": 3, "ghost": 0}


def test_catalogue_takes_one_query_for_any_number_of_products() -> None:
    for n in range(5):
        add(f"mug-{n}", 1)

    assert statements(selectors.catalogue) == 1
    assert statements(lambda: selectors.products_by_sku([f"mug-{n}" for n in range(5)])) == 1


def test_lines_are_priced_at_the_prices_of_the_moment_with_repeats_merged() -> None:
    add("mug", price=250)
    add("pen", price=100)
    Product.objects.filter(sku="mug").update(price=260)

    assert selectors.price_lines([("mug", 1), ("pen", 2), ("mug", 3)]) == [
        PricedLine(sku="mug", name="Mug", quantity=4, unit_price=260, currency="EUR"),
        PricedLine(sku="pen", name="Pen", quantity=2, unit_price=100, currency="EUR"),
    ]
    assert selectors.price_lines([]) == []


def test_lines_that_cannot_be_priced_are_refused() -> None:
    add("mug")
    add("old", active=False)
    add("dollar", currency="USD")

    with pytest.raises(UnknownSku) as unknown:
        selectors.price_lines([("mug", 1), ("ghost", 1), ("old", 1)])
    assert unknown.value.skus == ("ghost",)
    with pytest.raises(NotOnSale) as gone:
        selectors.price_lines([("mug", 1), ("old", 1)])
    assert gone.value.skus == ("old",)
    with pytest.raises(InvalidQuantity):
        selectors.price_lines([("mug", 0)])
    with pytest.raises(MixedCurrencies, match="EUR, USD"):
        selectors.price_lines([("mug", 1), ("dollar", 1)])


def test_product_that_is_no_longer_on_sale_can_still_be_seen() -> None:
    add("old", 5, active=False)

    view = selectors.product("old")
    assert view is not None
    assert (view.active, view.available) == (False, 5)
    assert selectors.catalogue().items == ()
