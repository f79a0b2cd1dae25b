"""Inbox rows and dead letters know the hash of their event, because a restored database gives versions again.

Of those that are stored already nobody knows: they count for whatever event comes under their key.
"""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("eventing", "0009_restores")]

    operations = [
        migrations.AddField(model_name="inboxentry", name="hashes", field=models.TextField(null=True)),
        migrations.AddField(
            model_name="deadletter",
            name="event_hash",
            field=models.CharField(blank=True, db_default="", default="", max_length=64),
        ),
    ]
