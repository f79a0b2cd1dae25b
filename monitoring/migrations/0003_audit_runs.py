"""The results of audits, which viewers and administrators may see, and administrators may ask for."""

from typing import Any

from django.db import migrations, models

MAY = {"view_auditrun": ("viewer", "administrator"), "add_auditrun": ("administrator",)}


def permit(apps: Any, schema_editor: Any) -> None:
    """Django makes permissions only after all migrations have run, so these are made here."""
    content_type, _ = apps.get_model("contenttypes", "ContentType").objects.get_or_create(
        app_label="monitoring", model="auditrun"
    )
    for codename, roles in MAY.items():
        permission, _ = apps.get_model("auth", "Permission").objects.get_or_create(
            content_type=content_type, codename=codename, defaults={"name": f"Can {codename.split('_')[0]} audit run"}
        )
        for group in apps.get_model("auth", "Group").objects.filter(name__in=roles):
            group.permissions.add(permission)


class Migration(migrations.Migration):
    dependencies = [("monitoring", "0002_roles")]

    operations = [
        migrations.CreateModel(
            name="AuditRun",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("started_at", models.DateTimeField()),
                ("finished_at", models.DateTimeField(blank=True, null=True)),
                ("by", models.CharField(blank=True, max_length=150)),
                ("settle_seconds", models.FloatField()),
                ("progress", models.CharField(blank=True, max_length=200)),
                ("was_clean", models.BooleanField(blank=True, null=True)),
                ("report", models.JSONField(blank=True, null=True)),
                ("error", models.CharField(blank=True, max_length=200)),
            ],
            options={"verbose_name": "audit run", "ordering": ["-id"], "default_permissions": ("view", "add")},
        ),
        migrations.RunPython(permit, migrations.RunPython.noop),
    ]
