"""Health, metrics, dashboards, the audit, and the circuit breakers of all processes."""

from django.apps import AppConfig


class MonitoringConfig(AppConfig):
    name = "monitoring"

    def ready(self) -> None:
        from config import breakers
        from monitoring import checks, circuits, health

        breakers.on_change(circuits.record)
        health.register(checks.checks)
