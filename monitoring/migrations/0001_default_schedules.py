"""The periodic tasks that the shop cannot do without. Operators may change them; nothing here overwrites that."""

from typing import Any

from django.db import migrations

SCHEDULES = [
    # name, task, seconds
    ("Cancel overdue orders", "orders.tasks.cancel_overdue_orders", 5),
    ("Send pending messages", "notifications.send_pending", 30),
    ("Prune idempotency keys", "orders.tasks.prune_idempotency_keys", 600),
    ("Collect dead letters of the broker", "eventing.collect_dead_letters", 30),
]


def install(apps: Any, schema_editor: Any) -> None:
    interval_model = apps.get_model("django_celery_beat", "IntervalSchedule")
    task_model = apps.get_model("django_celery_beat", "PeriodicTask")
    for name, task, seconds in SCHEDULES:
        interval, _ = interval_model.objects.get_or_create(every=seconds, period="seconds")
        # A run that was not taken up before the next one is due is not worth doing any more.
        task_model.objects.get_or_create(
            name=name, defaults={"task": task, "interval": interval, "expire_seconds": seconds}
        )


class Migration(migrations.Migration):
    dependencies = [("django_celery_beat", "0019_alter_periodictasks_options")]

    operations = [migrations.RunPython(install, migrations.RunPython.noop)]
