"""The read model of orders, derived from their events alone: the same events always give the same rows."""

from collections.abc import Sequence
from typing import Any, assert_never

from eventing.databases import Insertion
from eventing.projections import Part, Projection, Table, register
from eventing.recorded import Recorded
from orders.domain import Status, fold, sum_of
from orders.events import (
    CATEGORY,
    Event,
    OrderCancelled,
    OrderCheckPassed,
    OrderConfirmed,
    OrderDeadlineExtended,
    OrderDelivered,
    OrderPaid,
    OrderPaymentFailed,
    OrderPaymentStarted,
    OrderPlaced,
    OrderRefunded,
    OrderRejected,
    OrderShipped,
)
from sharding import numbers, shards

History = Sequence[Recorded[Event]]  # all events of one order, oldest first

TYPES = {
    "id": "bigint",
    "customer_id": "bigint",
    "status": "text",
    "currency": "text",
    "subtotal": "bigint",
    "discount": "bigint",
    "total": "bigint",
    "coupon_code": "text",
    "placed_at": "timestamptz",
    "updated_at": "timestamptz",
    "expires_at": "timestamptz",
    "version": "integer",
    "reason": "text",
    "tracking": "text",
}
COLUMNS = tuple(TYPES)
LINE_TYPES = {
    "order_id": "bigint",
    "position": "integer",
    "sku": "text",
    "name": "text",
    "quantity": "integer",
    "unit_price": "bigint",
}
LINE_COLUMNS = tuple(LINE_TYPES)

# A row never goes back to an older version, whichever of two writers comes last.
UPSERT = (
    f"ON CONFLICT (id) DO UPDATE SET {', '.join(f'{column} = excluded.{column}' for column in COLUMNS[1:])}"
    " WHERE orders_order.version <= excluded.version"
)


def project(histories: Sequence[History]) -> list[Insertion]:
    """What to write about orders that have new events, in the transaction that appends these.

    A history is everything that has happened to an order. The lines of an order never change after its placement.
    """
    rows = [row_of(history) for history in histories]
    orders = [[row[column] for column in COLUMNS] for row in rows]
    written = [Insertion(table="orders_order", columns=TYPES, rows=orders, then=UPSERT)]
    if lines := [row for history in histories if len(history) == 1 for row in lines_of(history)]:
        then = "ON CONFLICT DO NOTHING"
        written.append(Insertion(table="orders_orderline", columns=LINE_TYPES, rows=lines, then=then))
    return written


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
    row["expires_at"] = fold(recorded.event for recorded in history).expires_at
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
                "reason": "",
                "tracking": "",
            }
        case OrderCheckPassed() | OrderDeadlineExtended() | OrderPaymentStarted() | OrderPaymentFailed():
            return {}
        case OrderConfirmed():
            return {"status": Status.CONFIRMED.value}
        case OrderRejected():
            return {"status": Status.REJECTED.value, "reason": event.reason.value}
        case OrderPaid():
            return {"status": Status.PAID.value}
        case OrderShipped():
            return {"status": Status.SHIPPED.value, "tracking": event.tracking}
        case OrderDelivered():
            return {"status": Status.DELIVERED.value}
        case OrderCancelled():
            return {"status": Status.CANCELLED.value, "reason": event.reason.value}
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
