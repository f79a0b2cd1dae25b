"""Copies the rows of a bucket to another PostgreSQL database, and follows them while they change.

What is copied waits in tables of the bucket's own beside those in use. Rows that were inserted or changed since are
found by their `xmin`, the transaction that wrote them, so no column has to tell and no transaction that commits late
is overlooked: https://www.postgresql.org/docs/current/ddl-system-columns.html
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg
from django.conf import settings
from django.db import connections

from sharding.errors import MoveRefused
from sharding.numbers import BUCKETS, bucket_range
from sharding.partitions import attach_statement, partition_name

LOCK_MILLISECONDS = 50  # others queue up behind a lock that waits

Connection = psycopg.Connection[Any]


class Different(Exception):
    """The copy is not what the source has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table with rows of orders. `column` holds the order's number; `columns` are all but a generated id.

    Rows of a table whose `key` is empty have no identity, and are copied anew each time.
    """

    name: str
    column: str
    columns: tuple[str, ...]
    types: tuple[str, ...]
    key: tuple[str, ...]
    partitioned: bool

    def beside(self, bucket: int) -> str:
        """The bucket's own table: the partition, attached or not, or the copy of rows that are shared with others."""
        return partition_name(self.name, bucket)

    def relation(self, bucket: int) -> str:
        """The table that a bucket's rows are in at the source."""
        return self.beside(bucket) if self.partitioned else self.name

    def rows(self, bucket: int) -> str:
        """A bucket's rows at the source, to stand behind FROM."""
        low, high = bucket_range(bucket)
        return f"{self.relation(bucket)} WHERE {self.column} BETWEEN {low} AND {high - 1}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """What one look at the source has brought, and the transaction id from which the next one must look."""

    rows: int
    snapshot: str


def connect(alias: str) -> Connection:
    """A connection that no pool knows: it holds locks, and what it holds ends with it."""
    parameters = connections[alias].get_connection_params()
    connection = psycopg.connect(**parameters, autocommit=True)
    connection.execute("SET TIME ZONE 'UTC'")  # rows are compared as text
    return connection


def tables(connection: Connection) -> tuple[Table, ...]:
    """What `settings.SHARDED_TABLES` names, as this database has it."""
    found = []
    for name, column in settings.SHARDED_TABLES.items():
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


def ignore(rows: int) -> None:
    """Nobody wants to know how many."""


class Copy:
    """A bucket's rows in `source`, and their copy in `target`."""

    def __init__(self, source: Connection, target: Connection, bucket: int) -> None:
        self.source = source
        self.target = target
        self.bucket = bucket
        self.tables = tables(source)
        if self.tables != tables(target):
            raise MoveRefused(
                f"{source.info.dbname} and {target.info.dbname} have different tables: run `manage.py migrate_all`."
            )

    # --- Who has the bucket ------------------------------------------------------------------------------------------

    @property
    def partitioned(self) -> list[Table]:
        return [table for table in self.tables if table.partitioned]

    def is_attached(self, connection: Connection) -> bool:
        """Whether a database owns the bucket. Its partitions are attached and detached all at once."""
        attached = {table.name for table in self.partitioned if self._exists(connection, table, "AND relispartition")}
        if attached and len(attached) < len(self.partitioned):
            raise MoveRefused(
                f"{connection.info.dbname} has only {', '.join(sorted(attached))} of bucket {self.bucket} attached:"
                " somebody has changed partitions by hand. `manage.py audit` names what is affected."
            )
        return bool(attached)

    def is_prepared(self) -> bool:
        return all(self._exists(self.target, table) for table in self.tables)

    def _exists(self, connection: Connection, table: Table, condition: str = "") -> bool:
        statement = f"SELECT FROM pg_class WHERE oid = to_regclass(%s) {condition}"
        return connection.execute(statement, [table.beside(self.bucket)]).fetchone() is not None

    # --- Copying -----------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Make the empty tables of the copy."""
        self.discard()
        low, high = bucket_range(self.bucket)
        with self.target.transaction():
            for table in self.tables:
                name = table.beside(self.bucket)
                self.target.execute(f"CREATE TABLE {name} (LIKE {table.name} INCLUDING ALL)")
                if table.partitioned:
                    # What is known to fit need not be read again when it is attached.
                    bounds = f"{table.column} >= {low}"
                    if self.bucket < BUCKETS - 1:
                        bounds += f" AND {table.column} < {high}"
                    self.target.execute(f"ALTER TABLE {name} ADD CONSTRAINT {name}_bounds CHECK ({bounds})")

    def discard(self) -> None:
        """Remove the copy, which must not be attached."""
        with self.target.transaction():
            for table in self.tables:
                self.target.execute(f"DROP TABLE IF EXISTS {table.beside(self.bucket)}")

    def expected(self) -> int:
        """About how many rows there are, as the planner would say."""
        total = 0
        for table in self.tables:
            explained = _value(self.source.execute(f"EXPLAIN (FORMAT JSON) SELECT 1 FROM {table.rows(self.bucket)}"))
            total += int(explained[0]["Plan"]["Plan Rows"])
        return total

    def follow(
        self, since: str | None, on_rows: Callable[[int], None] = ignore, *, seconds: float | None = None
    ) -> Pass:
        """Bring what was written at the source since the snapshot of an earlier pass, or everything.

        Raises Different if the copy is not the same afterwards: rows were deleted at the source, for example; and
        psycopg.errors.QueryCanceled if a statement takes more than `seconds`.
        """
        rows = 0

        def count(more: int) -> None:
            nonlocal rows
            rows += more
            on_rows(rows)

        with self.source.transaction(), self.target.transaction():
            self.source.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            if seconds is not None:
                for connection in (self.source, self.target):
                    connection.execute(f"SET LOCAL statement_timeout = {round(seconds * 1000)}")
            # Transactions from this one on may not have been seen.
            snapshot = _value(self.source.execute("SELECT pg_snapshot_xmin(pg_current_snapshot())::text"))
            for table in self.tables:
                if since is None or not table.key:
                    self._bring_all(table, count)
                else:
                    self._bring_changes(table, since, count)
        return Pass(rows=rows, snapshot=snapshot)

    def _bring_all(self, table: Table, count: Callable[[int], None]) -> None:
        name, columns = table.beside(self.bucket), ", ".join(table.columns)
        self.target.execute(f"TRUNCATE {name}")
        self._transfer(f"SELECT {columns} FROM {table.rows(self.bucket)}", f"{name} ({columns})", count)
        self._compare(table, table.rows(self.bucket), name)

    def _bring_changes(self, table: Table, since: str, count: Callable[[int], None]) -> None:
        name, columns = table.beside(self.bucket), ", ".join(table.columns)
        key = ", ".join(table.key)
        changed = (
            f"(SELECT {columns} FROM {table.rows(self.bucket)} AND age(xmin) <= age('{int(since)}'::xid8::xid)) AS new"
        )
        self.target.execute(f"CREATE TEMP TABLE incoming ON COMMIT DROP AS SELECT {columns} FROM {name} LIMIT 0")
        self._transfer(f"SELECT * FROM {changed}", f"incoming ({columns})", count)
        updates = ", ".join(f"{column} = excluded.{column}" for column in table.columns if column not in table.key)
        self.target.execute(
            f"INSERT INTO {name} ({columns}) SELECT {columns} FROM incoming ON CONFLICT ({key}) DO UPDATE SET {updates}"
        )
        self._compare(table, changed, f"{name} WHERE ({key}) IN (SELECT {key} FROM incoming)")
        self.target.execute("DROP TABLE incoming")
        # What was deleted at the source shows in the number only.
        self._compare(table, table.rows(self.bucket), name, what="count(*)")

    def _transfer(self, select: str, into: str, count: Callable[[int], None]) -> None:
        with (
            self.source.cursor().copy(f"COPY ({select}) TO STDOUT") as out,
            self.target.cursor().copy(f"COPY {into} FROM STDIN") as into_target,
        ):
            for block in out:
                into_target.write(block)
                count(bytes(block).count(b"\n"))  # of text, where a line break in a value is written in another way

    def _compare(self, table: Table, of_source: str, of_copy: str, what: str | None = None) -> None:
        row = f"ROW({', '.join(table.columns)})::text"
        what = what or f"count(*), sum(hashtextextended({row}, 0)::numeric)"
        there = self.source.execute(f"SELECT {what} FROM {of_source}").fetchone()
        here = self.target.execute(f"SELECT {what} FROM {of_copy}").fetchone()
        if there != here:
            raise Different(f"{table.name}: {there} in {self.source.info.dbname}, {here} in the copy")

    # --- Changing hands ----------------------------------------------------------------------------------------------

    def detach(self) -> None:
        """Let the source give up the bucket. Raises psycopg.errors.LockNotAvailable if others keep it from that."""
        parents = ", ".join(f"ONLY {table.name}" for table in self.partitioned)
        with self.source.transaction():
            self._patience(self.source)
            self.source.execute(f"LOCK TABLE {parents} IN ACCESS EXCLUSIVE MODE")
            for table in self.partitioned:
                self.source.execute(f"ALTER TABLE {table.name} DETACH PARTITION {table.beside(self.bucket)}")

    def attach(self) -> None:
        """Let the target have the bucket, with what was copied. Raises psycopg.errors.LockNotAvailable."""
        with self.target.transaction():
            self._patience(self.target)
            self._attach(self.target)
            for table in self.tables:
                name, columns = table.beside(self.bucket), ", ".join(table.columns)
                if table.partitioned:
                    self.target.execute(f"ALTER TABLE {name} DROP CONSTRAINT {name}_bounds")
                else:
                    self.target.execute(
                        f"INSERT INTO {table.name} ({columns}) SELECT {columns} FROM {name} ON CONFLICT DO NOTHING"
                    )
                    self.target.execute(f"DROP TABLE {name}")

    def put_back(self) -> None:
        """Let the source have the bucket again that it has given up. Raises psycopg.errors.LockNotAvailable."""
        with self.source.transaction():
            self._patience(self.source)
            self._attach(self.source)

    def _attach(self, connection: Connection) -> None:
        for table in self.partitioned:
            connection.execute(attach_statement(table.name, self.bucket))

    def clear_source(self) -> None:
        """Delete the rows at the source that are in tables shared with other buckets."""
        for table in self.tables:
            if not table.partitioned:
                self.source.execute(f"DELETE FROM {table.rows(self.bucket)}")

    def drop_source(self) -> None:
        """Drop the bucket's detached tables at the source, once all that happened is known to be at the target.

        Raises Different if it is not. What was derived from the events may have changed since.
        """
        events = next(table for table in self.tables if table.name == "eventing_event")
        if self._exists(self.source, events):
            key = ", ".join(events.key)
            digest = f"SELECT {key}, hashtextextended(ROW({', '.join(events.columns)})::text, 0) FROM"
            with self.target.transaction():
                self.target.execute(
                    f"CREATE TEMP TABLE kept ON COMMIT DROP AS SELECT {key}, 0::bigint AS digest FROM eventing_event"
                    " LIMIT 0"
                )
                self._transfer(f"{digest} {events.beside(self.bucket)}", "kept", ignore)
                missing = self.target.execute(
                    f"SELECT {key}, digest FROM kept EXCEPT {digest} {events.beside(self.bucket)} LIMIT 5"
                ).fetchall()
            if missing:
                raise Different(f"events that {self.target.info.dbname} does not have: {missing}")
        with self.source.transaction():
            for table in self.partitioned:
                self.source.execute(f"DROP TABLE IF EXISTS {table.beside(self.bucket)}")

    def _patience(self, connection: Connection) -> None:
        connection.execute(f"SET LOCAL lock_timeout = {LOCK_MILLISECONDS}")


def _value(cursor: psycopg.Cursor[Any]) -> Any:
    """The only value of the only row."""
    ((value,),) = cursor.fetchall()
    return value
