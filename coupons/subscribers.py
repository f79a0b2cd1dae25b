"""What orders mean for coupons."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import assert_never

from django.utils import timezone

from coupons import handlers
from coupons.commands import Command, RedeemCoupon, ReleaseCoupon
from eventing.recorded import Metadata, Recorded
from eventing.subscribers import Subscriber
from orders.events import OrderCancelled, OrderPlaced, OrderRefunded, OrderRejected
from sharding.router import database_of

OrderEvent = OrderPlaced | OrderRejected | OrderCancelled | OrderRefunded

coupons = Subscriber("coupons", database=lambda recorded: database_of("coupons"))


# One handler for all of them: a batch takes its locks once and in order, whatever mixture of events it brings.
@coupons.on(OrderPlaced, OrderRejected, OrderCancelled, OrderRefunded)
def follow_orders(batch: Sequence[Recorded[OrderEvent]]) -> None:
    commands = list(_commands(batch, timezone.now()))
    if commands:
        handlers.handle_batch(commands)


def _commands(batch: Sequence[Recorded[OrderEvent]], now: datetime) -> Iterator[tuple[Command, Metadata]]:
    for recorded in batch:
        metadata = Metadata.caused_by(recorded, actor="coupons")
        match recorded.event:
            case OrderPlaced() as placed:
                if placed.coupon_code is None:
                    continue
                yield (
                    RedeemCoupon(
                        order_id=recorded.stream_id,
                        customer_id=placed.customer_id,
                        code=placed.coupon_code,
                        subtotal=sum(line.quantity * line.unit_price for line in placed.lines),
                        currency=placed.currency,
                        discount=placed.discount,
                        placed_at=placed.at,
                        at=now,
                    ),
                    metadata,
                )
            case OrderRejected() | OrderCancelled() | OrderRefunded() as ended:
                yield (
                    ReleaseCoupon(order_id=recorded.stream_id, customer_id=ended.customer_id, at=now),
                    metadata,
                )
            case _:
                assert_never(recorded.event)
