"""The tracking number of a shipped order, by which operators find it; taken from the events of those that are stored."""

from typing import Any

from django.db import migrations, models

from eventing.operations import AddPartitionedIndex


def fill_in(apps: Any, schema_editor: Any) -> None:
    tracking = "data ->> 'tracking'" if schema_editor.connection.vendor == "postgresql" else "data ->> '$.tracking'"
    schema_editor.execute(
        f"UPDATE orders_order SET tracking = shipped.tracking FROM (SELECT stream_id, {tracking} AS tracking"
        " FROM eventing_event WHERE category = 'order' AND type = 'order.shipped') AS shipped"
        " WHERE orders_order.id = shipped.stream_id AND shipped.tracking <> ''"
    )


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("orders", "0002_find_by_product_and_coupon"), ("eventing", "0001_initial")]

    operations = [
        migrations.AddField(
            model_name="order",
            name="tracking",
            field=models.TextField(blank=True, db_default="", default=""),
        ),
        migrations.RunPython(fill_in, migrations.RunPython.noop),
        AddPartitionedIndex(
            model_name="order",
            index=models.Index(
                condition=models.Q(("tracking", ""), _negated=True), fields=["tracking"], name="order_by_tracking"
            ),
        ),
    ]
