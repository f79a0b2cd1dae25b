"""Empties the databases after a test that has committed: only the tables that hold something."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.core.management.color import no_style
from django.db import DEFAULT_DB_ALIAS, connections
from django.test import TransactionTestCase

from eventing.models import DatabaseMark
from sharding import shards
from sharding.models import Bucket

# What is there before the first test. Django's own way of emptying would write it again each time: a tenth of a second.
KEPT = {model._meta.db_table for model in (ContentType, Permission, Bucket, DatabaseMark)}

# A file without a block holds no row. Asking for sizes costs a millisecond where emptying all partitions costs fifty.
# Estimates of what was once in a table (-1: there is none) are to be forgotten, too.
FILLED = """
SELECT relname FROM pg_class
WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace
AND (pg_relation_size(oid) > 0 OR reltuples >= 0) AND (relname = ANY(%s) OR relispartition)
"""


def install() -> None:
    """Have Django empty databases this way."""
    TransactionTestCase._fixture_teardown = _empty_all  # type: ignore[method-assign]


def _empty_all(test: Any) -> None:
    for alias in test._databases_names(include_mirrors=False):
        empty(alias)
        if alias == DEFAULT_DB_ALIAS:
            restore_shard_map()


def restore_shard_map() -> None:
    """Have the first shard map again, if it was changed."""
    known = Bucket.objects.values_list("bucket", "alias", "version", "moving_to")
    if list(known) != [(bucket, alias, 1, None) for bucket, alias in enumerate(shards.first_assignment())]:
        Bucket.objects.all().delete()
        shards.install()


def empty(alias: str) -> None:
    connection = connections[alias]
    with connection.cursor() as cursor:
        existing = set(connection.introspection.table_names(cursor))
        known = sorted({model._meta.db_table for model in apps.get_models(include_auto_created=True)} & existing - KEPT)
        if connection.vendor == "postgresql":
            cursor.execute(FILLED, [known])
        else:
            has_rows = " UNION ALL ".join(f"SELECT '{table}' WHERE EXISTS (SELECT 1 FROM {table})" for table in known)
            cursor.execute(has_rows)
        filled = [table for (table,) in cursor.fetchall()]
    if filled:
        cascade = connection.vendor == "postgresql"  # what refers to these tables is to be emptied, too
        statements = connection.ops.sql_flush(no_style(), filled, allow_cascade=cascade)
        connection.ops.execute_sql_flush(statements)
