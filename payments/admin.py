"""Payments for operators, to look at: money moves with the order, by its own page."""

from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest
from unfold.decorators import display

from config.backoffice import OfOrders, order_link
from payments.models import Payment
from storefront.templatetags.shop import money

COLOURS = {
    Payment.Status.REQUESTED: "info",
    Payment.Status.CAPTURED: "success",
    Payment.Status.DECLINED: "danger",
    Payment.Status.REFUND_REQUESTED: "warning",
    Payment.Status.REFUNDED: "default",
}


@admin.register(Payment)
class PaymentAdmin(OfOrders):
    """The token stays out of sight: whoever has it can pay with it."""

    list_display = ("requested_at", "order", "sum", "state", "attempt", "decline_reason")
    list_display_links = ("requested_at",)
    list_filter = ("status",)
    ordering = ("-requested_at", "-id")
    fields = (
        "order", "sum", "state", "attempt", "requested_at", "settled_at", "refunded_at", "decline_reason",
        "gateway_reference", "refund_reference", "id",
    )  # fmt: skip

    def get_sortable_by(self, request: HttpRequest) -> tuple[str, ...]:
        return ("requested_at",)

    @display(description="order")
    def order(self, payment: Payment) -> str | None:
        return order_link(payment.order_id)

    @display(description="amount")
    def sum(self, payment: Payment) -> str:
        return money(payment.amount, payment.currency)

    @display(description="status", label=COLOURS)
    def state(self, payment: Payment) -> tuple[str, str]:
        return payment.status, payment.get_status_display()
