"""What customers are told about. The text of an event is the template of its type: order.placed → order_placed.txt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eventing.recorded import Recorded
from eventing.subscribers import Subscriber
from notifications import handlers
from orders.events import (
    OrderCancelled,
    OrderConfirmed,
    OrderDeadlineExtended,
    OrderDelivered,
    OrderPaid,
    OrderPlaced,
    OrderRefunded,
    OrderRejected,
    OrderShipped,
)
from payments.events import PaymentDeclined, PaymentRefunded
from sharding.router import database_of

notifications = Subscriber(
    "notifications", database=lambda recorded: database_of("notifications"), outside_effects=True
)

NEWS = (
    OrderPlaced,
    OrderConfirmed,
    OrderRejected,
    OrderDeadlineExtended,
    OrderPaid,
    OrderShipped,
    OrderDelivered,
    OrderCancelled,
    OrderRefunded,
    PaymentDeclined,
    PaymentRefunded,
)


@notifications.on(*NEWS)
def tell_customer(batch: Sequence[Recorded[Any]]) -> None:
    handlers.tell([_occasion(recorded) for recorded in batch])


@notifications.quietly(*NEWS)
def fill_inbox(batch: Sequence[Recorded[Any]]) -> None:
    """A replay may restore what customers read in the shop, but old news are not mailed."""
    handlers.tell([_occasion(recorded) for recorded in batch], by_mail=False)


def _occasion(recorded: Recorded[Any]) -> handlers.Occasion:
    return handlers.Occasion(
        about=recorded.event.TYPE.replace(".", "_"),
        customer_id=recorded.event.customer_id,
        event_id=recorded.id,
        correlation_id=recorded.metadata.correlation_id,
        at=recorded.event.at,
        order_id=recorded.stream_id,
        context={"event": recorded.event, "total": _total(recorded.event)},
    )


def _total(event: Any) -> int | None:
    """What a new order costs, in minor units."""
    if not isinstance(event, OrderPlaced):
        return None
    return sum(line.quantity * line.unit_price for line in event.lines) - event.discount
