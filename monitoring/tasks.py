"""Background tasks of the operators' side. A report that is written twice says the same again."""

from __future__ import annotations

from celery import shared_task
from django.utils import timezone

from monitoring import audit_runs, reports


@shared_task(name=audit_runs.TASK)
def run_audit(run_id: int | None = None) -> None:
    """Do the audit that an operator has asked for, or one of the clock's own."""
    audit_runs.perform(run_id)


@shared_task(name="monitoring.summarise_sales")
def summarise_sales() -> int:
    return reports.summarise_sales(timezone.localdate())


@shared_task(name="monitoring.report_stuck_orders")
def report_stuck_orders() -> int:
    return reports.report_stuck_orders(timezone.now())
