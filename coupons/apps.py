"""Makes the events of coupons known to the event store."""

from django.apps import AppConfig

from coupons import events
from eventing import registry


class CouponsConfig(AppConfig):
    name = "coupons"

    def ready(self) -> None:
        registry.register_module(events)
