"""One way for every command into an order: load its events, decide, append, project.

Every writer locks an order's row before it loads the events, so two of them meet at the lock and not at the key of
the events. That key, the expected version, is what makes sure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from hashlib import sha256
from typing import Any
from uuid import uuid4

import structlog
from django.db import connections, transaction

from eventing import store
from eventing.databases import Claim, Insertion, insert_alone, time_to_db
from eventing.errors import WrongExpectedVersion
from eventing.group_commit import GroupedWrites
from eventing.recorded import Metadata, NewEvents, Recorded
from orders import models, projections
from orders.commands import CancelOrder, Command, PlaceOrder
from orders.domain import Order, OrderAlreadyPlaced, OrderError, OrderNotFound, decide, fold
from orders.events import CATEGORY, CancelReason, Event, OrderPlaced
from sharding import numbers, shards

ATTEMPTS = 3
NEW_NUMBERS = 3
KEEP_KEYS = timedelta(hours=24)

ORDER_COLUMNS = projections.COLUMNS
LINE_COLUMNS = projections.LINE_COLUMNS
KEY_TYPES = {
    "customer_id": "bigint",
    "key": "text",
    "fingerprint": "text",
    "order_id": "bigint",
    "created_at": "timestamptz",
}

logger = structlog.get_logger(__name__)


class IdempotencyMismatch(OrderError):
    """The idempotency key was already used for another request."""


class IdempotencyInFlight(OrderError):
    """The first request with this idempotency key has not been answered yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdempotencyKey:
    """A customer's name for one request; `fingerprint` is a digest of what was asked."""

    key: str
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """The order that a request has placed, now or (`replayed`) when it came the first time."""

    order_id: int
    replayed: bool
    placed: OrderPlaced


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    command: Command
    error: OrderError


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchResult:
    """What several commands have caused, and those among them that were refused."""

    recorded: Sequence[Recorded[Event]]
    refused: Sequence[Refusal]


def place_order(command: PlaceOrder, metadata: Metadata, *, idempotency: IdempotencyKey | None = None) -> Placement:
    """Place an order once: the same command, or the same idempotency key, again gives the order of the first time.

    If the number of the command is taken the order gets another one: use that of the answer. Raises an OrderError if a
    rule refuses the order, IdempotencyMismatch, IdempotencyInFlight, ValueError for a number of another bucket than
    the customer's, WrongExpectedVersion after too many taken numbers.
    """
    bucket = numbers.bucket_of_customer(command.customer_id)
    if numbers.bucket_of(command.order_id) != bucket:
        raise ValueError(f"order {command.order_id} is not in bucket {bucket} of customer {command.customer_id}")
    for number_left in reversed(range(NEW_NUMBERS + 1)):
        try:
            return shards.on_owner(bucket, partial(_place, command, metadata, idempotency))
        except WrongExpectedVersion:
            if (first := shards.on_owner(bucket, partial(_placed_before, command))) is not None:
                return first
            if not number_left:
                raise
            command = replace(command, order_id=numbers.new_order_id(command.customer_id, command.at))
    raise AssertionError("the last attempt returns or raises")


def digest_of(key: str, fingerprint: str) -> str:
    """What the placement's metadata has of an idempotency key."""
    return sha256(f"{fingerprint} {key}".encode()).hexdigest()[:32]


def replay_of(customer_id: int, idempotency: IdempotencyKey) -> Placement | None:
    """The order that this request has placed already, if it has: to be asked before lines are priced anew.

    Raises IdempotencyMismatch if the key was used for another request.
    """
    return shards.on_owner(numbers.bucket_of_customer(customer_id), partial(_find_key, customer_id, idempotency))


def handle(command: Command, metadata: Metadata) -> list[Recorded[Event]]:
    """Let an order decide a command and append what it causes: nothing, if the command was a repeated one.

    Raises an OrderError if the order refuses it, WrongExpectedVersion if other writers were faster every time.
    """
    for attempts_left in reversed(range(ATTEMPTS)):
        alias = shards.alias_of(command.order_id)
        try:
            return shards.on_owner(numbers.bucket_of(command.order_id), partial(_handle, command, metadata))
        except WrongExpectedVersion:
            if not attempts_left:
                raise
        except OrderNotFound:
            # A bucket that has moved away looks empty.
            if not attempts_left or not shards.may_have_moved(numbers.bucket_of(command.order_id), alias):
                raise
    raise AssertionError("the last attempt returns or raises")


def handle_batch(pairs: Sequence[tuple[Command, Metadata]], *, using: str) -> BatchResult:
    """Let many orders of one database decide, with one statement for each step, in the caller's transaction.

    Commands for the same order are decided one after another. A refused command does not stop the others. Raises
    WrongExpectedVersion if another writer was faster; the transaction must then be rolled back.
    """
    histories = _load_locked({command.order_id for command, _ in pairs}, using=using)
    orders = {order_id: fold(recorded.event for recorded in history) for order_id, history in histories.items()}
    versions = {order_id: len(history) for order_id, history in histories.items()}
    writes: list[NewEvents] = []
    refused: list[Refusal] = []
    for command, metadata in pairs:
        order_id = command.order_id
        try:
            events = decide(orders[order_id], command)
        except OrderError as error:
            refused.append(Refusal(command=command, error=error))
            continue
        if events:
            writes.append(
                NewEvents(
                    stream_id=order_id,
                    expected_version=versions[order_id],
                    events=events,
                    metadata=metadata,
                    previous=histories[order_id][-1].hash if histories[order_id] else None,
                )
            )
            versions[order_id] += len(events)
            orders[order_id] = fold(events, start=orders[order_id])
    return BatchResult(recorded=_append(writes, histories, using=using), refused=refused)


def cancel_overdue(now: datetime, using: str, limit: int) -> int:
    """Cancel up to `limit` orders of a shard whose payment deadline has passed; returns how many were cancelled.

    Several of these may run at once: each takes the orders that no other has in hand.
    """
    with transaction.atomic(using=using):
        overdue = (
            models.Order.objects.using(using)
            .filter(status__in=models.OPEN, expires_at__lte=now)
            .order_by("expires_at")
            .select_for_update(skip_locked=True, no_key=True)
            .values_list("id", flat=True)[:limit]
        )
        result = handle_batch(
            [
                (
                    CancelOrder(order_id=order_id, reason=CancelReason.PAYMENT_TIMEOUT, at=now),
                    Metadata(correlation_id=str(uuid4()), actor="clock"),
                )
                for order_id in overdue
            ],
            using=using,
        )
    for refusal in result.refused:
        logger.warning("order.not_cancelled", order=numbers.to_text(refusal.command.order_id), error=str(refusal.error))
    return len(result.recorded)


def prune_idempotency_keys(now: datetime, using: str, limit: int) -> int:
    """Delete up to `limit` keys of a shard that are older than `KEEP_KEYS`; returns how many were deleted."""
    connection = connections[using]
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM orders_idempotencykey WHERE (customer_id, key) IN"
            " (SELECT customer_id, key FROM orders_idempotencykey WHERE created_at < %s ORDER BY created_at LIMIT %s)",
            [time_to_db(connection, now - KEEP_KEYS), limit],
        )
        return cursor.rowcount


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """What the read model has of one order: a row in ORDER_COLUMNS, and its lines by position in LINE_COLUMNS."""

    order: tuple[Any, ...]
    lines: list[tuple[Any, ...]]


def rows_of(history: Sequence[Recorded[Event]]) -> Rows:
    """What the read model must have of the order whose events these are, from its placement on."""
    row = projections.row_of(history)
    return Rows(order=tuple(row[column] for column in ORDER_COLUMNS), lines=projections.lines_of(history))


@dataclass(frozen=True, slots=True, kw_only=True)
class _NewOrder:
    """An order that is accepted but not written yet."""

    command: PlaceOrder
    events: NewEvents
    idempotency: IdempotencyKey | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Written:
    """What the claim of its idempotency key has found (an order without one needs none), and the order's events."""

    claim: Claim
    recorded: Sequence[Recorded[Event]]


def _place(command: PlaceOrder, metadata: Metadata, idempotency: IdempotencyKey | None, using: str) -> Placement:
    try:
        events = decide(Order(), command)
    except OrderError:
        if idempotency is not None and (first := _find_key(command.customer_id, idempotency, using)) is not None:
            return first
        raise
    if idempotency is not None:
        metadata = replace(metadata, request=digest_of(idempotency.key, idempotency.fingerprint))
    write = NewEvents(stream_id=command.order_id, expected_version=0, events=events, metadata=metadata)
    order = _NewOrder(command=command, events=write, idempotency=idempotency)
    write_order = _new_orders.alone if shards.is_moving(numbers.bucket_of(command.order_id)) else _new_orders.submit
    written = write_order(using, order)
    if written.claim is Claim.NEW:
        return _placement(written.recorded, replayed=False)
    if written.claim is Claim.IN_FLIGHT or idempotency is None:
        raise IdempotencyInFlight
    first = _find_key(command.customer_id, idempotency, using)
    if first is None:
        raise IdempotencyInFlight  # the old key was pruned just now: the next request will get it
    return first


def _write(using: str, orders: Sequence[_NewOrder]) -> list[_Written]:
    claims = _claim_keys(orders, using)
    new = [order.events for order in orders if claims[order.command.order_id] is Claim.NEW]
    recorded: dict[int, list[Recorded[Event]]] = {order.command.order_id: [] for order in orders}
    for item in _append(new, {write.stream_id: [] for write in new}, using=using):
        recorded[item.stream_id].append(item)
    order_ids = (order.command.order_id for order in orders)
    return [_Written(claim=claims[order_id], recorded=recorded[order_id]) for order_id in order_ids]


_new_orders: GroupedWrites[_NewOrder, _Written] = GroupedWrites(_write)


def _claim_keys(orders: Sequence[_NewOrder], using: str) -> dict[int, Claim]:
    """Write the orders' keys down, and say of each order whose its key is."""
    rows, locks = [], []
    for order in orders:
        command, idempotency = order.command, order.idempotency
        if idempotency is not None:
            rows.append((command.customer_id, idempotency.key, idempotency.fingerprint, command.order_id, command.at))
            locks.append(f"idempotency:{command.customer_id}:{idempotency.key}")
    claims = {order.command.order_id: Claim.NEW for order in orders}
    if rows:
        keys = Insertion(table="orders_idempotencykey", columns=KEY_TYPES, rows=rows, then="ON CONFLICT DO NOTHING")
        claims |= insert_alone(connections[using], keys, locks, by="order_id")
    return claims


def _find_key(customer_id: int, idempotency: IdempotencyKey, using: str) -> Placement | None:
    with connections[using].cursor() as cursor:
        cursor.execute(
            "SELECT fingerprint, order_id FROM orders_idempotencykey WHERE customer_id = %s AND key = %s",
            [customer_id, idempotency.key],
        )
        row = cursor.fetchone()
    if row is None:
        return None
    fingerprint, order_id = row
    if fingerprint != idempotency.fingerprint:
        raise IdempotencyMismatch
    return _placement(store.load(CATEGORY, order_id, using=using), replayed=True)


def _placed_before(command: PlaceOrder, using: str) -> Placement | None:
    """The order that stands under the command's number, if it is the very same."""
    history = store.load(CATEGORY, command.order_id, using=using)
    try:
        decide(fold(recorded.event for recorded in history), command)
    except OrderAlreadyPlaced:
        return None
    return _placement(history, replayed=True)


def _placement(history: Sequence[Recorded[Any]], *, replayed: bool) -> Placement:
    """An order's first event is always its placement."""
    return Placement(order_id=history[0].stream_id, replayed=replayed, placed=history[0].event)


def _handle(command: Command, metadata: Metadata, using: str) -> list[Recorded[Event]]:
    with transaction.atomic(using=using):
        result = handle_batch([(command, metadata)], using=using)
    for refusal in result.refused:
        raise refusal.error
    return list(result.recorded)


def _load_locked(order_ids: Iterable[int], *, using: str) -> dict[int, list[Recorded[Event]]]:
    """The events of some orders, which no other writer can add to before the transaction ends."""
    ids = sorted(order_ids)  # two writers that lock in the same order cannot wait for each other
    rows = models.Order.objects.using(using).filter(id__in=ids).order_by("id").select_for_update(no_key=True)
    list(rows.values_list("id"))
    streams = store.load_many(CATEGORY, ids, using=using)
    return {order_id: streams[order_id] for order_id in ids}


def _append(
    writes: Sequence[NewEvents], histories: dict[int, list[Recorded[Event]]], *, using: str
) -> list[Recorded[Event]]:
    def project(recorded: Sequence[Recorded[Event]]) -> list[Insertion]:
        for item in recorded:
            histories[item.stream_id].append(item)
        return projections.project([histories[order_id] for order_id in {item.stream_id for item in recorded}])

    return store.append(CATEGORY, writes, using=using, along=project)
