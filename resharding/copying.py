"""Copies the rows of a bucket to another PostgreSQL database, and then what changes meanwhile.

Copied rows stay in tables of the bucket's own, beside those in use, until they are attached. Rows that were inserted or
changed since are found by their `xmin`, the transaction that wrote them, so that no transaction that commits late is
missed: https://www.postgresql.org/docs/current/ddl-system-columns.html
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.errors import QueryCanceled

from resharding.tables import LOCK_MILLISECONDS, Connection, Table, tables
from sharding.errors import MoveRefused
from sharding.numbers import BUCKETS, bucket_range
from sharding.partitions import attach_statement

SLICE_ROWS = 500  # compared at once while orders go on, which need the machine, too
SHARE = 0.2  # of the time in which rows are compared


class Different(Exception):
    """The copy is not what the source has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """The rows that one pass over the source has copied, and the transaction id from which the next one must begin."""

    rows: int
    snapshot: str


def ignore(progress: object) -> None:
    """Whoever calls does not need it."""


class Copy:
    """A bucket's rows in `source`, and their copy in `target`. `preparing` is a second connection to the target."""

    def __init__(self, source: Connection, target: Connection, preparing: Connection, bucket: int) -> None:
        self.source = source
        self.target = target
        self.preparing = preparing
        self.bucket = bucket
        self._has_room = False
        # The snapshot in which `preparing` has last read the copy, if its transaction is open.
        self._prepared: str | None = None
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
                " partitions were changed by hand. `manage.py audit` names what is affected."
            )
        return bool(attached)

    def has_tables(self) -> bool:
        return all(self._exists(self.target, table) for table in self.tables)

    def _exists(self, connection: Connection, table: Table, condition: str = "") -> bool:
        statement = f"SELECT FROM pg_class WHERE oid = to_regclass(%s) {condition}"
        return connection.execute(statement, [table.of_bucket(self.bucket)]).fetchone() is not None

    # --- Copying -----------------------------------------------------------------------------------------------------

    def create_tables(self) -> None:
        """Make the empty tables of the copy."""
        self.discard()
        low, high = bucket_range(self.bucket)
        with self.target.transaction():
            for table in self.tables:
                name = table.of_bucket(self.bucket)
                self.target.execute(f"CREATE TABLE {name} (LIKE {table.name} INCLUDING ALL)")
                if table.partitioned:
                    # What is known to fit need not be read again when it is attached.
                    bounds = f"{table.column} >= {low}"
                    if self.bucket < BUCKETS - 1:
                        bounds += f" AND {table.column} < {high}"
                    self.target.execute(f"ALTER TABLE {name} ADD CONSTRAINT {name}_bounds CHECK ({bounds})")

    def discard(self) -> None:
        """Remove the copy, which must not be attached."""
        self.rollback()
        with self.target.transaction():
            for table in self.tables:
                self.target.execute(f"DROP TABLE IF EXISTS {table.of_bucket(self.bucket)}")

    def expected(self) -> int:
        """About how many rows there are, as the planner would say."""
        total = 0
        for table in self.tables:
            explained = _value(self.source.execute(f"EXPLAIN (FORMAT JSON) SELECT 1 FROM {table.rows(self.bucket)}"))
            total += int(explained[0]["Plan"]["Plan Rows"])
        return total

    def catch_up(
        self, since: str | None, on_rows: Callable[[int], None] = ignore, *, seconds: float | None = None
    ) -> Pass:
        """Copy what was written at the source since the snapshot of an earlier pass, or everything.

        Raises Different if the copy is not the same afterwards: rows were deleted at the source, for example; and
        psycopg.errors.QueryCanceled if it takes more than about `seconds`.
        """
        rows = 0
        deadline = None if seconds is None else time.monotonic() + seconds

        def count(more: int) -> None:
            nonlocal rows
            rows += more
            on_rows(rows)

        if since is None:
            self.rollback()
        else:
            self._make_room()
        with self.source.transaction(), self.target.transaction():
            self.source.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            # Transactions from this one on may not have been seen.
            snapshot = _snapshot(self.source)
            if seconds is not None:
                for connection in (self.source, self.target):
                    connection.execute(f"SET LOCAL statement_timeout = {max(round(seconds * 1000), 1)}")  # 0 is none
            for table in self.tables:
                if deadline is not None and time.monotonic() > deadline:
                    raise QueryCanceled("no time is left")
                if since is None:
                    self._copy_all(table, count)
                    self._compare_slowly(table)
                elif not table.key:
                    self._copy_all(table, count)
                    self._compare(table, table.rows(self.bucket), table.of_bucket(self.bucket))
                else:
                    self._copy_changes(table, since, count)
        return Pass(rows=rows, snapshot=snapshot)

    def _make_room(self) -> None:
        """Tables for changes on their way, empty again after each transaction."""
        if not self._has_room:
            for table in self.tables:
                self.target.execute(
                    f"CREATE TEMP TABLE {table.incoming} ON COMMIT DELETE ROWS"
                    f" AS SELECT {', '.join(table.columns)} FROM {table.name} LIMIT 0"
                )
            self._has_room = True

    def _copy_all(self, table: Table, count: Callable[[int], None]) -> None:
        name, columns = table.of_bucket(self.bucket), ", ".join(table.columns)
        self.target.execute(f"TRUNCATE {name}")
        self._transfer(f"SELECT {columns} FROM {table.rows(self.bucket)}", f"{name} ({columns})", count)

    def _copy_changes(self, table: Table, since: str, count: Callable[[int], None]) -> None:
        name, columns, rows = table.of_bucket(self.bucket), ", ".join(table.columns), table.rows(self.bucket)
        key, changed, incoming = ", ".join(table.key), _changed_since(since), table.incoming
        self._transfer(f"SELECT {columns} FROM {rows} AND {changed}", f"{incoming} ({columns})", count)
        self.target.execute(f"INSERT INTO {name} ({columns}) SELECT {columns} FROM {incoming} {table.or_update}")
        # What was deleted at the source shows in the number of all rows only.
        came = f"{name} WHERE ({key}) IN (SELECT {key} FROM {incoming})"
        self._agree(
            table,
            f"count(*), {table.digest(changed)} FROM {rows}",
            f"(SELECT count(*) FROM {name}), {table.digest()} FROM {came}",
        )

    def _transfer(self, select: str, into: str, count: Callable[[int], None]) -> None:
        with (
            self.source.cursor().copy(f"COPY ({select}) TO STDOUT") as out,
            self.target.cursor().copy(f"COPY {into} FROM STDIN") as into_target,
        ):
            for block in out:
                into_target.write(block)
                count(bytes(block).count(b"\n"))  # of text, where a line break in a value is written in another way

    def _compare_slowly(self, table: Table) -> None:
        name, rows = table.of_bucket(self.bucket), table.rows(self.bucket)
        for within in self._slices(table, rows):
            self._compare(table, f"{rows} AND {within}", f"{name} WHERE {within}")
        self._agree(table, f"count(*) FROM {rows}", f"count(*) FROM {name}")

    def _slices(self, table: Table, rows: str) -> Iterator[str]:
        """Conditions that divide the rows of a table among slices; between two of them, others have the machine."""
        ends = _value(
            self.source.execute(
                f"SELECT array_agg({table.column} ORDER BY {table.column}) FROM (SELECT {table.column},"
                f" row_number() OVER (ORDER BY {table.column}) AS number FROM {rows}) AS numbered"
                f" WHERE number % {SLICE_ROWS} = 0"
            )
        )
        low, _ = bucket_range(self.bucket)
        for end in [*dict.fromkeys(ends or ()), (1 << 63) - 1]:
            began = time.monotonic()
            yield f"{table.column} BETWEEN {low} AND {end}"
            low = end + 1
            time.sleep((time.monotonic() - began) * (1 / SHARE - 1))

    def _compare(self, table: Table, at_source: str, in_copy: str) -> None:
        """These rows must be the same."""
        self._agree(table, f"{table.digest()} FROM {at_source}", f"{table.digest()} FROM {in_copy}")

    def _agree(self, table: Table, of_source: str, of_copy: str) -> None:
        """Questions, without their SELECT, to which both must have the same answer."""
        there = self.source.execute(f"SELECT {of_source}").fetchone()
        here = self.target.execute(f"SELECT {of_copy}").fetchone()
        if there != here:
            raise Different(f"{table.name}: {there} in {self.source.info.dbname}, {here} in the copy")

    # --- Changing owners ----------------------------------------------------------------------------------------------

    def detach(self) -> None:
        """Detach the bucket at the source. Raises psycopg.errors.LockNotAvailable if a transaction prevents that."""
        parents = ", ".join(f"ONLY {table.name}" for table in self.partitioned)
        with self.source.transaction():
            self._patience(self.source)
            self.source.execute(f"LOCK TABLE {parents} IN ACCESS EXCLUSIVE MODE")
            for table in self.partitioned:
                self.source.execute(f"ALTER TABLE {table.name} DETACH PARTITION {table.of_bucket(self.bucket)}")

    def prepare(self) -> None:
        """Insert the rows of shared tables at the target, in a transaction that `attach` commits.

        They are invisible until then, and gone if the mover dies. They are most of the work of attaching; what changes
        in the copy from now on is inserted then.
        """
        if self._prepared is None:
            self.preparing.execute("BEGIN")
        since, self._prepared = self._prepared, _snapshot(self.preparing)
        for table in self.tables:
            if not table.partitioned and table.key:
                columns, changed = ", ".join(table.columns), "true" if since is None else _changed_since(since)
                self.preparing.execute(
                    f"INSERT INTO {table.name} ({columns}) SELECT {columns} FROM {table.of_bucket(self.bucket)}"
                    f" WHERE {changed} {table.or_update}"
                )

    def attach(self) -> None:
        """Attach the bucket at the target, with what was copied. Raises psycopg.errors.LockNotAvailable."""
        self.prepare()
        with self.preparing.transaction():
            self._patience(self.preparing)
            self._attach(self.preparing)
            for table in self.tables:
                name, columns = table.of_bucket(self.bucket), ", ".join(table.columns)
                if table.partitioned:
                    self.preparing.execute(f"ALTER TABLE {name} DROP CONSTRAINT {name}_bounds")
                    continue
                if not table.key:
                    self.preparing.execute(f"INSERT INTO {table.name} ({columns}) SELECT {columns} FROM {name}")
                self.preparing.execute(f"DROP TABLE {name}")
        self.preparing.execute("COMMIT")
        self._prepared = None

    def rollback(self) -> None:
        """Undo `prepare`: as long as its transaction is open the copy cannot be removed, and on a server that has both
        databases every change since then counts as one that may not have been seen.
        """
        if self._prepared is not None:
            self._prepared = None
            self.preparing.execute("ROLLBACK")

    def reattach(self) -> None:
        """Attach the bucket at the source again. Raises psycopg.errors.LockNotAvailable."""
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
            key, kept = ", ".join(events.key), events.of_bucket(self.bucket)
            digest = f"SELECT {key}, hashtextextended(ROW({', '.join(events.columns)})::text, 0) FROM {kept} WHERE"
            missing: list[Any] = []
            for within in self._slices(events, kept):
                with self.target.transaction():
                    self.target.execute(
                        f"CREATE TEMP TABLE kept ON COMMIT DROP AS SELECT {key}, 0::bigint AS digest"
                        " FROM eventing_event LIMIT 0"
                    )
                    self._transfer(f"{digest} {within}", "kept", ignore)
                    missing += self.target.execute(
                        f"SELECT {key}, digest FROM kept EXCEPT {digest} {within} LIMIT 5"
                    ).fetchall()
            if missing:
                raise Different(f"events that {self.target.info.dbname} does not have: {missing}")
        with self.source.transaction():
            for table in self.partitioned:
                self.source.execute(f"DROP TABLE IF EXISTS {table.of_bucket(self.bucket)}")

    def _patience(self, connection: Connection) -> None:
        connection.execute(f"SET LOCAL lock_timeout = {LOCK_MILLISECONDS}")


def _snapshot(connection: Connection) -> str:
    """The oldest transaction that may not be seen yet, nor those after it."""
    return str(_value(connection.execute("SELECT pg_snapshot_xmin(pg_current_snapshot())::text")))


def _changed_since(snapshot: str) -> str:
    """The condition for rows that may not have been seen in a snapshot."""
    return f"age(xmin) <= age('{int(snapshot)}'::xid8::xid)"


def _value(cursor: psycopg.Cursor[Any]) -> Any:
    """The only value of the only row."""
    ((value,),) = cursor.fetchall()
    return value
