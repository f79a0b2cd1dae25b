"""The audit in small portions: how far it is, what it has found, and the schedule that goes on with it all day."""

from typing import Any

from django.db import migrations, models

SCHEDULE = ("Audit in portions", "monitoring.audit_portion", 60)


def install_schedule(apps: Any, schema_editor: Any) -> None:
    name, task, seconds = SCHEDULE
    interval_model = apps.get_model("django_celery_beat", "IntervalSchedule")
    interval, _ = interval_model.objects.get_or_create(every=seconds, period="seconds")
    apps.get_model("django_celery_beat", "PeriodicTask").objects.get_or_create(
        name=name, defaults={"task": task, "interval": interval, "expire_seconds": seconds}
    )


class Migration(migrations.Migration):
    dependencies = [("monitoring", "0008_no_backend_cleanup")]

    operations = [
        migrations.CreateModel(
            name="AuditRound",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("started_at", models.DateTimeField()),
                ("portion_at", models.DateTimeField()),
                ("finished_at", models.DateTimeField(blank=True, null=True)),
                ("state", models.JSONField(default=dict)),
            ],
            options={
                "ordering": ["-id"],
                "default_permissions": (),
            },
        ),
        migrations.RunPython(install_schedule, migrations.RunPython.noop),
    ]
