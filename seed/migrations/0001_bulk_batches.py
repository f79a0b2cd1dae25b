"""The batches of the seed, whose table the shop's migrations have made."""

from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = [("storefront", "0008_bulk_batches_leave")]

    operations = [
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.CreateModel(
                    name="BulkBatch",
                    fields=[
                        (
                            "id",
                            models.BigAutoField(
                                auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                            ),
                        ),
                        ("orders", models.PositiveIntegerField()),
                        ("hot", models.BooleanField()),
                        ("unfinished", models.JSONField(null=True)),
                        ("written_at", models.DateTimeField(auto_now_add=True)),
                    ],
                    options={"db_table": "storefront_bulkbatch"},
                ),
            ]
        ),
    ]
