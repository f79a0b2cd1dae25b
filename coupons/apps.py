"""Makes the events of coupons known to the event store."""

from django.apps import AppConfig

from coupons import events
from eventing import registry
from eventing.retention import permanent


class CouponsConfig(AppConfig):
    name = "coupons"
    retention = (
        permanent("coupons.Coupon", "what was promised"),
        permanent("coupons.Redemption", "the books"),
    )

    def ready(self) -> None:
        registry.register_module(events)
