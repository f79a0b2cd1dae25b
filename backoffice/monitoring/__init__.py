"""The first page with its numbers, the audit, and reports, for operators."""

from __future__ import annotations

from django.contrib import admin
from django.urls import path
from django.utils.html import format_html_join
from django.utils.safestring import mark_safe
from unfold.decorators import display

from backoffice.base import OfOrders, ReadOnlyList, guarded, time
from backoffice.monitoring import audit, dashboard
from monitoring.models import DailySales, StuckOrder
from values.filters import money

urlpatterns = [
    path("dashboard/", dashboard.numbers_alone, name="dashboard"),
    path("monitoring/audit/", guarded(audit.audits, audit.sees_audits), name="audit"),
    path("monitoring/audit/<int:run_id>/", guarded(audit.audit_run, audit.sees_audits), name="audit_run"),
]


@admin.register(DailySales)
class DailySalesAdmin(ReadOnlyList):
    """What was ordered on each day, and what has become of it: today's every minute, others for a week."""

    nothing_yet = "The orders of today are counted every minute, and those of other days once a day."

    list_display = ("day", "orders", "paid", "rejected", "cancelled", "refunded", "amount", "counted")
    list_filter = ("currency",)
    ordering = ("-day", "-id")

    @display(description="revenue")
    def amount(self, sales: DailySales) -> str:
        return money(sales.revenue, sales.currency)

    counted = time("counted_at", "counted at")


@admin.register(StuckOrder)
class StuckOrderAdmin(OfOrders):
    """Orders that were neither confirmed nor rejected within a minute."""

    list_display = ("order", "placed", "waits_for", "reported")
    list_display_links = None
    ordering = ("-placed_at", "-order_id")

    placed = time("placed_at", "placed")

    @display(description="waits for")
    def waits_for(self, stuck: StuckOrder) -> str:
        return format_html_join(mark_safe("<br>"), "{}", ((reason,) for reason in stuck.waiting_for.splitlines()))

    reported = time("reported_at", "as of")
