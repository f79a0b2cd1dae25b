"""Indexes by which operators find the orders of a product or a coupon."""

from django.db import migrations, models

from eventing.operations import AddPartitionedIndex


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("orders", "0001_initial")]

    operations = [
        AddPartitionedIndex(
            model_name="order",
            index=models.Index(
                fields=["coupon_code", "-placed_at", "-id"],
                condition=models.Q(("coupon_code__isnull", False)),
                name="order_by_coupon",
            ),
        ),
        AddPartitionedIndex(
            model_name="orderline",
            index=models.Index(fields=["sku", "order_id"], name="order_line_by_sku"),
        ),
    ]
