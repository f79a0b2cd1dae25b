"""The sales of today are counted every minute; who may look at everything sees groups and operators' actions, too."""

from typing import Any

from django.db import migrations

SALES = "Summarise sales"
EVERY_SECONDS = 60
MAY = (("auth", "group"), ("admin", "logentry"))


def count_today(apps: Any, schema_editor: Any) -> None:
    """Unless an operator has chosen other times."""
    interval_model = apps.get_model("django_celery_beat", "IntervalSchedule")
    interval, _ = interval_model.objects.get_or_create(every=EVERY_SECONDS, period="seconds")
    apps.get_model("django_celery_beat", "PeriodicTask").objects.filter(
        name=SALES, crontab__hour="0", crontab__minute="20"
    ).update(crontab=None, interval=interval, expire_seconds=EVERY_SECONDS)


def permit(apps: Any, schema_editor: Any) -> None:
    """Django makes permissions only after all migrations have run, so these are made here."""
    for app_label, model in MAY:
        content_type, _ = apps.get_model("contenttypes", "ContentType").objects.get_or_create(
            app_label=app_label, model=model
        )
        title = apps.get_model(app_label, model)._meta.verbose_name_raw
        permission, _ = apps.get_model("auth", "Permission").objects.get_or_create(
            content_type=content_type, codename=f"view_{model}", defaults={"name": f"Can view {title}"}
        )
        for group in apps.get_model("auth", "Group").objects.filter(name="viewer"):
            group.permissions.add(permission)


class Migration(migrations.Migration):
    dependencies = [("monitoring", "0006_bucket_moves"), ("admin", "0001_initial")]

    operations = [
        migrations.RunPython(count_today, migrations.RunPython.noop),
        migrations.RunPython(permit, migrations.RunPython.noop),
    ]
