"""Replays that can go on after they were stopped; dead letters know how a replay sent them."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("eventing", "0003_edited_letters_and_redrive_runs")]

    operations = [
        migrations.AddField(
            model_name="deadletter",
            name="replay",
            field=models.JSONField(blank=True, null=True),
        ),
        migrations.CreateModel(
            name="ReplayRun",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("subscriber", models.CharField(max_length=40)),
                ("selection", models.JSONField()),
                ("options", models.JSONField()),
                ("positions", models.JSONField(default=dict)),
                ("events", models.PositiveBigIntegerField()),
                ("sent", models.PositiveBigIntegerField(default=0)),
                (
                    "state",
                    models.CharField(
                        choices=[("running", "Running"), ("finished", "Finished")], default="running", max_length=10
                    ),
                ),
                ("started_at", models.DateTimeField()),
                ("updated_at", models.DateTimeField()),
            ],
            options={
                "db_table": "eventing_replay_run",
            },
        ),
    ]
