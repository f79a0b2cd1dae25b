"""The clocks of all processes are noted in a table of their own."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("eventing", "0011_letters_by_event")]

    operations = [
        migrations.CreateModel(
            name="ProcessClock",
            fields=[
                ("process", models.CharField(max_length=200, primary_key=True, serialize=False)),
                ("seconds_ahead", models.FloatField()),
                ("noted_at", models.DateTimeField()),
            ],
            options={"db_table": "eventing_process_clock"},
        ),
        migrations.RemoveField(model_name="periodicrun", name="worker_ahead"),
        migrations.RemoveField(model_name="periodicrun", name="beat_ahead"),
    ]
