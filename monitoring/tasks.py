"""Background tasks of the operators' side. A report that is written twice says the same again."""

from __future__ import annotations

from django.conf import settings

from eventing import clocks
from eventing.periodic import periodic
from monitoring import audit_rounds, audit_runs, reports, stuck

AUDIT_SECONDS = None if settings.EMBEDDED else 25 * 60  # threads cannot be interrupted


# Longer than other tasks, and below the half hour after which RabbitMQ takes a message back.
@periodic(
    "Audit",
    at=(3, 10),
    name=audit_runs.TASK,
    soft_time_limit=AUDIT_SECONDS,
    time_limit=AUDIT_SECONDS and AUDIT_SECONDS + 30,
)
def run_audit(run_id: int | None = None) -> int:
    """Do the audit that an operator has asked for, or one of the clock's own; returns how many were done."""
    return int(audit_runs.perform(run_id) is not None)


@periodic("Audit in portions", every=60, name="monitoring.audit_portion")
def audit_portion() -> int:
    """Look at the next portion of everything; returns how many orders it was."""
    return audit_rounds.go_on(clocks.database_time())


@periodic("Summarise sales", every=60, name="monitoring.summarise_sales")
def summarise_sales() -> int:
    return reports.summarise_sales(clocks.database_time())


@periodic("Report stuck orders", every=60, name="monitoring.report_stuck_orders")
def report_stuck_orders() -> int:
    return stuck.report_stuck_orders(clocks.database_time())
