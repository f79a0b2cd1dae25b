"""Addresses for probes and for Prometheus. They tell strangers no more than numbers and names of parts."""

from __future__ import annotations

from dataclasses import asdict

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client.exposition import choose_encoder

from monitoring import health
from monitoring.metrics import registry


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
