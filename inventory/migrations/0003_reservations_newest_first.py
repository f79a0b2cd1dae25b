"""The index by which operators page through reservations."""

from django.db import migrations, models

from sharding.operations import AddBucketedIndex


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("inventory", "0002_stock_adjustments")]

    operations = [
        AddBucketedIndex(
            model_name="reservation",
            index=models.Index(fields=["-created_at", "-order_id"], name="reservation_newest_first"),
        ),
    ]
