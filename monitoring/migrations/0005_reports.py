"""Reports by the clock, the schedules that write them, and who may read them."""

from typing import Any

from django.db import migrations, models

EVERY_SECONDS = [("Report stuck orders", "monitoring.report_stuck_orders", 60)]
# At this hour and minute of the day, UTC.
EVERY_NIGHT = [
    ("Summarise sales", "monitoring.summarise_sales", 0, 20),
    ("Prune inboxes", "eventing.prune_inbox", 2, 40),
    ("Audit", "monitoring.audit", 3, 10),
]
READERS = ("viewer", "support", "administrator")


def install_schedules(apps: Any, schema_editor: Any) -> None:
    interval_model = apps.get_model("django_celery_beat", "IntervalSchedule")
    crontab_model = apps.get_model("django_celery_beat", "CrontabSchedule")
    task_model = apps.get_model("django_celery_beat", "PeriodicTask")
    for name, task, seconds in EVERY_SECONDS:
        interval, _ = interval_model.objects.get_or_create(every=seconds, period="seconds")
        task_model.objects.get_or_create(
            name=name, defaults={"task": task, "interval": interval, "expire_seconds": seconds}
        )
    for name, task, hour, minute in EVERY_NIGHT:
        night, _ = crontab_model.objects.get_or_create(minute=str(minute), hour=str(hour), timezone="UTC")
        task_model.objects.get_or_create(name=name, defaults={"task": task, "crontab": night})


def let_read(apps: Any, schema_editor: Any) -> None:
    groups = apps.get_model("auth", "Group").objects
    content_types = apps.get_model("contenttypes", "ContentType").objects
    permissions = apps.get_model("auth", "Permission").objects
    for model, title in (("dailysales", "daily sales"), ("stuckorder", "stuck order")):
        content_type, _ = content_types.get_or_create(app_label="monitoring", model=model)
        permission, _ = permissions.get_or_create(
            content_type=content_type, codename=f"view_{model}", defaults={"name": f"Can view {title}"}
        )
        for group in groups.filter(name__in=READERS):
            group.permissions.add(permission)


class Migration(migrations.Migration):
    dependencies = [("monitoring", "0004_open_circuits")]

    operations = [
        migrations.CreateModel(
            name="DailySales",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("day", models.DateField()),
                ("currency", models.CharField(max_length=3)),
                ("orders", models.PositiveIntegerField()),
                ("paid", models.PositiveIntegerField()),
                ("rejected", models.PositiveIntegerField()),
                ("cancelled", models.PositiveIntegerField()),
                ("refunded", models.PositiveIntegerField()),
                ("revenue", models.BigIntegerField()),
                ("counted_at", models.DateTimeField()),
            ],
            options={
                "verbose_name_plural": "daily sales",
                "ordering": ["-day", "currency"],
                "constraints": [models.UniqueConstraint(fields=("day", "currency"), name="daily_sales_of_a_currency")],
            },
        ),
        migrations.CreateModel(
            name="StuckOrder",
            fields=[
                ("order_id", models.BigIntegerField(primary_key=True, serialize=False)),
                ("placed_at", models.DateTimeField()),
                ("waiting_for", models.TextField()),
                ("reported_at", models.DateTimeField()),
            ],
            options={"ordering": ["placed_at"]},
        ),
        migrations.RunPython(install_schedules, migrations.RunPython.noop),
        migrations.RunPython(let_read, migrations.RunPython.noop),
    ]
