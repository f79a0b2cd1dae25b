"""A shard's rows as they are at one moment, which they can be brought back to: what restoring an older backup does."""

from __future__ import annotations

from typing import Any

from django.db import connections

from sharding.router import sharded_tables


class Backup:
    """Taken when it is made."""

    def __init__(self, alias: str) -> None:
        self._alias = alias
        self._tables: dict[str, tuple[list[str], list[tuple[Any, ...]]]] = {}
        for table in sharded_tables():
            with connections[alias].cursor() as cursor:
                cursor.execute(f"SELECT * FROM {table}")
                self._tables[table] = [column[0] for column in cursor.description], cursor.fetchall()

    def restore(self) -> None:
        for table, (columns, rows) in self._tables.items():
            with connections[self._alias].cursor() as cursor:
                cursor.execute(f"DELETE FROM {table}")
                for row in rows:
                    values = ", ".join(["%s"] * len(row))
                    cursor.execute(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({values})", row)
