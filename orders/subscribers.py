"""Runs the process manager: what inventory, coupons and payments have done moves orders on."""

from collections.abc import Sequence
from typing import Any

import structlog
from django.db import IntegrityError, connections
from django.utils import timezone

from coupons.events import CouponRedeemed, CouponRefused
from eventing.errors import Transient, WrongExpectedVersion
from eventing.recorded import Metadata, Recorded
from eventing.subscribers import Subscriber
from inventory.events import StockRefused, StockReserved
from orders import handlers
from orders.domain import NotYetConfirmed, OrderAlreadyPaid, OrderClosed, OrderNotFound
from orders.process import react
from payments.events import PaymentCaptured, PaymentDeclined
from sharding import numbers, shards

orders = Subscriber("orders", database=lambda recorded: shards.alias_of(recorded.stream_id))

logger = structlog.get_logger(__name__)


class OrderNotReady(Transient):
    """The order is not here (yet), is still being checked, or another writer had it in hand."""


@orders.on(StockReserved, StockRefused, CouponRedeemed, CouponRefused, PaymentCaptured, PaymentDeclined)
def advance_orders(batch: Sequence[Recorded[Any]]) -> None:
    """Ask each order for what the event leads to. Raises OrderNotReady, or the OrderError that should never happen.

    A payment that comes too late needs nothing more: payments gives it back on the order's final event.
    """
    now = timezone.now()
    using = shards.alias_of(batch[0].stream_id)
    if not connections[using].in_atomic_block:
        raise OrderNotReady(f"the orders have moved to {using} just now")
    pairs = [
        (command, Metadata.caused_by(recorded, actor="orders"))
        for recorded in batch
        if (command := react(recorded.stream_id, recorded.event, now)) is not None
    ]
    try:
        result = handlers.handle_batch(pairs, using=using)
    except WrongExpectedVersion as error:
        raise OrderNotReady(str(error)) from error
    except IntegrityError as error:
        if not shards.is_not_owned(error):
            raise
        shards.refresh()
        raise OrderNotReady(f"{using} does not own the orders' bucket any more") from error
    for refusal in result.refused:
        number = numbers.to_text(refusal.command.order_id)
        match refusal.error:
            case OrderClosed() | OrderAlreadyPaid():
                logger.info("order.payment_refused", order=number, error=str(refusal.error))
            case OrderNotFound():
                shards.refresh()  # a bucket that has moved away looks empty
                raise OrderNotReady(f"order {number} is not in {using}") from refusal.error
            case NotYetConfirmed():
                raise OrderNotReady(f"order {number}: {refusal.error}") from refusal.error
            case _:
                raise refusal.error
