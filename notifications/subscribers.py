"""What customers are notified of. The text of an event is the template of its type: order.placed → order_placed.txt."""

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
    handlers.notify([handlers.occasion_of(recorded) for recorded in batch])


@notifications.quietly(*NEWS)
def fill_inbox(batch: Sequence[Recorded[Any]]) -> None:
    """A replay may restore what customers read in the shop, but sends no mail about old events."""
    handlers.notify([handlers.occasion_of(recorded) for recorded in batch], by_mail=False)
