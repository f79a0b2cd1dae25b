"""The read model of orders, partitioned by bucket on order shards, and the idempotency keys."""

from django.db import migrations, models

from eventing.operations import CreatePartitionedModel


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="IdempotencyKey",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "customer_id", "key", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("customer_id", models.BigIntegerField()),
                ("key", models.CharField(max_length=255)),
                ("fingerprint", models.CharField(max_length=128)),
                ("order_id", models.BigIntegerField()),
                ("created_at", models.DateTimeField()),
            ],
            options={
                "indexes": [
                    models.Index(fields=["order_id"], name="idempotency_key_by_order"),
                    models.Index(fields=["created_at"], name="idempotency_key_by_age"),
                ],
            },
        ),
        CreatePartitionedModel(
            partition_column="id",
            name="Order",
            fields=[
                ("id", models.BigIntegerField(primary_key=True, serialize=False)),
                ("customer_id", models.BigIntegerField()),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("placed", "placed"),
                            ("confirmed", "confirmed"),
                            ("rejected", "rejected"),
                            ("paid", "paid"),
                            ("shipped", "shipped"),
                            ("delivered", "delivered"),
                            ("cancelled", "cancelled"),
                            ("refunded", "refunded"),
                        ],
                        max_length=10,
                    ),
                ),
                ("currency", models.CharField(max_length=3)),
                ("subtotal", models.BigIntegerField()),
                ("discount", models.BigIntegerField()),
                ("total", models.BigIntegerField()),
                ("coupon_code", models.TextField(blank=True, null=True)),
                ("placed_at", models.DateTimeField()),
                ("updated_at", models.DateTimeField()),
                ("expires_at", models.DateTimeField(blank=True, null=True)),
                ("version", models.PositiveIntegerField()),
                ("reason", models.TextField(blank=True)),
            ],
            options={
                "indexes": [
                    models.Index(fields=["customer_id", "id"], name="order_by_customer"),
                    models.Index(fields=["-placed_at", "-id"], name="order_newest_first"),
                    models.Index(fields=["status", "placed_at", "id"], name="order_by_status"),
                    models.Index(
                        condition=models.Q(("status__in", ["placed", "confirmed"])),
                        fields=["expires_at"],
                        name="order_unpaid_by_deadline",
                    ),
                ],
                "constraints": [
                    models.CheckConstraint(condition=models.Q(("id__gt", 0)), name="order_id_positive"),
                    models.CheckConstraint(
                        condition=models.Q(
                            (
                                "status__in",
                                [
                                    "placed",
                                    "confirmed",
                                    "rejected",
                                    "paid",
                                    "shipped",
                                    "delivered",
                                    "cancelled",
                                    "refunded",
                                ],
                            )
                        ),
                        name="order_status",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("discount__gte", 0),
                            ("subtotal__gte", 0),
                            (
                                "total",
                                models.F("subtotal") - models.F("discount"),
                            ),
                            ("total__gte", 0),
                        ),
                        name="order_total_is_subtotal_minus_discount",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("expires_at__isnull", False), ("status__in", ["placed", "confirmed"])),
                            models.Q(
                                models.Q(("status__in", ["placed", "confirmed"]), _negated=True),
                                ("expires_at__isnull", True),
                            ),
                            _connector="OR",
                        ),
                        name="order_has_deadline_while_unpaid",
                    ),
                    models.CheckConstraint(condition=models.Q(("version__gte", 1)), name="order_version_from_1"),
                ],
            },
        ),
        CreatePartitionedModel(
            partition_column="order_id",
            name="OrderLine",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "order_id", "position", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("order_id", models.BigIntegerField()),
                ("position", models.PositiveSmallIntegerField()),
                ("sku", models.TextField()),
                ("name", models.TextField()),
                ("quantity", models.PositiveIntegerField()),
                ("unit_price", models.BigIntegerField()),
            ],
            options={
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("position__range", (1, 100))), name="order_line_position"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("quantity__range", (1, 999))), name="order_line_quantity"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("unit_price__gte", 0)), name="order_line_unit_price_not_negative"
                    ),
                ],
            },
        ),
    ]
