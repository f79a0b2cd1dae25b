"""Dead letters keep what operators did to them, and are redriven in runs that can be watched and cancelled."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("eventing", "0002_events_by_time"),
    ]

    operations = [
        migrations.AddField(
            model_name="deadletter",
            name="history",
            field=models.JSONField(blank=True, default=list),
        ),
        migrations.AddField(
            model_name="deadletter",
            name="original",
            field=models.JSONField(blank=True, null=True),
        ),
        migrations.AlterField(
            model_name="deadletter",
            name="status",
            field=models.CharField(
                choices=[("open", "Open"), ("redriven", "Redriven"), ("handled", "Handled"), ("archived", "Archived")],
                default="open",
                max_length=10,
            ),
        ),
        migrations.CreateModel(
            name="RedriveRun",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("selection", models.JSONField()),
                ("rate", models.PositiveSmallIntegerField()),
                ("total", models.PositiveIntegerField()),
                ("sent", models.PositiveIntegerField(default=0)),
                ("skipped", models.PositiveIntegerField(default=0)),
                ("position", models.BigIntegerField(default=0)),
                ("step", models.PositiveIntegerField(default=0)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("running", "Running"),
                            ("done", "Done"),
                            ("cancelled", "Cancelled"),
                            ("failed", "Failed"),
                        ],
                        default="running",
                        max_length=10,
                    ),
                ),
                ("error", models.TextField(blank=True, default="")),
                ("history", models.JSONField(default=list)),
                ("started_at", models.DateTimeField()),
                ("worked_at", models.DateTimeField()),
                ("finished_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "db_table": "eventing_redrive_run",
                "ordering": ["-id"],
                "constraints": [
                    models.CheckConstraint(condition=models.Q(("rate__gte", 1)), name="redrive_run_rate_from_1")
                ],
            },
        ),
    ]
