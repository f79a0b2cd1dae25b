"""Makes the events of inventory known to the event store."""

from django.apps import AppConfig

from eventing import registry
from inventory import events


class InventoryConfig(AppConfig):
    name = "inventory"

    def ready(self) -> None:
        registry.register_module(events)
