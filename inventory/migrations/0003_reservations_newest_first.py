"""The index by which operators page through reservations."""

from django.db import migrations, models

from eventing.operations import AddPartitionedIndex


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("inventory", "0002_stock_adjustments")]

    operations = [
        AddPartitionedIndex(
            model_name="reservation",
            index=models.Index(fields=["-created_at", "-order_id"], name="reservation_newest_first"),
        ),
    ]
