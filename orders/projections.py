"""The read model of orders, derived from their events alone: the same events always give the same rows."""

from collections.abc import Sequence
from typing import Any, assert_never

from django.db import connections

from eventing.databases import placeholders, time_to_db
from eventing.projections import Part, Projection, Table, register
from eventing.recorded import Recorded
from orders.domain import Status, sum_of
from orders.events import (
    CATEGORY,
    Event,
    OrderCancelled,
    OrderCheckPassed,
    OrderConfirmed,
    OrderDeadlineExtended,
    OrderDelivered,
    OrderPaid,
    OrderPlaced,
    OrderRefunded,
    OrderRejected,
    OrderShipped,
)
from sharding import numbers, shards

History = Sequence[Recorded[Event]]  # all events of one order, oldest first

COLUMNS = (
    "id",
    "customer_id",
    "status",
    "currency",
    "subtotal",
    "discount",
    "total",
    "coupon_code",
    "placed_at",
    "updated_at",
    "expires_at",
    "version",
    "reason",
)
LINE_COLUMNS = ("order_id", "position", "sku", "name", "quantity", "unit_price")
TIMES = ("placed_at", "updated_at", "expires_at")

# A row never goes back to an older version, whichever of two writers comes last.
UPSERT = (
    f"ON CONFLICT (id) DO UPDATE SET {', '.join(f'{column} = excluded.{column}' for column in COLUMNS[1:])}"
    " WHERE orders_order.version <= excluded.version"
)


def project(histories: Sequence[History], *, using: str) -> None:
    """Write the rows of orders that have new events: one statement for all, one more for lines of new orders.

    To be called in the transaction that appends the events, with everything that has happened to these orders.
    """
    if not histories:
        return
    connection = connections[using]
    parameters: list[Any] = []
    for history in histories:
        row = row_of(history)
        for column in TIMES:
            row[column] = time_to_db(connection, row[column]) if row[column] is not None else None
        parameters += [row[column] for column in COLUMNS]
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO orders_order ({', '.join(COLUMNS)})"
            f" VALUES {placeholders(len(COLUMNS), len(histories))} {UPSERT}",
            parameters,
        )
    project_lines([history for history in histories if len(history) == 1], using=using)  # just placed


def project_lines(histories: Sequence[History], *, using: str) -> None:
    """Write the lines of orders; they never change after the placement."""
    rows = [row for history in histories for row in lines_of(history)]
    if not rows:
        return
    with connections[using].cursor() as cursor:
        cursor.execute(
            f"INSERT INTO orders_orderline ({', '.join(LINE_COLUMNS)})"
            f" VALUES {placeholders(len(LINE_COLUMNS), len(rows))} ON CONFLICT DO NOTHING",
            [value for row in rows for value in row],
        )


def lines_of(history: History) -> list[tuple[Any, ...]]:
    """The rows of the order's lines, in the order of `LINE_COLUMNS`."""
    recorded = history[0]
    if not isinstance(recorded.event, OrderPlaced):
        return []
    return [
        (recorded.stream_id, position, line.sku, line.name, line.quantity, line.unit_price)
        for position, line in enumerate(recorded.event.lines, start=1)
    ]


def row_of(history: History) -> dict[str, Any]:
    """The columns of the order whose events these are."""
    row: dict[str, Any] = {}
    for recorded in history:
        row |= _changes(recorded.event)
        row |= {"id": recorded.stream_id, "version": recorded.version, "updated_at": recorded.event.at}
    return row


def _changes(event: Event) -> dict[str, Any]:
    match event:
        case OrderPlaced():
            subtotal = sum_of(event.lines)
            return {
                "customer_id": event.customer_id,
                "status": Status.PLACED.value,
                "currency": event.currency,
                "subtotal": subtotal,
                "discount": event.discount,
                "total": subtotal - event.discount,
                "coupon_code": event.coupon_code,
                "placed_at": event.at,
                "expires_at": event.payment_due_at,
                "reason": "",
            }
        case OrderCheckPassed():
            return {}
        case OrderConfirmed():
            return {"status": Status.CONFIRMED.value}
        case OrderRejected():
            return {"status": Status.REJECTED.value, "reason": event.reason.value, "expires_at": None}
        case OrderDeadlineExtended():
            return {"expires_at": event.payment_due_at}
        case OrderPaid():
            return {"status": Status.PAID.value, "expires_at": None}
        case OrderShipped():
            return {"status": Status.SHIPPED.value}
        case OrderDelivered():
            return {"status": Status.DELIVERED.value}
        case OrderCancelled():
            return {"status": Status.CANCELLED.value, "reason": event.reason.value, "expires_at": None}
        case OrderRefunded():
            return {"status": Status.REFUNDED.value}
        case _:
            assert_never(event)


def _rows(history: History) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    row = row_of(history)
    return [tuple(row[column] for column in COLUMNS)], lines_of(history)


def _buckets(alias: str) -> list[Part]:
    parts = []
    for bucket in shards.buckets_of(alias):
        low, high = numbers.bucket_range(bucket)
        parts.append(Part(name=f"b{bucket:03d}", first=low, last=high - 1))
    return parts


register(
    Projection(
        name="orders",
        category=CATEGORY,
        tables=(
            Table(name="orders_order", columns=COLUMNS, key=("id",)),
            Table(name="orders_orderline", columns=LINE_COLUMNS, key=("order_id", "position")),
        ),
        rows=_rows,
        aliases=shards.aliases,
        parts=_buckets,
    )
)
