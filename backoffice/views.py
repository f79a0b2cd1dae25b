"""The numbers of the back office's first page, for operators."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from django_htmx.http import HttpResponseClientRefresh

from backoffice import dashboard as numbers
from backoffice.orders import COLOURS


@require_safe
@never_cache
def dashboard(request: HttpRequest) -> HttpResponse:
    """The dashboard's numbers alone, with which its page replaces the old ones; for operators only."""
    if not admin.site.has_permission(request):
        # Whoever has been signed out meanwhile is led to the page on which to sign in.
        return HttpResponseClientRefresh() if request.headers.get("HX-Request") else redirect("admin:index")
    return render(request, "admin/backoffice/dashboard.html", with_dashboard(request, {}))


def with_dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """What the dashboard's template needs, for the page around it as well; see UNFOLD["DASHBOARD_CALLBACK"]."""
    found = numbers.dashboard()
    return context | {
        "dashboard": found,
        "statuses": [(status, COLOURS[status], count) for status, count in found.orders.by_status.items()],
        "queues": [(queue, found.dead_by_subscriber.get(queue.name, 0)) for queue in found.queues or ()],
        "low_stock_limit": numbers.LOW_STOCK,
        "inside": settings.EMBEDDED,
        "sees": {
            part: _may_see(request, app_label, model)
            for part, (app_label, model) in {
                "orders": ("orders", "order"),
                "payments": ("payments", "payment"),
                "dead_letters": ("eventing", "deadletter"),
                "products": ("inventory", "product"),
                "outboxes": ("eventing", "outboxmessage"),
                "shards": ("sharding", "bucket"),
                "audits": ("monitoring", "auditrun"),
            }.items()
        },
    }


def _may_see(request: HttpRequest, app_label: str, model: str) -> bool:
    return any(request.user.has_perm(f"{app_label}.{verb}_{model}") for verb in ("view", "change"))
