"""The backbone's tables; on order shards the events are partitioned by bucket."""

from django.db import migrations, models

from eventing.operations import CreatePartitionedModel


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="InboxEntry",
            fields=[
                ("stream_id", models.BigIntegerField()),
                ("category", models.CharField(max_length=40)),
                ("version", models.PositiveIntegerField()),
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "stream_id",
                        "category",
                        "version",
                        "subscriber",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("subscriber", models.CharField(max_length=40)),
                ("attempts", models.PositiveSmallIntegerField()),
                ("published_at", models.DateTimeField()),
                ("handled_at", models.DateTimeField()),
            ],
            options={
                "db_table": "eventing_inbox",
            },
        ),
        migrations.CreateModel(
            name="OutboxMessage",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("stream_id", models.BigIntegerField()),
                ("category", models.CharField(max_length=40)),
                ("version", models.PositiveIntegerField()),
            ],
            options={
                "db_table": "eventing_outbox",
            },
        ),
        migrations.CreateModel(
            name="DeadLetter",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("stream_id", models.BigIntegerField()),
                ("category", models.CharField(max_length=40)),
                ("version", models.PositiveIntegerField()),
                ("subscriber", models.CharField(max_length=40)),
                ("type", models.CharField(max_length=80)),
                ("schema_version", models.PositiveSmallIntegerField()),
                ("data", models.JSONField()),
                ("metadata", models.JSONField()),
                ("recorded_at", models.DateTimeField()),
                ("error", models.CharField(max_length=200)),
                ("message", models.TextField()),
                ("traceback", models.TextField()),
                ("attempts", models.PositiveSmallIntegerField()),
                (
                    "status",
                    models.CharField(
                        choices=[("open", "Open"), ("redriven", "Redriven"), ("archived", "Archived")],
                        default="open",
                        max_length=10,
                    ),
                ),
                ("failed_at", models.DateTimeField()),
                ("settled_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "db_table": "eventing_dead_letter",
                "ordering": ["-id"],
                "indexes": [models.Index(fields=["status", "subscriber", "-id"], name="dead_letter_open")],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("stream_id", "category", "version", "subscriber"), name="one_dead_letter_per_delivery"
                    )
                ],
            },
        ),
        CreatePartitionedModel(
            partition_column="stream_id",
            name="Event",
            fields=[
                ("stream_id", models.BigIntegerField()),
                ("category", models.CharField(max_length=40)),
                ("version", models.PositiveIntegerField()),
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "stream_id",
                        "category",
                        "version",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("type", models.CharField(max_length=80)),
                ("schema_version", models.PositiveSmallIntegerField()),
                ("data", models.JSONField()),
                ("metadata", models.JSONField()),
                ("recorded_at", models.DateTimeField()),
            ],
            options={
                "constraints": [
                    models.CheckConstraint(condition=models.Q(("version__gte", 1)), name="event_version_from_1")
                ],
            },
        ),
    ]
