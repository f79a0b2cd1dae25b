"""Makes the events of orders known to the event store."""

from django.apps import AppConfig

from eventing import registry
from orders import events


class OrdersConfig(AppConfig):
    name = "orders"

    def ready(self) -> None:
        registry.register_module(events)
