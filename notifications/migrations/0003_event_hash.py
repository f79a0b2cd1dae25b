"""Messages know the hash of their event. Of those that are stored already nobody knows."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("notifications", "0002_mailed")]

    operations = [
        migrations.AddField(
            model_name="message",
            name="event_hash",
            field=models.CharField(blank=True, db_default="", default="", max_length=7),
        )
    ]
