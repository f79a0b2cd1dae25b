"""Makes the events of inventory known to the event store."""

from django.apps import AppConfig

from eventing import registry
from eventing.retention import permanent
from inventory import events, promises
from values.contexts import Context, Page


class InventoryConfig(AppConfig):
    name = "inventory"
    context = Context(
        order_streams=(events.RESERVATION,),
        other_streams=(events.PRODUCT,),
        last_events=(events.StockRefused, events.StockReleased, events.StockShipped),
        orders_wait=True,
        promises=promises.PROMISES,
    )
    pages = (
        Page(
            "Catalogue",
            "inventory.product",
            "Products",
            "inventory_2",
            "What is sold, at which price, and what is in stock.",
        ),
        Page("Catalogue", "inventory.category", "Categories", "category", "The shelves of the shop."),
        Page(
            "Catalogue",
            "inventory.stockmovement",
            "Stock movements",
            "swap_vert",
            "The ledger of what came in and went out.",
        ),
        Page("Catalogue", "inventory.reservation", "Reservations", "bookmark", "What is set aside for orders."),
    )
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
