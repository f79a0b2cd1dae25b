"""Addresses for probes and for Prometheus, which tell strangers no more than numbers and names of parts; and the
numbers of the back office's first page, for operators."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from django_htmx.http import HttpResponseClientRefresh
from prometheus_client.exposition import choose_encoder

from monitoring import dashboard as numbers
from monitoring import health
from monitoring.metrics import registry
from orders.admin import COLOURS


@require_safe
@never_cache
def healthz(request: HttpRequest) -> JsonResponse:
    """The process is alive. It asks nobody: a restart would not bring a database back."""
    return JsonResponse({"status": health.Status.OK})


@require_safe
@never_cache
def readyz(request: HttpRequest) -> JsonResponse:
    """200 if the process can be given requests, else 503; the body names every dependency."""
    readiness = health.readiness()
    return JsonResponse(asdict(readiness), status=503 if readiness.status is health.Status.UNAVAILABLE else 200)


@require_safe
@never_cache
def metrics(request: HttpRequest) -> HttpResponse:
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return HttpResponse(encode(registry()), content_type=content_type)


@require_safe
@never_cache
def dashboard(request: HttpRequest) -> HttpResponse:
    """The dashboard's numbers alone, with which its page replaces the old ones; for operators only."""
    if not admin.site.has_permission(request):
        # Whoever has been signed out meanwhile is led to the page on which to sign in.
        return HttpResponseClientRefresh() if request.headers.get("HX-Request") else redirect("admin:index")
    return render(request, "monitoring/dashboard.html", with_dashboard(request, {}))


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
            }.items()
        },
    }


def _may_see(request: HttpRequest, app_label: str, model: str) -> bool:
    return any(request.user.has_perm(f"{app_label}.{verb}_{model}") for verb in ("view", "change"))
