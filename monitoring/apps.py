"""Health and metrics; no tables of its own."""

from django.apps import AppConfig


class MonitoringConfig(AppConfig):
    name = "monitoring"
