"""Events carry a hash of their content and their predecessor's. Those that are stored already have none."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("eventing", "0005_inbox_by_age")]

    operations = [migrations.AddField(model_name="event", name="hash", field=models.BinaryField(null=True))]
