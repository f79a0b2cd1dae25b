"""Room for random ids of customers: 64 bits in `auth_user` and in what refers to it.

Django's own migrations make the key of a user 32 bits wide, and so are the keys that refer to it. The state of the
models stays as it is (see `backoffice.apps.CustomerIdField`); SQLite's integers have 64 bits anyway.
"""

from typing import Any

from django.apps.registry import Apps
from django.db import migrations

COLUMNS = (
    ("auth_user", "id"),
    ("auth_user_groups", "user_id"),
    ("auth_user_user_permissions", "user_id"),
    ("django_admin_log", "user_id"),
)


def widen(apps: Apps, schema_editor: Any) -> None:
    if schema_editor.connection.vendor == "postgresql":
        for table, column in COLUMNS:
            schema_editor.execute(f"ALTER TABLE {table} ALTER COLUMN {column} TYPE bigint")


class Migration(migrations.Migration):
    dependencies = [
        ("storefront", "0006_account_names"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("admin", "0003_logentry_add_action_flag_choices"),
    ]

    operations = [migrations.RunPython(widen, migrations.RunPython.noop)]
