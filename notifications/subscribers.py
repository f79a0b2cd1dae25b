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

notifications = Subscriber("notifications", database=lambda recorded: database_of("notifications"))


@notifications.on(
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
def tell_customer(batch: Sequence[Recorded[Any]]) -> None:
    handlers.tell(
        [
            handlers.Occasion(
                about=recorded.event.TYPE.replace(".", "_"),
                customer_id=recorded.event.customer_id,
                event_id=recorded.id,
                correlation_id=recorded.metadata.correlation_id,
                at=recorded.event.at,
                order_id=recorded.stream_id,
                context={"event": recorded.event, "total": _total(recorded.event)},
            )
            for recorded in batch
        ]
    )


def _total(event: Any) -> int | None:
    """What a new order costs, in minor units."""
    if not isinstance(event, OrderPlaced):
        return None
    return sum(line.quantity * line.unit_price for line in event.lines) - event.discount
