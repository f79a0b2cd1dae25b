"""Health, metrics, dashboards and the audit."""

from django.apps import AppConfig


class MonitoringConfig(AppConfig):
    name = "monitoring"
