"""Adjustments in the ledger of stock."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("inventory", "0001_initial"),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name="stockmovement",
            name="stock_movement_quantity_positive",
        ),
        migrations.RemoveConstraint(
            model_name="stockmovement",
            name="stock_movement_ships_for_an_order",
        ),
        migrations.AlterField(
            model_name="stockmovement",
            name="kind",
            field=models.CharField(
                choices=[("received", "Received"), ("shipped", "Shipped"), ("adjusted", "Adjusted")], max_length=8
            ),
        ),
        migrations.AlterField(
            model_name="stockmovement",
            name="quantity",
            field=models.IntegerField(),
        ),
        migrations.AddConstraint(
            model_name="stockmovement",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("quantity__gte", 1),
                    models.Q(("kind", "adjusted"), models.Q(("quantity", 0), _negated=True)),
                    _connector="OR",
                ),
                name="stock_movement_quantity_positive",
            ),
        ),
        migrations.AddConstraint(
            model_name="stockmovement",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("kind__in", ["received", "adjusted"]), ("order_id__isnull", True)),
                    models.Q(("kind", "shipped"), ("order_id__isnull", False)),
                    _connector="OR",
                ),
                name="stock_movement_ships_for_an_order",
            ),
        ),
    ]
