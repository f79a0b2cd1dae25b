"""What orders mean for stock."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import assert_never

from django.utils import timezone

from eventing.recorded import Metadata, Recorded
from eventing.subscribers import Subscriber
from inventory import handlers
from inventory.commands import Command, ReleaseStock, ReserveStock, ShipStock
from inventory.events import ReservedItem
from orders.events import OrderCancelled, OrderPlaced, OrderRefunded, OrderRejected, OrderShipped
from sharding.router import database_of

OrderEvent = OrderPlaced | OrderRejected | OrderCancelled | OrderRefunded | OrderShipped

inventory = Subscriber("inventory", database=lambda recorded: database_of("inventory"))


# One handler for all of them: a batch takes its locks once and in order, whatever mixture of events it brings.
@inventory.on(OrderPlaced, OrderRejected, OrderCancelled, OrderRefunded, OrderShipped)
def follow_orders(batch: Sequence[Recorded[OrderEvent]]) -> None:
    now = timezone.now()
    handlers.handle_batch(
        [(_command(recorded, now), Metadata.caused_by(recorded, actor="inventory")) for recorded in batch]
    )


def _command(recorded: Recorded[OrderEvent], now: datetime) -> Command:
    order_id = recorded.stream_id
    match recorded.event:
        case OrderPlaced(lines=lines):
            items = tuple(ReservedItem(sku=line.sku, quantity=line.quantity) for line in lines)
            return ReserveStock(order_id=order_id, items=items, at=now)
        case OrderRejected() | OrderCancelled() | OrderRefunded():
            return ReleaseStock(order_id=order_id, at=now)
        case OrderShipped():
            return ShipStock(order_id=order_id, at=now)
        case _:
            assert_never(recorded.event)
