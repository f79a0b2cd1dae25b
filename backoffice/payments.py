"""Payments for operators, to look at: money moves with the order, by its own page."""

from __future__ import annotations

from django.contrib import admin
from unfold.decorators import display

from backoffice.base import OfOrders, time
from payments.models import Payment
from values.filters import money

COLOURS = {
    Payment.Status.REQUESTED.label: "info",
    Payment.Status.CAPTURED.label: "success",
    Payment.Status.DECLINED.label: "danger",
    Payment.Status.REFUND_REQUESTED.label: "warning",
    Payment.Status.REFUNDED.label: "default",
}


@admin.register(Payment)
class PaymentAdmin(OfOrders):
    """The token stays out of sight: whoever has it can pay with it."""

    list_display = ("requested", "order", "sum", "state", "attempt", "decline_reason")
    list_display_links = ("requested",)
    list_filter = ("status",)
    ordering = ("-requested_at", "-id")
    fields = (
        "order", "sum", "state", "attempt", "requested_at", "settled_at", "refunded_at", "decline_reason",
        "gateway_reference", "refund_reference", "id",
    )  # fmt: skip

    requested = time("requested_at", "requested")

    @display(description="amount")
    def sum(self, payment: Payment) -> str:
        return money(payment.amount, payment.currency)

    @display(description="status", label=COLOURS)
    def state(self, payment: Payment) -> str:
        return payment.get_status_display()
