from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("sharding", "0002_moves"),
    ]

    operations = [
        migrations.AddField(
            model_name="bucketmove",
            name="give_up",
            field=models.BooleanField(default=False),
        ),
    ]
