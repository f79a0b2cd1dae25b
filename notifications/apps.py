"""Notifications: informs customers of their orders, by e-mail and in the shop's inbox."""

from django.apps import AppConfig

from eventing.retention import Retention, pruned
from notifications import events, promises
from values.contexts import Context, Page


class NotificationsConfig(AppConfig):
    name = "notifications"
    context = Context(
        other_streams=(events.CATEGORY,),
        last_events=(events.MessageSent,),
        promises=promises.PROMISES,
    )
    pages = (
        Page(
            "Payments & messages",
            "notifications.message",
            "Messages",
            "mail",
            "Messages to customers, as they were sent.",
        ),
    )
    retention = (
        pruned("notifications.Message", "1 year", column="created_at", days=365, status__in=("sent", "failed")),
        Retention(model="mail files (EMAIL_FILE_PATH)", keeps="30 days", task="Prune mail files"),
    )

    def ready(self) -> None:
        from eventing import registry

        registry.register_module(events)
