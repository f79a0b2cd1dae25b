"""Payments: captures an order's money at a gateway and gives it back when the order comes to nothing."""

from django.apps import AppConfig

from eventing.retention import permanent


class PaymentsConfig(AppConfig):
    name = "payments"
    retention = (
        permanent("payments.Account", "one row an order, the books"),
        permanent("payments.Payment", "the books"),
        permanent("payments.SandboxCharge", "the books of the sandbox gateway"),
    )

    def ready(self) -> None:
        from eventing import registry
        from payments import events

        registry.register_module(events, sealed=True)
