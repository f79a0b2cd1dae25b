"""Notifications: tells customers what happens to their orders, by e-mail and in the shop's inbox."""

from django.apps import AppConfig


class NotificationsConfig(AppConfig):
    name = "notifications"

    def ready(self) -> None:
        from eventing import registry
        from notifications import events

        registry.register_module(events)
