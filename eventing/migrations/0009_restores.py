from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("eventing", "0008_database_mark"),
    ]

    operations = [
        migrations.AddField(model_name="databasemark", name="restored_at", field=models.DateTimeField(null=True)),
        migrations.AddField(model_name="databasemark", name="released_at", field=models.DateTimeField(null=True)),
    ]
