"""Finds old inbox rows without an index entry for every new one: rows are written in the order of their age."""

from typing import Any

from django.db import migrations


def install(apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("CREATE INDEX IF NOT EXISTS inbox_by_age ON eventing_inbox USING brin (handled_at)")


def remove(apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("DROP INDEX IF EXISTS inbox_by_age")


class Migration(migrations.Migration):
    dependencies = [("eventing", "0004_replays")]

    operations = [migrations.RunPython(install, remove)]
