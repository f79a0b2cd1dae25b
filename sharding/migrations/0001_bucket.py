import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Bucket",
            fields=[
                ("bucket", models.PositiveSmallIntegerField(primary_key=True, serialize=False)),
                ("alias", models.CharField(max_length=63)),
                ("version", models.PositiveIntegerField(default=1)),
                ("moved_at", models.DateTimeField(default=django.utils.timezone.now)),
            ],
            options={
                "ordering": ["bucket"],
                "constraints": [
                    models.CheckConstraint(condition=models.Q(bucket__lt=128), name="sharding_bucket_exists"),
                    models.CheckConstraint(condition=models.Q(version__gte=1), name="sharding_bucket_version_from_1"),
                ],
            },
        ),
    ]
