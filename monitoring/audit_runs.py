"""Audits in the background: one at a time, by a worker, with their results kept."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import msgspec
from django.db import DEFAULT_DB_ALIAS, connections, transaction

from eventing import clocks, registry
from eventing.locks import try_transaction_lock
from eventing.publishing import request_task
from eventing.queues import BrokerUnavailable
from monitoring.audit import audit
from monitoring.models import AuditRun

TASK = "monitoring.audit"
KEPT = 100
SETTLE_SECONDS = 60.0
GIVEN_UP_AFTER = timedelta(hours=1)  # its worker has died, and nobody has taken over
PROGRESS_SECONDS = 1.0


class AlreadyRunning(Exception):
    """An audit is under way."""


class _Check(msgspec.Struct):
    name: str
    title: str
    violations: int
    offenders: list[Any]
    unavailable: list[str]


class _Report(msgspec.Struct):
    checks: list[_Check]


registry.describe(_Report)


def checks_of(run: AuditRun) -> list[dict[str, Any]]:
    """What each check of an audit has found; none if it has no report, or one that another version has written."""
    report: Any = run.report
    try:
        msgspec.convert(report, _Report)
    except msgspec.ValidationError:
        return []
    return list(report["checks"])


def running() -> AuditRun | None:
    """The audit that is under way."""
    return AuditRun.objects.filter(finished_at=None, started_at__gt=clocks.database_time() - GIVEN_UP_AFTER).first()


def start(by: str, settle_seconds: float = SETTLE_SECONDS) -> AuditRun:
    """Ask a worker for an audit. Raises AlreadyRunning, or BrokerUnavailable when nobody can be asked."""
    with transaction.atomic():
        if not try_transaction_lock(connections[DEFAULT_DB_ALIAS], TASK) or running() is not None:
            raise AlreadyRunning
        run = AuditRun.objects.create(
            started_at=clocks.database_time(), by=by, settle_seconds=settle_seconds, progress="waiting for a worker"
        )
    try:
        request_task(TASK, {"run_id": run.pk})
    except BrokerUnavailable:
        run.delete()
        raise
    return run


def perform(run_id: int | None) -> AuditRun | None:
    """Do the audit and keep its report; None if that has been done. Without an id it is the clock that wants one."""
    if run_id is None:
        run = AuditRun.objects.create(started_at=clocks.database_time(), settle_seconds=SETTLE_SECONDS)
    else:
        found = AuditRun.objects.filter(pk=run_id, finished_at=None).first()
        if found is None:
            return None
        run = found
    told = float("-inf")

    def say(text: str) -> None:
        nonlocal told
        if time.monotonic() - told >= PROGRESS_SECONDS:
            told = time.monotonic()
            AuditRun.objects.filter(pk=run.pk).update(progress=text[:200])

    try:
        report = audit(settle=timedelta(seconds=run.settle_seconds), say=say)
    except Exception as error:
        run.error = type(error).__name__
        raise
    else:
        run.was_clean, run.report = report.clean, report.as_dict()
    finally:
        run.finished_at, run.progress = clocks.database_time(), ""
        run.save(update_fields=["finished_at", "progress", "was_clean", "report", "error"])
        AuditRun.objects.exclude(pk__in=AuditRun.objects.values("pk")[:KEPT]).delete()
    return run
