"""Finds every app's subscribers and tells Celery their queues."""

from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules


class EventingConfig(AppConfig):
    name = "eventing"
    verbose_name = "Event backbone"

    def ready(self) -> None:
        from celery import current_app

        from eventing import integration, topology  # noqa: F401 (importing declares the subscriber)

        autodiscover_modules("subscribers")
        topology.install(current_app)
