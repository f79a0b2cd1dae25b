"""The index by which operators page through redemptions."""

from django.db import migrations, models

from eventing.operations import AddPartitionedIndex


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("coupons", "0001_initial")]

    operations = [
        AddPartitionedIndex(
            model_name="redemption",
            index=models.Index(
                fields=["-at", "-order_id"],
                condition=models.Q(("status", "void"), _negated=True),
                name="redemption_newest_first",
            ),
        ),
    ]
