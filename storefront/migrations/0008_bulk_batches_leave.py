"""The batches of the seed belong to its own app; their table stays where it is."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("storefront", "0007_customer_ids")]

    operations = [
        migrations.SeparateDatabaseAndState(state_operations=[migrations.DeleteModel(name="BulkBatch")]),
    ]
