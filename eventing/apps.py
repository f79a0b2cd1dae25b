"""Finds every app's subscribers and registers their queues with Celery."""

from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules

from eventing.retention import Retention, permanent, pruned


class EventingConfig(AppConfig):
    name = "eventing"
    verbose_name = "Event backbone"
    retention = (
        permanent("eventing.Event", "the history"),
        permanent("eventing.DatabaseMark", "one row"),
        Retention(model="eventing.OutboxMessage", keeps="until it is published", task="the relay"),
        Retention(model="eventing.InboxEntry", keeps="EVENTING_INBOX_RETENTION_DAYS", task="Prune inboxes"),
        pruned(
            "eventing.DeadLetter",
            "90 days after it was handled or archived",
            column="settled_at",
            days=90,
            status__in=("handled", "archived"),
        ),
        pruned("eventing.RedriveRun", "90 days after its end", column="finished_at", days=90),
        pruned("eventing.ReplayRun", "90 days after its end", column="updated_at", days=90, state="finished"),
        pruned("eventing.PeriodicRun", "1 year after the schedule last ran", column="finished_at", days=365),
        pruned("eventing.ProcessClock", "1 day after it was noted", column="noted_at", days=1),
    )

    def ready(self) -> None:
        from celery import current_app

        from eventing import integration, topology  # noqa: F401 (importing declares the subscriber)

        autodiscover_modules("subscribers")
        topology.install(current_app)
