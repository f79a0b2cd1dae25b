"""Makes the events of coupons known to the event store."""

from django.apps import AppConfig

from eventing import registry
from coupons import events


class CouponsConfig(AppConfig):
    name = "coupons"

    def ready(self) -> None:
        registry.register_module(events)
