"""Health, metrics, dashboards, the audit, and the circuit breakers of all processes."""

from typing import Any

from django.apps import AppConfig

from eventing.retention import Retention, permanent, pruned
from values.contexts import Page


class MonitoringConfig(AppConfig):
    name = "monitoring"
    pages = (
        Page("Orders", "monitoring.stuckorder", "Stuck orders", "hourglass_disabled", "What each of them waits for."),
        Page(
            "Orders", "monitoring.dailysales", "Sales by day", "bar_chart", "What was ordered, and what became of it."
        ),
        Page(
            "Operations",
            "monitoring.auditrun",
            "Audit",
            "verified",
            "Checks that nothing was lost, doubled or oversold.",
            "audit",
        ),
    )
    retention = (
        permanent("monitoring.DailySales", "one row a day and currency"),
        Retention(model="monitoring.StuckOrder", keeps="while it is stuck", task="Report stuck orders"),
        pruned("monitoring.OpenCircuit", "1 day after its process was last heard of", column="retry_at", days=1),
        Retention(model="monitoring.AuditRun", keeps="the newest 100", task="Audit"),
        Retention(model="monitoring.AuditRound", keeps="the newest 2", task="Audit in portions"),
    )

    urls = "monitoring.probes"

    def serve(self, application: Any) -> Any:
        """The application with the probes in front of it, which are answered on HEALTH_PORT as well."""
        from monitoring import probes

        probes.serve()
        return probes.Probes(application)

    def ready(self) -> None:
        from caching import breakers
        from monitoring import checks, circuits, health

        breakers.on_change(circuits.record)
        breakers.ask_also(circuits.is_closed)
        health.register(checks.checks)
