"""Commands against real databases: everything or nothing is written, once, whoever else writes at the same time."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.db import DatabaseError, IntegrityError, OperationalError, connections, transaction
from django.test.utils import CaptureQueriesContext

from coupons.events import CouponRedeemed
from eventing import store
from eventing.databases import Claim
from eventing.delivery import Delivery, Outcome
from eventing.delivery import deliver as deliver_batch
from eventing.errors import WrongExpectedVersion
from eventing.models import DeadLetter, InboxEntry, OutboxMessage
from eventing.recorded import Metadata, NewEvents, Recorded
from eventing.testing import Collector
from eventing.wire import Envelope, Message
from inventory.events import MissingItem, StockRefused, StockReserved
from orders import domain, handlers, projections, subscribers, tasks
from orders.commands import Command, ExtendDeadline, PlaceOrder
from orders.domain import (
    CannotCancelPaid,
    EmptyOrder,
    OrderClosed,
    OrderError,
    OrderNotFound,
    PaymentMismatch,
    Status,
)
from orders.events import CATEGORY, Check, OrderPlaced
from orders.handlers import IdempotencyInFlight, IdempotencyKey, IdempotencyMismatch, Placement
from orders.models import IdempotencyKey as KeyRow
from orders.models import Order, OrderLine
from payments.events import PaymentCaptured
from sharding import numbers, shards
from sharding.partitions import partition_name
from sharding.router import sharded_tables
from tests.factories import CUP, NOON, TEA, TERM, PlacementFactory
from tests.integration.order_samples import (
    NOTHING,
    TOTAL,
    WAYS,
    ask,
    cancel,
    confirm,
    deliver,
    metadata,
    order_in,
    pay,
    place,
    row,
    ship,
    stored,
)
from tests.integration.parallel import at_once
from tests.integration.statements import counted

pytestmark = pytest.mark.django_db(databases="__all__")
several_connections = pytest.mark.django_db(databases="__all__", transaction=True)

KEY = IdempotencyKey(key="k1", fingerprint="f1")
DUE = NOON + TERM


def on_postgresql() -> bool:
    return connections["default"].vendor == "postgresql"


def in_threads(*operations: Callable[[], Any]) -> list[Any]:
    """Run operations on orders of customer 7 at the same moment; returns results and errors in order."""
    results: list[Any] = [None] * len(operations)

    def run(number: int) -> None:
        try:
            results[number] = operations[number]()
        except (OrderError, DatabaseError, WrongExpectedVersion) as error:
            results[number] = error

    actions = [partial(run, number) for number in range(len(operations))]
    assert at_once(actions, using=shards.alias_of_bucket(7)) == []
    return results


# --- Placing ------------------------------------------------------------------------------------------------------


def test_placing_writes_event_outbox_rows_and_key() -> None:
    command = PlacementFactory.build(coupon_code="SPRING", discount=100)

    placed = handlers.place_order(command, metadata("c1"), idempotency=KEY)

    alias = shards.alias_of(command.order_id)
    event = OrderPlaced(
        customer_id=7,
        currency="EUR",
        lines=(TEA, CUP),
        coupon_code="SPRING",
        discount=100,
        payment_due_at=DUE,
        at=NOON,
    )
    assert placed == Placement(order_id=command.order_id, replayed=False, placed=event)
    [recorded] = store.load(CATEGORY, command.order_id, using=alias)
    asked = replace(metadata("c1"), request=handlers.digest_of(KEY.key, KEY.fingerprint))
    assert (recorded.version, recorded.event, recorded.metadata) == (1, event, asked)
    assert list(OutboxMessage.objects.using(alias).values_list("stream_id", "category", "version")) == [
        (command.order_id, "order", 1)
    ]
    assert row(command.order_id) == {
        "id": command.order_id,
        "customer_id": 7,
        "status": "placed",
        "currency": "EUR",
        "subtotal": 2100,
        "discount": 100,
        "total": 2000,
        "coupon_code": "SPRING",
        "placed_at": NOON,
        "updated_at": NOON,
        "expires_at": DUE,
        "version": 1,
        "reason": "",
        "tracking": "",
    }
    assert list(
        OrderLine.objects.using(alias)
        .order_by("position")
        .values_list("order_id", "position", "sku", "name", "quantity", "unit_price")
    ) == [
        (command.order_id, 1, "tea", "Green tea", 2, 450),
        (command.order_id, 2, "cup", "Cup", 1, 1200),
    ]
    assert list(
        KeyRow.objects.using(alias).values_list("customer_id", "key", "fingerprint", "order_id", "created_at")
    ) == [(7, "k1", "f1", command.order_id, NOON)]
    assert stored() == {"Event": 1, "OutboxMessage": 1, "Order": 1, "OrderLine": 2, "IdempotencyKey": 1}


def test_placing_takes_as_many_statements_however_many_lines_there_are(django_assert_num_queries: Any) -> None:
    command = PlacementFactory.build(lines=tuple(replace(TEA, sku=f"tea-{number}") for number in range(100)))
    alias = shards.alias_of(command.order_id)
    savepoint = 2  # the test's own transaction is around ours

    # the key; the event, its outbox row, the order, and its lines
    with django_assert_num_queries(savepoint + counted(2, 5), using=alias):
        handlers.place_order(command, metadata(), idempotency=KEY)

    assert stored()["OrderLine"] == 100


def test_an_order_lives_on_the_shard_of_its_bucket_alone() -> None:
    by_alias: dict[str, list[int]] = {alias: [] for alias in shards.aliases()}
    for customer_id in (0, 1, 63, 64, 127, 128, 1000):
        order_id = place(customer_id)
        assert numbers.bucket_of(order_id) == customer_id % 128
        by_alias[shards.alias_of(order_id)].append(order_id)

    assert {alias: sorted(Order.objects.using(alias).values_list("id", flat=True)) for alias in shards.aliases()} == {
        alias: sorted(order_ids) for alias, order_ids in by_alias.items()
    }
    assert sum(1 for order_ids in by_alias.values() if order_ids) > 1


def test_a_refused_order_writes_nothing() -> None:
    with pytest.raises(EmptyOrder):
        handlers.place_order(PlacementFactory.build(lines=()), metadata(), idempotency=KEY)

    assert stored() == NOTHING


def test_an_order_whose_read_model_fails_writes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projections, "lines_of", lambda history: [(1, "no number", "mug", "Mug", 1, 100)])

    with pytest.raises(DatabaseError):
        handlers.place_order(PlacementFactory.build(), metadata(), idempotency=KEY)

    assert stored() == NOTHING


def test_an_order_number_of_another_bucket_is_refused() -> None:
    with pytest.raises(ValueError, match="is not in bucket 8 of customer 8"):
        handlers.place_order(replace(PlacementFactory.build(customer_id=7), customer_id=8), metadata())

    assert stored() == NOTHING


# --- Idempotency keys ---------------------------------------------------------------------------------------------


def test_the_same_key_again_gives_the_first_order() -> None:
    first = handlers.place_order(PlacementFactory.build(), metadata(), idempotency=KEY)
    before = stored()

    again = handlers.place_order(PlacementFactory.build(at=NOON + timedelta(hours=1)), metadata(), idempotency=KEY)

    assert again == replace(first, replayed=True)
    assert stored() == before


def test_the_first_order_is_given_whatever_became_of_it() -> None:
    first = handlers.place_order(PlacementFactory.build(), metadata(), idempotency=KEY)
    ask(cancel(first.order_id))

    assert handlers.place_order(PlacementFactory.build(), metadata(), idempotency=KEY).order_id == first.order_id


def test_a_replay_is_found_before_anything_is_priced_anew() -> None:
    assert handlers.replay_of(7, KEY) is None
    first = handlers.place_order(PlacementFactory.build(), metadata(), idempotency=KEY)

    assert handlers.replay_of(7, KEY) == replace(first, replayed=True)
    with pytest.raises(IdempotencyMismatch):
        handlers.replay_of(7, replace(KEY, fingerprint="f2"))


def test_the_same_key_with_another_request_is_refused() -> None:
    handlers.place_order(PlacementFactory.build(), metadata(), idempotency=KEY)
    before = stored()

    with pytest.raises(IdempotencyMismatch) as refused:
        handlers.place_order(PlacementFactory.build(), metadata(), idempotency=replace(KEY, fingerprint="f2"))

    assert refused.value.code == "idempotency_mismatch"
    assert stored() == before


def test_a_key_belongs_to_one_customer() -> None:
    first = handlers.place_order(PlacementFactory.build(customer_id=7), metadata(), idempotency=KEY)
    second = handlers.place_order(PlacementFactory.build(customer_id=7 + numbers.BUCKETS), metadata(), idempotency=KEY)

    assert not second.replayed
    assert first.order_id != second.order_id


def test_a_refused_order_does_not_use_up_its_key() -> None:
    with pytest.raises(EmptyOrder):
        handlers.place_order(PlacementFactory.build(lines=()), metadata(), idempotency=KEY)

    assert not handlers.place_order(PlacementFactory.build(), metadata(), idempotency=KEY).replayed


@pytest.fixture
def paused(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[threading.Event, threading.Event]]:
    """Stops the first order that is placed just before its transaction ends: (it is there, let it go on)."""
    there, go_on = threading.Event(), threading.Event()
    project = projections.project

    def wait_first(*args: Any, **kwargs: Any) -> Any:
        if not there.is_set():
            there.set()
            assert go_on.wait(timeout=10)
        return project(*args, **kwargs)

    monkeypatch.setattr(projections, "project", wait_first)
    yield there, go_on
    go_on.set()


@pytest.mark.services
@several_connections
def test_a_key_whose_first_request_is_in_flight_is_refused_at_once(
    paused: tuple[threading.Event, threading.Event],
) -> None:
    there, go_on = paused

    def second() -> Any:
        assert there.wait(timeout=10)
        try:
            return handlers.place_order(PlacementFactory.build(), metadata(), idempotency=KEY)
        finally:
            go_on.set()

    first, refused = in_threads(
        lambda: handlers.place_order(PlacementFactory.build(), metadata(), idempotency=KEY),
        second,
    )

    assert isinstance(refused, IdempotencyInFlight)
    assert not first.replayed
    assert handlers.place_order(PlacementFactory.build(), metadata(), idempotency=KEY) == replace(first, replayed=True)


@pytest.mark.services
@several_connections
def test_another_key_of_the_customer_does_not_wait(paused: tuple[threading.Event, threading.Event]) -> None:
    there, go_on = paused

    def second() -> Any:
        assert there.wait(timeout=10)
        try:
            return handlers.place_order(PlacementFactory.build(), metadata(), idempotency=replace(KEY, key="k2"))
        finally:
            go_on.set()

    first, other = in_threads(
        lambda: handlers.place_order(PlacementFactory.build(), metadata(), idempotency=KEY), second
    )

    assert first.order_id != other.order_id


@several_connections
def test_eight_requests_with_one_key_place_one_order() -> None:
    results = in_threads(*[lambda: handlers.place_order(PlacementFactory.build(), metadata(), idempotency=KEY)] * 8)

    answers = [result for result in results if isinstance(result, Placement)]
    assert all(isinstance(result, Placement | IdempotencyInFlight) for result in results)
    assert len({answer.order_id for answer in answers}) == 1
    assert [answer.replayed for answer in answers].count(False) == 1
    assert stored() == {"Event": 1, "OutboxMessage": 1, "Order": 1, "OrderLine": 2, "IdempotencyKey": 1}


# --- Groups -------------------------------------------------------------------------------------------------------


def new_order(command: PlaceOrder, idempotency: IdempotencyKey | None = None) -> handlers._NewOrder:
    decided = domain.decide(domain.Order(), command)
    events = NewEvents(stream_id=command.order_id, expected_version=0, events=decided, metadata=metadata())
    return handlers._NewOrder(command=command, events=events, idempotency=idempotency)


def test_orders_that_are_written_together_have_each_its_own_outcome() -> None:
    first = PlacementFactory.build()
    again = PlacementFactory.build(at=NOON + timedelta(seconds=1))
    other = PlacementFactory.build(customer_id=7 + numbers.BUCKETS)

    written = handlers._new_orders.together(
        shards.alias_of(first.order_id), [new_order(first, KEY), new_order(again, KEY), new_order(other, KEY)]
    )

    assert [[item.stream_id for item in one.recorded] for one in written] == [[first.order_id], [], [other.order_id]]
    assert [one.claim for one in written] == [Claim.NEW, Claim.TAKEN, Claim.NEW]
    assert stored() == {"Event": 2, "OutboxMessage": 2, "Order": 2, "OrderLine": 4, "IdempotencyKey": 2}


def test_an_order_that_cannot_be_written_stops_no_other_of_its_group() -> None:
    taken = place()
    later = NOON + timedelta(seconds=1), NOON + timedelta(seconds=2)
    good, better = (PlacementFactory.build(at=at) for at in later)
    clash = PlacementFactory.build(order_id=taken)

    outcomes = handlers._new_orders.together(
        shards.alias_of(taken), [new_order(good), new_order(clash, KEY), new_order(better)]
    )

    assert [isinstance(outcome, WrongExpectedVersion) for outcome in outcomes] == [False, True, False]
    assert stored() == {"Event": 3, "OutboxMessage": 3, "Order": 3, "OrderLine": 6, "IdempotencyKey": 0}


def test_an_order_of_a_bucket_that_is_being_cut_over_is_written_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers._new_orders, "submit", lambda *order: pytest.fail("its group could be refused"))
    monkeypatch.setattr(shards, "is_moving", lambda bucket: bucket == 7)

    assert not handlers.place_order(PlacementFactory.build(customer_id=7), metadata(), idempotency=KEY).replayed


# --- Taken numbers ------------------------------------------------------------------------------------------------


def test_an_order_with_a_taken_number_gets_another_one() -> None:
    taken = place()

    second = handlers.place_order(
        PlacementFactory.build(order_id=taken, at=NOON + timedelta(seconds=1)), metadata(), idempotency=KEY
    )

    assert second.order_id != taken
    assert KeyRow.objects.using(shards.alias_of(taken)).get().order_id == second.order_id
    assert stored() == {"Event": 2, "OutboxMessage": 2, "Order": 2, "OrderLine": 4, "IdempotencyKey": 1}


def test_three_new_numbers_are_tried_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = place()
    before = stored()
    free = numbers.new_order_id(7, NOON + timedelta(days=1))
    offered: list[int] = []
    offers = iter([taken, taken, free, taken, taken, taken])

    def offer(customer_id: int, at: Any) -> int:
        offered.append(next(offers))
        return offered[-1]

    clash = PlacementFactory.build(order_id=taken, at=NOON + timedelta(seconds=1))
    monkeypatch.setattr(numbers, "new_order_id", offer)

    assert handlers.place_order(clash, metadata()).order_id == free
    with pytest.raises(WrongExpectedVersion):
        handlers.place_order(clash, metadata())

    assert offered == [taken, taken, free, taken, taken, taken]
    assert stored()["Order"] == before["Order"] + 1


def test_the_very_same_command_again_gives_the_same_order() -> None:
    command = PlacementFactory.build()
    first = handlers.place_order(command, metadata())
    ask(confirm(first.order_id))
    before = stored()

    assert handlers.place_order(command, metadata()) == replace(first, replayed=True)
    assert stored() == before


# --- Any other command --------------------------------------------------------------------------------------------


def test_the_row_follows_the_order_through_its_life() -> None:
    order_id = place()
    seen: list[tuple[str, int, int]] = []
    for command in (confirm, pay, ship, deliver):
        ask(replace(command(order_id), at=NOON + timedelta(minutes=len(seen) + 1)))
        now = row(order_id)
        seen.append((now["status"], now["version"], (now["updated_at"] - NOON) // timedelta(minutes=1)))

    assert seen == [("confirmed", 2, 1), ("paid", 3, 2), ("shipped", 4, 3), ("delivered", 5, 4)]
    assert row(order_id)["placed_at"] == NOON
    assert row(order_id)["expires_at"] is None


@pytest.mark.parametrize("status", Status)
def test_the_row_of_an_order_in_every_state(status: Status) -> None:
    now = row(order_in(status))

    assert now["status"] == status
    assert now["version"] == 1 + len(WAYS[status])
    assert now["expires_at"] == (DUE if status in (Status.PLACED, Status.CONFIRMED) else None)
    assert now["reason"] == {Status.REJECTED: "out_of_stock", Status.CANCELLED: "customer"}.get(status, "")
    assert (now["subtotal"], now["discount"], now["total"]) == (TOTAL, 0, TOTAL)


def test_a_check_that_leaves_others_open_only_counts() -> None:
    order_id = place(coupon_code="SPRING", discount=100)

    assert ask(confirm(order_id)) == ["OrderCheckPassed"]

    assert (row(order_id)["status"], row(order_id)["version"]) == ("placed", 2)
    assert ask(confirm(order_id, check=Check.COUPON)) == ["OrderConfirmed"]


def test_a_command_appends_with_its_metadata() -> None:
    order_id = place()

    [recorded] = handlers.handle(confirm(order_id), Metadata(correlation_id="c2", causation_id="x@1", actor="orders"))

    history = store.load(CATEGORY, order_id, using=shards.alias_of(order_id))
    assert [item.version for item in history] == [1, 2]
    assert history[1].event == recorded.event
    assert history[1].metadata == Metadata(correlation_id="c2", causation_id="x@1", actor="orders")


def test_a_repeated_command_writes_nothing() -> None:
    order_id = order_in(Status.CANCELLED)
    before = stored(), row(order_id)

    assert ask(cancel(order_id)) == []

    assert (stored(), row(order_id)) == before


def test_a_refused_command_writes_nothing() -> None:
    order_id = order_in(Status.PAID)
    before = stored(), row(order_id)

    with pytest.raises(CannotCancelPaid):
        ask(cancel(order_id))

    assert (stored(), row(order_id)) == before


def test_an_order_that_does_not_exist_is_not_found() -> None:
    with pytest.raises(OrderNotFound):
        ask(cancel(numbers.new_order_id(7, NOON)))

    assert stored() == NOTHING


# --- Several writers ----------------------------------------------------------------------------------------------


@pytest.fixture
def stale_reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Makes the next so many reads (the only element) miss the newest event, as if it were appended afterwards."""
    left = [0]
    load_many = store.load_many

    def load(category: str, stream_ids: Any, *, using: str) -> dict[int, list[Recorded[Any]]]:
        streams = load_many(category, stream_ids, using=using)
        if left[0]:
            left[0] -= 1
            return {stream_id: events[:-1] for stream_id, events in streams.items()}
        return streams

    # The store itself asks again to explain a conflict, and must see the truth.
    monkeypatch.setattr(store, "load_many", load)
    monkeypatch.setattr(store, "_conflict", lambda *args: WrongExpectedVersion("stale"))
    return left


def test_after_a_conflict_the_order_decides_again_on_what_is_new(stale_reads: list[int]) -> None:
    order_id = order_in(Status.CONFIRMED)
    ask(pay(order_id))
    stale_reads[0] = 2

    with pytest.raises(CannotCancelPaid):
        ask(cancel(order_id))

    assert stale_reads == [0]
    assert row(order_id)["status"] == "paid"


def test_after_three_conflicts_the_handler_gives_up(stale_reads: list[int]) -> None:
    order_id = order_in(Status.CONFIRMED)
    ask(pay(order_id))
    before = stored(), row(order_id)
    stale_reads[0] = 3

    with pytest.raises(WrongExpectedVersion):
        ask(cancel(order_id))

    assert stale_reads == [0]
    assert (stored(), row(order_id)) == before


@several_connections
def test_of_a_payment_and_a_cancellation_at_the_same_time_one_wins() -> None:
    for _ in range(5):
        order_id = order_in(Status.CONFIRMED)

        paid, cancelled = in_threads(partial(ask, pay(order_id)), partial(ask, cancel(order_id)))

        assert (paid == ["OrderPaid"]) != (cancelled == ["OrderCancelled"])
        assert isinstance(cancelled, CannotCancelPaid) or isinstance(paid, OrderClosed)
        assert row(order_id)["version"] == 3


@several_connections
def test_the_same_command_from_eight_writers_at_once_happens_once() -> None:
    order_id = order_in(Status.CONFIRMED)

    results = in_threads(*[lambda: ask(pay(order_id))] * 8)

    assert Counter(map(str, results)) == {"['OrderPaid']": 1, "[]": 7}
    history = store.load(CATEGORY, order_id, using=shards.alias_of(order_id))
    assert [item.version for item in history] == [1, 2, 3]


@several_connections
def test_two_batches_with_the_same_orders_in_opposite_directions_both_end() -> None:
    order_ids = [place(7, coupon_code="SPRING", discount=100) for _ in range(20)]
    using = shards.alias_of(order_ids[0])

    def batch(check: Check, ids: list[int]) -> int:
        with transaction.atomic(using=using):
            pairs = [(confirm(order_id, check=check), metadata()) for order_id in ids]
            return len(handlers.handle_batch(pairs, using=using).recorded)

    results = in_threads(lambda: batch(Check.STOCK, order_ids), lambda: batch(Check.COUPON, list(reversed(order_ids))))

    assert results == [20, 20]
    assert {row(order_id)["status"] for order_id in order_ids} == {"confirmed"}


# --- Batches ------------------------------------------------------------------------------------------------------


def run_batch(*commands: Command) -> handlers.BatchResult:
    using = shards.alias_of(commands[0].order_id)
    with transaction.atomic(using=using):
        return handlers.handle_batch(
            [(command, metadata(f"c{number}")) for number, command in enumerate(commands)], using=using
        )


def test_a_batch_takes_as_many_statements_as_a_single_order(django_assert_num_queries: Any) -> None:
    few, many = [place() for _ in range(2)], [place() for _ in range(50)]
    using = shards.alias_of(few[0])
    savepoint = 2
    # lock, load, append with outbox and rows
    for order_ids in (few, many):
        with django_assert_num_queries(savepoint + counted(3, 5), using=using):
            run_batch(*[confirm(order_id) for order_id in order_ids])

    assert {row(order_id)["status"] for order_id in (*few, *many)} == {"confirmed"}


def test_several_commands_of_a_batch_for_one_order_are_decided_one_after_another() -> None:
    order_id = place(coupon_code="SPRING", discount=100)

    result = run_batch(confirm(order_id), confirm(order_id, check=Check.COUPON), pay(order_id, amount=2000))

    assert [(type(item.event).__name__, item.version) for item in result.recorded] == [
        ("OrderCheckPassed", 2),
        ("OrderConfirmed", 3),
        ("OrderPaid", 4),
    ]
    assert [item.metadata.correlation_id for item in result.recorded] == ["c0", "c1", "c2"]
    assert (row(order_id)["status"], row(order_id)["version"]) == ("paid", 4)


def test_a_refused_command_of_a_batch_does_not_stop_the_others() -> None:
    good, closed, unknown = order_in(Status.CONFIRMED), order_in(Status.CANCELLED), numbers.new_order_id(7, NOON)

    result = run_batch(pay(closed), pay(unknown), pay(good), ship(good))

    assert [type(item.event).__name__ for item in result.recorded] == ["OrderPaid", "OrderShipped"]
    assert [(item.command, type(item.error)) for item in result.refused] == [
        (pay(closed), OrderClosed),
        (pay(unknown), OrderNotFound),
    ]


def test_a_batch_of_repeated_commands_writes_nothing() -> None:
    order_id = order_in(Status.CONFIRMED)
    before = stored(), row(order_id)

    assert run_batch(confirm(order_id), confirm(order_id)) == handlers.BatchResult(recorded=[], refused=[])

    assert (stored(), row(order_id)) == before


# --- Reactions to other contexts ----------------------------------------------------------------------------------


def happened(order_id: int, event: Any, *, category: str = "elsewhere", version: int = 1) -> Recorded[Any]:
    return Recorded(
        category=category, stream_id=order_id, version=version, event=event, metadata=metadata("c9"), recorded_at=NOON
    )


def reserved(order_id: int) -> Recorded[Any]:
    return happened(order_id, StockReserved(items=(), at=NOON), category="reservation")


def redeemed(order_id: int) -> Recorded[Any]:
    event = CouponRedeemed(code="SPRING", customer_id=7, discount=100, at=NOON)
    return happened(order_id, event, category="redemption")


def captured(order_id: int, *, amount: int = TOTAL, payment_id: str = "p1") -> Recorded[Any]:
    event = PaymentCaptured(payment_id=payment_id, customer_id=7, amount=amount, currency="EUR", at=NOON)
    return happened(order_id, event, category="payment", version=2)


def hand_out(*batch: Recorded[Any]) -> Outcome:
    """Give events to the subscriber as a worker does, through the wire format and the inbox."""
    collector = Collector()
    envelopes = [
        Envelope(
            stream_id=item.stream_id,
            category=item.category,
            version=item.version,
            type=item.event.TYPE,
            schema_version=item.event.SCHEMA_VERSION,
            data=item.event,
            metadata=item.metadata,
            recorded_at=item.recorded_at,
        )
        for item in batch
    ]
    collector.send(Message(subscriber="orders", events=envelopes, published_at=NOON))
    [message] = collector.messages
    return deliver_batch(
        message.events, Delivery(subscriber=subscribers.orders, attempt=1, published_at=message.published_at)
    )


def test_what_other_contexts_did_moves_orders_on() -> None:
    plain, with_coupon = place(), place(coupon_code="SPRING", discount=100)
    short, unpaid = place(), order_in(Status.CONFIRMED)
    refused = StockRefused(missing=(MissingItem(sku="tea", wanted=2, available=1),), at=NOON)

    outcome = hand_out(
        reserved(plain),
        redeemed(with_coupon),
        reserved(with_coupon),
        happened(short, refused, category="reservation"),
        captured(unpaid),
    )

    assert (outcome.handled, outcome.retry, outcome.dead) == (5, [], 0)
    assert [row(order_id)["status"] for order_id in (plain, with_coupon, short, unpaid)] == [
        "confirmed",
        "confirmed",
        "rejected",
        "paid",
    ]
    history = store.load(CATEGORY, plain, using=shards.alias_of(plain))
    assert history[1].metadata == Metadata(
        correlation_id="c9", causation_id=f"reservation-{numbers.to_text(plain)}@1", actor="orders"
    )


def test_a_batch_may_hold_orders_of_several_shards() -> None:
    order_ids = [place(customer_id) for customer_id in (0, 127)]
    assert len({shards.alias_of(order_id) for order_id in order_ids}) == 2

    assert hand_out(*[reserved(order_id) for order_id in order_ids]).handled == 2

    assert [row(order_id)["status"] for order_id in order_ids] == ["confirmed", "confirmed"]


def test_what_was_delivered_twice_happens_once() -> None:
    order_id = place()
    hand_out(reserved(order_id))
    before = stored()

    outcome = hand_out(reserved(order_id), reserved(order_id))

    assert (outcome.handled, outcome.repeated) == (0, 2)
    assert stored() == before


@pytest.mark.parametrize("status", [Status.CANCELLED, Status.REJECTED])
def test_a_payment_for_a_closed_order_leaves_it_as_it_is(status: Status) -> None:
    order_id = order_in(status)
    before = stored()

    assert hand_out(captured(order_id)).handled == 1

    assert stored() == before
    assert row(order_id)["status"] == status


def test_a_second_payment_leaves_the_order_as_it_is() -> None:
    order_id = order_in(Status.PAID)
    before = stored()

    assert hand_out(captured(order_id, payment_id="p2")).handled == 1

    assert stored() == before


def test_a_payment_that_overtakes_the_confirmation_comes_again_and_stops_nobody() -> None:
    early, other = place(), place()

    outcome = hand_out(captured(early), reserved(other))

    assert (outcome.handled, [envelope.stream_id for envelope in outcome.retry], outcome.dead) == (1, [early], 0)
    assert [row(order_id)["status"] for order_id in (early, other)] == ["placed", "confirmed"]
    assert InboxEntry.objects.using(shards.alias_of(early)).count() == 1
    assert hand_out(reserved(early)).handled == 1
    assert hand_out(captured(early)).handled == 1
    assert row(early)["status"] == "paid"


def test_an_event_of_an_order_that_is_not_there_comes_again() -> None:
    outcome = hand_out(reserved(numbers.new_order_id(7, NOON)))

    assert (outcome.handled, len(outcome.retry), outcome.dead) == (0, 1, 0)


def test_a_payment_of_another_amount_is_parked_for_the_operator_and_stops_nobody() -> None:
    wrong, good = order_in(Status.CONFIRMED), order_in(Status.CONFIRMED)

    outcome = hand_out(captured(wrong, amount=1), captured(good))

    assert (outcome.handled, outcome.retry, outcome.dead) == (1, [], 1)
    assert [row(order_id)["status"] for order_id in (wrong, good)] == ["confirmed", "paid"]
    assert PaymentMismatch.__name__ in DeadLetter.objects.get().error


def test_a_conflict_with_another_writer_comes_again(stale_reads: list[int]) -> None:
    order_id = order_in(Status.CONFIRMED)
    ask(pay(order_id))
    stale_reads[0] = 1

    outcome = hand_out(captured(order_id, payment_id="p2"))

    assert (outcome.handled, len(outcome.retry), outcome.dead) == (0, 1, 0)


# --- The clock ----------------------------------------------------------------------------------------------------


def test_overdue_orders_are_cancelled_and_the_others_are_not() -> None:
    overdue = [order_in(status) for status in (Status.PLACED, Status.CONFIRMED)]
    in_time = place(at=NOON + timedelta(minutes=1))
    settled = [order_in(status) for status in Status if status not in (Status.PLACED, Status.CONFIRMED)]
    before = {order_id: row(order_id) for order_id in (in_time, *settled)}

    assert handlers.cancel_overdue(DUE, using=shards.alias_of(in_time), limit=100) == 2

    assert {(row(order_id)["status"], row(order_id)["reason"]) for order_id in overdue} == {
        ("cancelled", "payment_timeout")
    }
    assert {order_id: row(order_id) for order_id in (in_time, *settled)} == before
    [*_, last] = store.load(CATEGORY, overdue[0], using=shards.alias_of(overdue[0]))
    assert (last.event.at, last.metadata.actor) == (DUE, "clock")


def test_the_longest_overdue_orders_come_first_and_no_more_than_the_limit() -> None:
    order_ids = [place(at=NOON + timedelta(minutes=minute)) for minute in (3, 1, 2)]

    assert handlers.cancel_overdue(DUE + timedelta(hours=1), using=shards.alias_of(order_ids[0]), limit=2) == 2

    assert [row(order_id)["status"] for order_id in order_ids] == ["placed", "cancelled", "cancelled"]


def test_the_order_itself_decides_whether_it_is_overdue() -> None:
    order_id = place()
    alias = shards.alias_of(order_id)
    Order.objects.using(alias).filter(id=order_id).update(expires_at=NOON)

    assert handlers.cancel_overdue(NOON + timedelta(minutes=1), using=alias, limit=100) == 0

    assert row(order_id)["status"] == "placed"


@pytest.mark.services
@several_connections
def test_an_overdue_order_that_somebody_has_in_hand_is_left_for_the_next_time() -> None:
    busy, free = order_in(Status.CONFIRMED), order_in(Status.CONFIRMED)
    alias = shards.alias_of(busy)
    locked, done = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic(using=alias):
            handlers.handle_batch([(pay(busy), metadata())], using=alias)
            locked.set()
            assert done.wait(timeout=10)

    def sweep() -> int:
        assert locked.wait(timeout=10)
        try:
            return handlers.cancel_overdue(DUE, using=alias, limit=100)
        finally:
            done.set()

    assert in_threads(hold, sweep) == [None, 1]
    assert [row(order_id)["status"] for order_id in (busy, free)] == ["paid", "cancelled"]


@several_connections
def test_several_sweeps_at_once_cancel_each_order_once() -> None:
    order_ids = [place() for _ in range(30)]
    alias = shards.alias_of(order_ids[0])

    def sweep() -> int:
        return handlers.cancel_overdue(DUE, using=alias, limit=20)

    results = in_threads(sweep, sweep, sweep)

    # One that all of them found locked for a moment is left to the next sweep.
    assert sum(results) + sweep() == 30
    assert {(row(order_id)["status"], row(order_id)["version"]) for order_id in order_ids} == {("cancelled", 2)}


def test_the_sweep_visits_every_shard_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    order_ids = [place(customer_id) for customer_id in range(0, 128, 8)]
    monkeypatch.setattr(tasks, "BATCH", 3)

    assert tasks.cancel_overdue_orders() == len(order_ids)

    assert {row(order_id)["status"] for order_id in order_ids} == {"cancelled"}


def test_a_shard_that_is_down_does_not_stop_the_sweep_on_the_others() -> None:
    here, there = place(0), place(127)

    def refuse(*args: Any) -> None:
        raise OperationalError("the server closed the connection")

    with connections[shards.alias_of(here)].execute_wrapper(refuse):
        assert tasks.cancel_overdue_orders() == 1

    assert [row(order_id)["status"] for order_id in (here, there)] == ["placed", "cancelled"]


def test_a_shard_that_was_down_is_caught_up_with_by_the_next_sweep() -> None:
    here = place(0)

    def refuse(*args: Any) -> None:
        raise OperationalError("the server closed the connection")

    with connections[shards.alias_of(here)].execute_wrapper(refuse):
        tasks.cancel_overdue_orders()
    assert tasks.cancel_overdue_orders() == 1

    assert row(here)["status"] == "cancelled"


def test_a_sweep_waits_for_the_extended_deadline() -> None:
    order_id = order_in(Status.CONFIRMED)
    alias = shards.alias_of(order_id)
    later = DUE + timedelta(hours=2)
    ask(ExtendDeadline(order_id=order_id, payment_due_at=later, at=NOON))

    assert handlers.cancel_overdue(later - timedelta(seconds=1), using=alias, limit=100) == 0
    assert handlers.cancel_overdue(later, using=alias, limit=100) == 1


def test_a_sweep_that_is_cut_off_leaves_whole_orders_only(monkeypatch: pytest.MonkeyPatch) -> None:
    order_ids = [place(at=NOON + timedelta(seconds=second)) for second in range(4)]
    alias = shards.alias_of(order_ids[0])

    def die(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    assert handlers.cancel_overdue(DUE + timedelta(hours=1), using=alias, limit=2) == 2
    with monkeypatch.context() as patched:
        patched.setattr(projections, "project", die)
        with pytest.raises(KeyboardInterrupt):
            handlers.cancel_overdue(DUE + timedelta(hours=1), using=alias, limit=2)

    assert [row(order_id)["status"] for order_id in order_ids] == ["cancelled", "cancelled", "placed", "placed"]
    assert [len(store.load(CATEGORY, order_id, using=alias)) for order_id in order_ids] == [2, 2, 1, 1]
    assert handlers.cancel_overdue(DUE + timedelta(hours=1), using=alias, limit=100) == 2


@pytest.mark.services
def test_the_sweep_finds_overdue_orders_through_the_index_of_open_ones() -> None:
    overdue = order_in(Status.CONFIRMED)
    connection = connections[shards.alias_of(overdue)]
    low, _ = numbers.bucket_range(numbers.bucket_of(overdue))
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO orders_order (id, customer_id, status, currency, subtotal, discount, total, placed_at,"
            " updated_at, version, reason) SELECT %s + number, 7, 'delivered', 'EUR', 1, 0, 1, now(), now(), 5, ''"
            " FROM generate_series(1, 5000) AS number",
            [low],
        )
        cursor.execute("ANALYZE orders_order")
    with CaptureQueriesContext(connection) as queries:
        assert handlers.cancel_overdue(DUE, using=connection.alias, limit=200) == 1
    [sweep] = [query["sql"] for query in queries.captured_queries if "SKIP LOCKED" in query["sql"]]
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {sweep}")
        plan = "\n".join(line for (line,) in cursor.fetchall())
        cursor.execute(
            "SELECT indexrelid::regclass::text FROM pg_index WHERE indpred IS NOT NULL AND indrelid = %s::regclass"
            " AND pg_get_indexdef(indexrelid) LIKE '%%(expires_at)%%'",
            [partition_name("orders_order", numbers.bucket_of(overdue))],
        )
        [(index,)] = cursor.fetchall()
    assert f"using {index} " in plan
    assert f"Seq Scan on {partition_name('orders_order', numbers.bucket_of(overdue))}" not in plan


def test_idempotency_keys_are_kept_for_a_day() -> None:
    for number in range(4):
        handlers.place_order(
            PlacementFactory.build(at=NOON + timedelta(hours=number)),
            metadata(),
            idempotency=replace(KEY, key=f"k{number}"),
        )
    alias = shards.alias_of_bucket(7)
    now = NOON + timedelta(hours=26)

    assert handlers.prune_idempotency_keys(now, using=alias, limit=1) == 1
    assert handlers.prune_idempotency_keys(now, using=alias, limit=100) == 1
    assert handlers.prune_idempotency_keys(now, using=alias, limit=100) == 0

    assert sorted(KeyRow.objects.using(alias).values_list("key", flat=True)) == ["k2", "k3"]


def test_keys_are_pruned_on_every_shard() -> None:
    for customer_id in (0, 127):
        handlers.place_order(PlacementFactory.build(customer_id=customer_id), metadata(), idempotency=KEY)

    assert tasks.prune_idempotency_keys() == 2

    assert stored()["IdempotencyKey"] == 0


# --- Read model ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    [
        {"status": "lost"},
        {"total": 1},
        {"discount": -1, "total": TOTAL + 1},
        {"subtotal": -1, "total": -1},
        {"status": "paid"},
        {"expires_at": None},
        {"version": 0},
    ],
    ids=str,
)
def test_the_database_refuses_an_order_that_cannot_be(damage: dict[str, Any]) -> None:
    order_id = place()
    alias = shards.alias_of(order_id)

    with pytest.raises(IntegrityError), transaction.atomic(using=alias):
        Order.objects.using(alias).filter(id=order_id).update(**damage)

    assert row(order_id)["status"] == "placed"


@pytest.mark.parametrize("damage", [{"quantity": 0}, {"quantity": 1000}, {"unit_price": -1}], ids=str)
def test_the_database_refuses_a_line_that_cannot_be(damage: dict[str, Any]) -> None:
    order_id = place()
    alias = shards.alias_of(order_id)

    with pytest.raises(IntegrityError), transaction.atomic(using=alias):
        OrderLine.objects.using(alias).filter(order_id=order_id).update(**damage)


def test_everything_of_an_order_is_in_the_database_of_its_bucket_for_every_bucket() -> None:
    key = IdempotencyKey(key="k", fingerprint="f")
    for customer_id in range(1, numbers.BUCKETS + 1):
        order_id = handlers.place_order(
            PlacementFactory.build(customer_id=customer_id), metadata(), idempotency=key
        ).order_id
        ask(confirm(order_id))
    wrong = []
    for alias in shards.aliases():
        for table, column in sharded_tables().items():
            with connections[alias].cursor() as cursor:
                cursor.execute(f"SELECT DISTINCT {column} FROM {table}")
                ids = [order_id for (order_id,) in cursor.fetchall()]
            assert len(ids) == (0 if table == "eventing_inbox" else len(shards.buckets_of(alias)))
            wrong += [(alias, table, order_id) for order_id in ids if shards.alias_of(order_id) != alias]
    assert wrong == []


# --- A bucket that has moved --------------------------------------------------------------------------------------


@pytest.fixture
def stale_map(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Called, it makes every bucket seem to be in the last shard until the map is read again; returns the readings."""
    readings: list[str] = []
    refresh, by_bucket = shards.refresh, shards.alias_of_bucket

    def stale(bucket: int) -> str:
        return by_bucket(bucket) if readings else shards.aliases()[-1]

    def read() -> shards.ShardMap:
        readings.append("read")
        return refresh()

    def begin() -> list[str]:
        monkeypatch.setattr(shards, "alias_of_bucket", stale)
        monkeypatch.setattr(shards, "alias_of", lambda order_id: stale(numbers.bucket_of(order_id)))
        monkeypatch.setattr(shards, "refresh", read)
        return readings

    return begin


def test_a_command_follows_an_order_whose_bucket_has_moved(stale_map: Callable[[], list[str]]) -> None:
    order_id = order_in(Status.CONFIRMED, customer_id=0)
    readings = stale_map()

    assert ask(cancel(order_id)) == ["OrderCancelled"]

    assert readings == ["read"]
    assert row(order_id)["status"] == "cancelled"


def test_an_event_for_an_order_whose_bucket_has_moved_comes_again(stale_map: Callable[[], list[str]]) -> None:
    order_id = place(customer_id=0)
    stale_map()

    assert len(hand_out(reserved(order_id)).retry) == 1


@pytest.mark.services
def test_a_placement_follows_a_bucket_that_has_moved(stale_map: Callable[[], list[str]]) -> None:
    readings = stale_map()

    order_id = handlers.place_order(PlacementFactory.build(customer_id=0), metadata(), idempotency=KEY).order_id

    assert readings == ["read"]
    assert (shards.alias_of(order_id), stored()["IdempotencyKey"]) == (shards.aliases()[0], 1)
