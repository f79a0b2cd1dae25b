"""Makes the events of inventory known to the event store."""

from django.apps import AppConfig

from eventing import registry
from eventing.retention import permanent
from inventory import events


class InventoryConfig(AppConfig):
    name = "inventory"
    retention = (
        permanent("inventory.Category", "the catalogue"),
        permanent("inventory.Product", "the catalogue"),
        permanent("inventory.Stock", "one row a product"),
        permanent("inventory.StockMovement", "the ledger of the stock"),
        permanent("inventory.Reservation", "what orders hold and have held"),
        permanent("inventory.ReservationLine", "what orders hold and have held"),
    )

    def ready(self) -> None:
        registry.register_module(events)
