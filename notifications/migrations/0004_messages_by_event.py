"""A customer hears of both events that had the same id in turn."""

from django.db import migrations, models

from eventing.operations import ReplaceUniqueConstraint


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("notifications", "0003_event_hash")]

    operations = [
        ReplaceUniqueConstraint(
            model_name="message",
            constraint=models.UniqueConstraint(
                fields=["event_id", "channel", "event_hash"], name="message_once_per_event"
            ),
            replaces="one_message_per_event_and_channel",
        )
    ]
