"""Payments: captures an order's money at a gateway and gives it back when the order comes to nothing."""

from django.apps import AppConfig

from eventing.retention import permanent
from payments import events, promises
from values.contexts import Context, Page


class PaymentsConfig(AppConfig):
    name = "payments"
    context = Context(
        order_streams=(events.CATEGORY,),
        last_events=(events.PaymentRefunded,),
        orders_wait=True,
        promises=promises.PROMISES,
    )
    pages = (
        Page(
            "Payments & messages",
            "payments.payment",
            "Payments",
            "credit_card",
            "What was captured, declined and given back.",
        ),
    )
    retention = (
        permanent("payments.Account", "one row an order, the books"),
        permanent("payments.Payment", "the books"),
        permanent("payments.SandboxCharge", "the books of the sandbox gateway"),
    )

    def ready(self) -> None:
        from eventing import registry

        registry.register_module(events, sealed=True)
