"""The back office, and Django's admin as it is configured here."""

from typing import Any

from django.apps import AppConfig
from django.contrib import admin
from django.contrib.admin import apps
from django.contrib.admin.checks import check_admin_app, check_dependencies
from django.core import checks

from eventing.retention import permanent, pruned
from values.contexts import Page


class BackofficeConfig(AppConfig):
    name = "backoffice"
    pages = (  # of the apps that know no back office
        Page(
            "Operations",
            "eventing.event",
            "Events",
            "bolt",
            "Every event, and which subscribers have handled it.",
            "events",
        ),
        Page("Operations", "eventing.outboxmessage", "Outbox", "outbox", "Events that wait to be published.", "outbox"),
        Page(
            "Operations",
            "eventing.deadletter",
            "Dead letters",
            "report",
            "Events that a subscriber could not handle, and why.",
        ),
        Page(
            "Operations",
            "django_celery_beat.periodictask",
            "Periodic tasks",
            "schedule",
            "Tasks that run by schedule, and when.",
        ),
        Page(
            "Operations",
            "django_celery_beat.intervalschedule",
            "Intervals",
            "timelapse",
            "Every so many seconds, hours or days.",
        ),
        Page(
            "Operations",
            "django_celery_beat.crontabschedule",
            "Crontabs",
            "calendar_month",
            "At certain times of days and weeks.",
        ),
        Page("People", "auth.user", "Users", "person", "Customers and operators."),
        Page("People", "auth.group", "Groups", "group", "Which operators may do what."),
        Page("People", "admin.logentry", "Operators' actions", "history", "Who changed what, and when."),
    )


class AdminConfig(apps.SimpleAdminConfig):
    """Loads the pages of the back office with the addresses (config/urls.py), not in a relay or a worker."""

    default = False
    retention = (  # of Django's and django-celery-beat's tables
        pruned("sessions.Session", "until it expires", column="expire_date", days=0),
        pruned("admin.LogEntry", "2 years", column="action_time", days=730),
        permanent("auth.User", "accounts"),
        permanent("auth.Group", "roles"),
        permanent("auth.Permission", "as many as the program knows"),
        permanent("auth.User_groups", "with the account"),
        permanent("auth.User_user_permissions", "with the account"),
        permanent("auth.Group_permissions", "with the role"),
        permanent("contenttypes.ContentType", "as many as the program knows"),
        permanent("django_celery_beat.PeriodicTask", "what operators have scheduled"),
        permanent("django_celery_beat.IntervalSchedule", "what operators have scheduled"),
        permanent("django_celery_beat.CrontabSchedule", "what operators have scheduled"),
        permanent("django_celery_beat.SolarSchedule", "what operators have scheduled"),
        permanent("django_celery_beat.ClockedSchedule", "what operators have scheduled"),
        permanent("django_celery_beat.PeriodicTasks", "one row"),
    )

    def ready(self) -> None:
        checks.register(check_dependencies, checks.Tags.admin)
        checks.register(check_pages, checks.Tags.admin)


def check_pages(app_configs: Any, **kwargs: Any) -> list[checks.CheckMessage]:
    """Django's own checks of the admin, which find nothing before its pages are loaded."""
    admin.autodiscover()
    return check_admin_app(app_configs, **kwargs)
