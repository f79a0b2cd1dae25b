"""The read model of orders, derived from their events alone: the same events always give the same rows."""

from collections.abc import Sequence
from typing import Any, assert_never

from django.db import connections

from eventing.databases import placeholders, time_to_db
from eventing.recorded import Recorded
from orders.domain import Status, sum_of
from orders.events import (
    Event,
    OrderCancelled,
    OrderCheckPassed,
    OrderConfirmed,
    OrderDelivered,
    OrderPaid,
    OrderPlaced,
    OrderRefunded,
    OrderRejected,
    OrderShipped,
)

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
    """The rows of an order's lines, in LINE_COLUMNS."""
    placed = history[0]
    if not isinstance(placed.event, OrderPlaced):
        return []
    return [
        (placed.stream_id, position, line.sku, line.name, line.quantity, line.unit_price)
        for position, line in enumerate(placed.event.lines, start=1)
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
