"""Two events that had the same key in turn have a dead letter each."""

from django.db import migrations, models

from eventing.operations import ReplaceUniqueConstraint


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("eventing", "0010_event_identity")]

    operations = [
        ReplaceUniqueConstraint(
            model_name="deadletter",
            constraint=models.UniqueConstraint(
                fields=["stream_id", "category", "version", "subscriber", "event_hash"],
                name="dead_letter_once_per_event",
            ),
            replaces="one_dead_letter_per_delivery",
        )
    ]
