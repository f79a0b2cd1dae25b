"""Indexes by which operators find a customer, and the shop an address that has an account, in either case of letters.

Django's user has none for its e-mail address, and PostgreSQL's index of user names is of no use for other cases.
"""

from collections.abc import Sequence
from typing import Any

from django.db import migrations

COLUMNS = ("email", "username", "last_name")


def install(apps: Any, schema_editor: Any, columns: Sequence[str] = COLUMNS) -> None:
    if schema_editor.connection.vendor == "postgresql":
        for column in columns:
            # One that was cut off is there and of no use.
            schema_editor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS user_by_{column}")
            schema_editor.execute(
                f"CREATE INDEX CONCURRENTLY user_by_{column} ON auth_user (upper({column}::text) text_pattern_ops)"
            )


def remove(apps: Any, schema_editor: Any, columns: Sequence[str] = COLUMNS) -> None:
    if schema_editor.connection.vendor == "postgresql":
        for column in columns:
            schema_editor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS user_by_{column}")


class Migration(migrations.Migration):
    atomic = False  # the indexes are built beside the table's use

    dependencies = [("auth", "0012_alter_user_first_name_max_length"), ("storefront", "0002_bulk_batches")]

    operations = [migrations.RunPython(install, remove)]
