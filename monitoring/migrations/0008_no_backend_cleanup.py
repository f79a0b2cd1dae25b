"""Removes a schedule that beat once installed by itself: no task keeps results, so there are none to clean up."""

from typing import Any

from django.db import migrations


def remove(apps: Any, schema_editor: Any) -> None:
    tasks = apps.get_model("django_celery_beat", "PeriodicTask").objects
    tasks.filter(name="celery.backend_cleanup", task="celery.backend_cleanup").delete()


class Migration(migrations.Migration):
    dependencies = [("monitoring", "0007_sales_of_today")]

    operations = [migrations.RunPython(remove, migrations.RunPython.noop)]
