"""Payments: captures an order's money at a gateway and gives it back when the order comes to nothing."""

from django.apps import AppConfig


class PaymentsConfig(AppConfig):
    name = "payments"

    def ready(self) -> None:
        from eventing import registry
        from payments import events

        registry.register_module(events, sealed=True)
