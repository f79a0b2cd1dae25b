"""Orders for tests: commands as the edge would give them, and ways to bring an order into a state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from eventing.models import Event, OutboxMessage
from eventing.recorded import Metadata
from orders import handlers
from orders.commands import (
    CancelOrder,
    Command,
    ConfirmOrder,
    DeliverOrder,
    PayOrder,
    RefundOrder,
    RejectOrder,
    ShipOrder,
)
from orders.domain import Status
from orders.events import CancelReason, Check, RejectReason, ShortItem
from orders.models import IdempotencyKey, Order, OrderLine
from sharding import shards
from tests.factories import NOON, PlacementFactory

TOTAL = 2100


def metadata(correlation_id: str = "test") -> Metadata:
    return Metadata(correlation_id=correlation_id, actor="test")


def place(customer_id: int = 7, **changes: Any) -> int:
    """Place an order and return its id."""
    return handlers.place_order(PlacementFactory.build(customer_id=customer_id, **changes), metadata()).order_id


def confirm(order_id: int, *, check: Check = Check.STOCK) -> ConfirmOrder:
    return ConfirmOrder(order_id=order_id, check=check, at=NOON)


def reject(order_id: int) -> RejectOrder:
    short = (ShortItem(sku="tea", wanted=2, available=1),)
    return RejectOrder(order_id=order_id, reason=RejectReason.OUT_OF_STOCK, short=short, at=NOON)


def pay(order_id: int, *, payment_id: str = "p1", amount: int = TOTAL) -> PayOrder:
    return PayOrder(order_id=order_id, payment_id=payment_id, amount=amount, currency="EUR", at=NOON)


def cancel(order_id: int) -> CancelOrder:
    return CancelOrder(order_id=order_id, reason=CancelReason.CUSTOMER, at=NOON)


def ship(order_id: int) -> ShipOrder:
    return ShipOrder(order_id=order_id, tracking="T1", at=NOON)


def deliver(order_id: int) -> DeliverOrder:
    return DeliverOrder(order_id=order_id, at=NOON)


def refund(order_id: int) -> RefundOrder:
    return RefundOrder(order_id=order_id, at=NOON)


WAYS: dict[Status, tuple[Callable[[int], Command], ...]] = {
    Status.PLACED: (),
    Status.CONFIRMED: (confirm,),
    Status.REJECTED: (reject,),
    Status.PAID: (confirm, pay),
    Status.SHIPPED: (confirm, pay, ship),
    Status.DELIVERED: (confirm, pay, ship, deliver),
    Status.CANCELLED: (confirm, cancel),
    Status.REFUNDED: (confirm, pay, refund),
}


def order_in(status: Status, customer_id: int = 7, **changes: Any) -> int:
    """Place an order and lead it to a status; returns its id."""
    order_id = place(customer_id, **changes)
    for command in WAYS[status]:
        ask(command(order_id))
    return order_id


def ask(command: Command) -> list[str]:
    """Handle a command; returns the names of the events that it caused."""
    return [type(recorded.event).__name__ for recorded in handlers.handle(command, metadata())]


def row(order_id: int) -> dict[str, Any]:
    return dict(Order.objects.using(shards.alias_of(order_id)).filter(id=order_id).values().get())


def stored() -> dict[str, int]:
    """How many rows of each kind there are, over all shards."""
    return {
        model.__name__: sum(model.objects.using(alias).count() for alias in shards.aliases())
        for model in (Event, OutboxMessage, Order, OrderLine, IdempotencyKey)
    }


NOTHING = {"Event": 0, "OutboxMessage": 0, "Order": 0, "OrderLine": 0, "IdempotencyKey": 0}
