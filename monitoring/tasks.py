"""Background tasks of the operators' side. A report that is written twice says the same again."""

from __future__ import annotations

from celery import shared_task
from django.conf import settings
from django.utils import timezone

from eventing.periodic import left_to_the_next_run
from monitoring import audit_runs, reports

AUDIT_SECONDS = None if settings.EMBEDDED else 25 * 60  # threads cannot be interrupted


# Longer than other tasks, and below the half hour after which RabbitMQ takes a message back.
@shared_task(name=audit_runs.TASK, soft_time_limit=AUDIT_SECONDS, time_limit=AUDIT_SECONDS and AUDIT_SECONDS + 30)
def run_audit(run_id: int | None = None) -> None:
    """Do the audit that an operator has asked for, or one of the clock's own."""
    audit_runs.perform(run_id)


@shared_task(name="monitoring.summarise_sales")
@left_to_the_next_run
def summarise_sales() -> int:
    return reports.summarise_sales(timezone.now())


@shared_task(name="monitoring.report_stuck_orders")
@left_to_the_next_run
def report_stuck_orders() -> int:
    return reports.report_stuck_orders(timezone.now())
