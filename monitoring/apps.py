"""Health, metrics, dashboards, the audit, and the circuit breakers of all processes."""

from django.apps import AppConfig

from eventing.retention import Retention, permanent, pruned


class MonitoringConfig(AppConfig):
    name = "monitoring"
    retention = (
        permanent("monitoring.DailySales", "one row a day and currency"),
        Retention(model="monitoring.StuckOrder", keeps="while it is stuck", task="Report stuck orders"),
        pruned("monitoring.OpenCircuit", "1 day after its process was last heard of", column="retry_at", days=1),
        Retention(model="monitoring.AuditRun", keeps="the newest 100", task="Audit"),
        Retention(model="monitoring.AuditRound", keeps="the newest 2", task="Audit in portions"),
    )

    def ready(self) -> None:
        from caching import breakers
        from monitoring import checks, circuits, health

        breakers.on_change(circuits.record)
        health.register(checks.checks)
