"""Notifications: tells customers what happens to their orders, by e-mail and in the shop's inbox."""

from django.apps import AppConfig

from eventing.retention import Retention, pruned


class NotificationsConfig(AppConfig):
    name = "notifications"
    retention = (
        pruned("notifications.Message", "1 year", column="created_at", days=365, status__in=("sent", "failed")),
        Retention(model="mail files (EMAIL_FILE_PATH)", keeps="30 days", task="Prune mail files"),
    )

    def ready(self) -> None:
        from eventing import registry
        from notifications import events

        registry.register_module(events)
