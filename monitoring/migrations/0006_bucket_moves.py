"""The schedule that finishes interrupted moves of buckets, and who may see moves and ask for them."""

from typing import Any

from django.db import migrations

SCHEDULE = ("Finish interrupted moves", "sharding.finish_interrupted_moves", 60)
MAY = {"view_bucketmove": ("viewer", "administrator"), "add_bucketmove": ("administrator",)}


def install_schedule(apps: Any, schema_editor: Any) -> None:
    name, task, seconds = SCHEDULE
    interval_model = apps.get_model("django_celery_beat", "IntervalSchedule")
    interval, _ = interval_model.objects.get_or_create(every=seconds, period="seconds")
    apps.get_model("django_celery_beat", "PeriodicTask").objects.get_or_create(
        name=name, defaults={"task": task, "interval": interval, "expire_seconds": seconds}
    )


def permit(apps: Any, schema_editor: Any) -> None:
    """Django makes permissions only after all migrations have run, so these are made here."""
    content_type, _ = apps.get_model("contenttypes", "ContentType").objects.get_or_create(
        app_label="sharding", model="bucketmove"
    )
    for codename, roles in MAY.items():
        permission, _ = apps.get_model("auth", "Permission").objects.get_or_create(
            content_type=content_type, codename=codename, defaults={"name": f"Can {codename.split('_')[0]} bucket move"}
        )
        for group in apps.get_model("auth", "Group").objects.filter(name__in=roles):
            group.permissions.add(permission)


class Migration(migrations.Migration):
    dependencies = [("monitoring", "0005_reports"), ("sharding", "0002_moves")]

    operations = [
        migrations.RunPython(install_schedule, migrations.RunPython.noop),
        migrations.RunPython(permit, migrations.RunPython.noop),
    ]
