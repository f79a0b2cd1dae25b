"""The tables with rows of orders, as a database has them, and sessions for a mover."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg
from django.db import connections

from sharding.errors import MoveRefused
from sharding.numbers import bucket_range
from sharding.partitions import partition_name
from sharding.router import sharded_tables

LOCK_MILLISECONDS = 50  # others queue up for a lock that waits

Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table with rows of orders. `column` holds the order's number; `columns` are all but a generated id.

    Rows of a table whose `key` is empty have no identity, and are copied again each time.
    """

    name: str
    column: str
    columns: tuple[str, ...]
    types: tuple[str, ...]
    key: tuple[str, ...]
    partitioned: bool

    def of_bucket(self, bucket: int) -> str:
        """The bucket's own table: the partition, attached or not, or the copy of its rows of a shared table."""
        return partition_name(self.name, bucket)

    @property
    def or_update(self) -> str:
        """What is to be done about rows that are there already, to follow INSERT."""
        updates = ", ".join(f"{column} = excluded.{column}" for column in self.columns if column not in self.key)
        return f"ON CONFLICT ({', '.join(self.key)}) DO UPDATE SET {updates}"

    @property
    def incoming(self) -> str:
        """The table of the target's session in which changes arrive."""
        return f"incoming_{self.name}"

    def relation(self, bucket: int) -> str:
        """The table that a bucket's rows are in at the source."""
        return self.of_bucket(bucket) if self.partitioned else self.name

    def digest(self, condition: str = "true") -> str:
        """How many rows fulfil a condition, and their checksum, to follow SELECT."""
        checksum = f"sum(hashtextextended(ROW({', '.join(self.columns)})::text, 0)::numeric)"
        return f"count(*) FILTER (WHERE {condition}), {checksum} FILTER (WHERE {condition})"

    def rows(self, bucket: int) -> str:
        """A bucket's rows at the source, to follow FROM."""
        low, high = bucket_range(bucket)
        return f"{self.relation(bucket)} WHERE {self.column} BETWEEN {low} AND {high - 1}"


def connect(alias: str) -> Connection:
    """A connection that no pool knows: it holds locks, and what it holds ends with it."""
    parameters = connections[alias].get_connection_params()
    connection = psycopg.connect(**parameters, autocommit=True)
    connection.execute("SET TIME ZONE 'UTC'")  # rows are compared as text
    return connection


def tables(connection: Connection) -> tuple[Table, ...]:
    """What `sharded_tables` names, as this database has it."""
    found = []
    for name, column in sharded_tables().items():
        columns = connection.execute(
            "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = to_regclass(%s)"
            " AND attnum > 0 AND NOT attisdropped AND attidentity = '' ORDER BY attname",
            [name],
        ).fetchall()
        key = connection.execute(
            "SELECT attname FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY(indkey)"
            " WHERE indrelid = to_regclass(%s) AND indisprimary AND attidentity = '' ORDER BY attname",
            [name],
        ).fetchall()
        kind = connection.execute("SELECT relkind::text FROM pg_class WHERE oid = to_regclass(%s)", [name]).fetchone()
        if kind is None:
            raise MoveRefused(f"{connection.info.dbname} has no table {name}: run `manage.py migrate_all`.")
        found.append(
            Table(
                name=name,
                column=column,
                columns=tuple(name for name, _ in columns),
                types=tuple(kind for _, kind in columns),
                key=tuple(name for (name,) in key),
                partitioned=kind[0] == "p",
            )
        )
    return tuple(found)
