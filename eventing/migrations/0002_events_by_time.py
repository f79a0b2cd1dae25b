"""The index by which operators read the newest events of a database."""

from django.db import migrations, models

from eventing.operations import AddPartitionedIndex


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("eventing", "0001_initial")]

    operations = [
        AddPartitionedIndex(
            model_name="event",
            index=models.Index(fields=["recorded_at", "stream_id", "category", "version"], name="event_by_time"),
        ),
    ]
