"""The back office's page of audits: the last results, and a button for the next."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.admin.models import ADDITION
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_safe

from backoffice.base import log, render_page
from eventing.queues import BrokerUnavailable
from monitoring import audit_rounds, audit_runs
from monitoring.audit_runs import AlreadyRunning
from monitoring.models import AuditRun

SHOWN = 20  # offenders of a check, and earlier runs


def sees_audits(request: HttpRequest) -> bool:
    return request.user.has_perm("monitoring.view_auditrun")


def may_run(request: HttpRequest) -> bool:
    return request.user.has_perm("monitoring.add_auditrun")


@require_http_methods(["GET", "HEAD", "POST"])
def audits(request: HttpRequest) -> HttpResponse:
    """The newest audit and the ones before; POST starts another."""
    if request.method == "POST":
        if not may_run(request):
            raise PermissionDenied
        _start(request)
        return redirect("audit")
    return _page(request, AuditRun.objects.first())


@require_safe
def audit_run(request: HttpRequest, run_id: int) -> HttpResponse:
    """One audit; for htmx its results alone."""
    run = get_object_or_404(AuditRun, pk=run_id)
    if request.headers.get("HX-Request"):
        return render(request, "admin/monitoring/audit_run.html", _results(run))
    return _page(request, run)


def _start(request: HttpRequest) -> None:
    try:
        run = audit_runs.start(request.user.get_username())
    except AlreadyRunning:
        messages.info(request, "An audit is running already.")
    except BrokerUnavailable:
        messages.error(request, "The broker does not answer, so no worker can start. `manage.py audit` needs none.")
    else:
        log(request, run, "Started.", ADDITION)


def _page(request: HttpRequest, run: AuditRun | None) -> HttpResponse:
    context = {
        **_results(run),
        "runs": AuditRun.objects.defer("report")[:SHOWN],
        "known": audit_rounds.known(),
        "may_run": may_run(request),
    }
    return render_page(request, "monitoring/audits", "Audit", context)


def _results(run: AuditRun | None) -> dict[str, Any]:
    """What the template of the results needs. A run whose worker has died counts as finished."""
    under_way = run is not None and run.finished_at is None and audit_runs.running() is not None
    checks = audit_runs.checks_of(run) if run is not None else []
    if run is not None and run.report is not None and not checks:
        run.report, run.error = None, "its report is in the form of another version"
    return {
        "run": run,
        "under_way": under_way,
        "checks": [
            check | {"offenders": (shown := check["offenders"][:SHOWN]), "more": check["violations"] - len(shown)}
            for check in sorted(checks, key=lambda check: (not check["violations"], not check["unavailable"]))
        ],
        "violations": sum(check["violations"] for check in checks),
    }
