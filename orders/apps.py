"""Makes the events of orders known to the event store."""

from typing import Any

from django.apps import AppConfig

from eventing import registry
from eventing.retention import Retention, permanent
from orders import events
from values.contexts import Context, Page


@registry.upcaster("order.placed", 1)
def without_address(data: dict[str, Any]) -> dict[str, Any]:
    """Orders had no address before version 2."""
    return data | {"ship_to": None}


class OrdersConfig(AppConfig):
    name = "orders"
    context = Context(
        order_streams=(events.CATEGORY,),
        last_events=(events.OrderRejected, events.OrderDelivered, events.OrderCancelled, events.OrderRefunded),
        orders_wait=True,
        sharded_tables={"orders_order": "id", "orders_orderline": "order_id", "orders_idempotencykey": "order_id"},
    )
    pages = (
        Page(
            "Orders",
            "orders.order",
            "Orders",
            "receipt_long",
            "The newest of all shards, and what happened to each.",
        ),
    )
    retention = (
        permanent("orders.Order", "the books"),
        permanent("orders.OrderLine", "the books"),
        Retention(model="orders.IdempotencyKey", keeps="24 hours", task="Prune idempotency keys"),
    )

    def ready(self) -> None:
        from orders import projections  # noqa: F401 (importing registers the read model)

        registry.register_module(events)
