import uuid

from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="SandboxCharge",
            fields=[
                ("key", models.CharField(max_length=100, primary_key=True, serialize=False)),
                ("kind", models.CharField(choices=[("capture", "Capture"), ("refund", "Refund")], max_length=10)),
                ("token", models.CharField(max_length=100)),
                ("amount", models.BigIntegerField()),
                ("currency", models.CharField(max_length=3)),
                ("reference", models.CharField(max_length=40, unique=True)),
                ("refund_of", models.CharField(blank=True, db_index=True, max_length=40)),
                (
                    "result",
                    models.CharField(
                        choices=[
                            ("open", "Open"),
                            ("captured", "Captured"),
                            ("declined", "Declined"),
                            ("refunded", "Refunded"),
                        ],
                        default="open",
                        max_length=10,
                    ),
                ),
                ("reason", models.CharField(blank=True, max_length=100)),
                ("calls", models.PositiveIntegerField(default=0)),
            ],
        ),
        migrations.CreateModel(
            name="Account",
            fields=[
                ("order_id", models.BigIntegerField(primary_key=True, serialize=False)),
                ("customer_id", models.BigIntegerField()),
                ("version", models.PositiveIntegerField(default=0)),
                ("closed", models.BooleanField(default=False)),
                ("closed_reason", models.CharField(blank=True, max_length=40)),
                ("captured_total", models.BigIntegerField(default=0)),
                ("refunded_total", models.BigIntegerField(default=0)),
            ],
            options={
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            ("refunded_total__gte", 0), ("refunded_total__lte", models.F("captured_total"))
                        ),
                        name="refunded_between_0_and_captured",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="Payment",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ("order_id", models.BigIntegerField()),
                ("attempt", models.PositiveSmallIntegerField()),
                ("amount", models.BigIntegerField()),
                ("currency", models.CharField(max_length=3)),
                ("token", models.CharField(max_length=100)),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("requested", "Requested"),
                            ("captured", "Captured"),
                            ("declined", "Declined"),
                            ("refund_requested", "Refund Requested"),
                            ("refunded", "Refunded"),
                        ],
                        default="requested",
                        max_length=20,
                    ),
                ),
                ("gateway_reference", models.CharField(blank=True, max_length=255)),
                ("refund_reference", models.CharField(blank=True, max_length=255)),
                ("decline_reason", models.CharField(blank=True, max_length=255)),
                ("requested_at", models.DateTimeField()),
                ("settled_at", models.DateTimeField(blank=True, null=True)),
                ("refunded_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "indexes": [models.Index(fields=["-requested_at", "-id"], name="payment_newest_first")],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("status", "declined"), _negated=True),
                        fields=("order_id",),
                        name="one_payment_that_was_not_declined",
                    ),
                    models.UniqueConstraint(fields=("order_id", "attempt"), name="payment_attempts_are_numbered"),
                    models.CheckConstraint(condition=models.Q(("amount__gte", 0)), name="payment_amount_not_negative"),
                ],
            },
        ),
    ]
