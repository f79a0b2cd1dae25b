"""Messages of the inbox know whether an e-mail was queued with them. Of those that are stored already nobody knows."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("notifications", "0001_initial")]

    operations = [migrations.AddField(model_name="message", name="mailed", field=models.BooleanField(null=True))]
