"""Background tasks of the operators' side."""

from __future__ import annotations

from celery import shared_task

from monitoring import audit_runs


@shared_task(name=audit_runs.TASK)
def run_audit(run_id: int | None = None) -> None:
    """Do the audit that an operator has asked for, or one of the clock's own."""
    audit_runs.perform(run_id)
