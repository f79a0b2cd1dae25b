"""The applications of Django that are configured another way here."""

from typing import Any

from django.apps import AppConfig
from django.apps import apps as registry
from django.contrib import admin
from django.contrib.admin import apps
from django.contrib.admin.checks import check_admin_app, check_dependencies
from django.core import checks
from django.db import models

from eventing.retention import permanent, pruned
from sharding import numbers


class BackOfficeConfig(apps.SimpleAdminConfig):
    """Loads the pages of the back office with the addresses (config/urls.py), not in a relay or a worker."""

    default = False  # this package has a configuration of its own
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


class CustomerIdField(models.BigAutoField):
    """The key of a user: 64 bits, and a new one is random. In migrations it stays what it is in Django's own."""

    def deconstruct(self) -> Any:
        name, _, args, kwargs = super().deconstruct()
        return name, "django.db.models.AutoField", args, {k: v for k, v in kwargs.items() if k != "default"}


class ProjectConfig(AppConfig):
    """Users get ids that are never used again, however their rows are made (see `numbers.new_customer_id`)."""

    name = "config"

    def ready(self) -> None:
        key: Any = registry.get_model("auth", "User")._meta.pk
        key.__class__ = CustomerIdField  # a user model of our own would need every table to be made anew
        key.default = numbers.new_customer_id


def check_pages(app_configs: Any, **kwargs: Any) -> list[checks.CheckMessage]:
    """Django's own checks of the admin, which find nothing before its pages are loaded."""
    admin.autodiscover()
    return check_admin_app(app_configs, **kwargs)
