"""Rebuilds a read model from its events, beside the one in use, and switches over while the system runs.

Part by part: a copy is filled from the events in chunks, each in one snapshot with the rows in use, so what differs
there is a fault and not a stream that moved on meanwhile. The switch locks writers out, catches up with the streams
that have new events, and puts the copy in place: on PostgreSQL a table that takes the partition's place, on SQLite a
temporary table whose rows do.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from operator import itemgetter
from typing import Any

from django.db import OperationalError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg.errors import LockNotAvailable

from eventing import store
from eventing.databases import is_postgresql, placeholders, time_from_db, time_to_db
from eventing.errors import EventingError
from eventing.locks import session_lock
from eventing.projections import Part, Projection, Row, Table
from eventing.recorded import stream_name

CHUNK = 500  # streams
ROWS = 500  # of one insert on SQLite
SHOWN = 20  # differences of a part that are kept to be shown
LOCK_MILLISECONDS = 200  # readers queue up for a lock that waits, so it must not wait long
LOCK_TRIES = 60
LOCK_PAUSE_SECONDS = 0.5

# By table: the rows of some streams, by key.
Rows = list[dict[Row, Row]]


class RebuildRefused(EventingError):
    """Another process is rebuilding the same, or readers and writers leave no gap for the switch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A value of the read model that is not what the events say; None for `column` means the whole row."""

    stream: str
    table: str
    key: Row
    column: str | None
    stored: Any
    expected: Any

    def __str__(self) -> str:
        where = f"{self.stream} {self.table} {'/'.join(map(str, self.key[1:]))}".rstrip()
        if self.column is not None:
            return f"{where} {self.column}: {_shown(self.stored)} should be {_shown(self.expected)}"
        return f"{where}: the row is missing" if self.stored is None else f"{where}: no event speaks of this row"


@dataclass(slots=True)
class Found:
    """What a comparison has come to; `differences` are the first ones only, `differing` counts all their streams."""

    streams: int = 0
    differing: int = 0
    differences: list[Difference] = field(default_factory=list)


@contextmanager
def alone(projection: Projection, alias: str) -> Iterator[None]:
    """Keep others from rebuilding the same in this database; raises RebuildRefused if another process is."""
    with session_lock(alias, f"eventing.rebuild:{projection.name}") as mine:
        if not mine:
            raise RebuildRefused(f"Another process is rebuilding {projection.name} in {alias}.")
        yield


def compare(projection: Projection, alias: str, part: Part) -> Found:
    """Compare the rows of a part with its events and change nothing."""
    found = Found()
    for _ in _chunks(projection, alias, part, found):
        """Everything is in `found`."""
    return found


def rebuild(
    projection: Projection, alias: str, part: Part, *, on_busy: Callable[[int], None] = lambda tries: None
) -> Found:
    """Rebuild a part and put it in use; returns how the one that was in use until then differed.

    Calls `on_busy(tries)` after each try that finds no gap for the switch, and raises RebuildRefused after LOCK_TRIES.
    When it is cut off anywhere the read model stays as it was, and the next run removes what was left.
    """
    copy = _Copy(projection, alias, part)
    copy.drop()
    copy.create()
    try:
        found = Found()
        for histories, expected in _chunks(projection, alias, part, found):
            copy.add(histories, expected)
        copy.catch_up()  # so that little is left to do under the lock
        copy.analyse()
        _switch(copy, on_busy)
    finally:
        if connections[alias].is_usable():
            copy.drop()
    return found


def _switch(copy: _Copy, on_busy: Callable[[int], None]) -> None:
    for tries in range(1, LOCK_TRIES + 1):
        try:
            with transaction.atomic(using=copy.alias):
                copy.lock_out_writers()
                copy.catch_up()
                copy.take_over()
            return
        except OperationalError as error:
            if not isinstance(error.__cause__, LockNotAvailable):
                raise
            on_busy(tries)
            time.sleep(random.uniform(0.2, 1.0) * LOCK_PAUSE_SECONDS)
    raise RebuildRefused(
        f"{copy.part.name} in {copy.alias} was in use by long transactions in {LOCK_TRIES} tries; it stays as it was."
    )


def _chunks(
    projection: Projection, alias: str, part: Part, found: Found
) -> Iterator[tuple[dict[int, list[Any]], Rows]]:
    """The histories of a part, what they come to, and in `found` how the rows in use differ; chunk by chunk."""
    connection = connections[alias]
    after = part.first - 1
    while after < part.last:
        with _snapshot(connection):
            begin, after = after + 1, _next(projection, connection, part, after)
            ids = _ids("eventing_event", "stream_id", connection, begin, after, projection.category)
            histories = store.load_many(projection.category, ids, using=alias)
            expected = _expected(projection, connection, histories)
            stored = [_stored(table, connection, begin, after) for table in projection.tables]
            found.streams += len(ids)
            _compare(projection, stored, expected, found)
            yield histories, expected


@contextmanager
def _snapshot(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """A transaction whose statements all see the same; SQLite has no other kind."""
    with transaction.atomic(using=connection.alias):
        if is_postgresql(connection):
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        yield


def _next(projection: Projection, connection: BaseDatabaseWrapper, part: Part, after: int) -> int:
    """Where the next chunk ends: neither events nor rows of more than `CHUNK` streams are in it."""
    ends = [part.last]
    sources = [("eventing_event", "stream_id", projection.category)]
    sources += [(table.name, table.key[0], "") for table in projection.tables]
    for table, column, category in sources:
        ids = _ids(table, column, connection, after + 1, part.last, category, limit=CHUNK)
        if len(ids) == CHUNK:
            ends.append(ids[-1])
    return min(ends)


def _ids(
    table: str,
    column: str,
    connection: BaseDatabaseWrapper,
    first: int,
    last: int,
    category: str = "",
    limit: int | None = None,
) -> list[int]:
    """The streams that a table speaks of, in order."""
    of_category = " AND category = %s" if category else ""
    parameters: list[Any] = [first, last, *([category] if category else []), *([limit] if limit else [])]
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT DISTINCT {column} FROM {table} WHERE {column} BETWEEN %s AND %s{of_category}"
            f" ORDER BY {column}{' LIMIT %s' if limit else ''}",
            parameters,
        )
        return [stream_id for (stream_id,) in cursor.fetchall()]


def _expected(projection: Projection, connection: BaseDatabaseWrapper, histories: dict[int, list[Any]]) -> Rows:
    expected: Rows = [{} for _ in projection.tables]
    key_of = [_key_of(table) for table in projection.tables]
    for history in histories.values():
        for key, into, rows in zip(key_of, expected, projection.rows(history), strict=True):
            for row in rows:
                values = _to_db(connection, row)
                into[key(values)] = values
    return expected


def _stored(table: Table, connection: BaseDatabaseWrapper, first: int, last: int) -> dict[Row, Row]:
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {', '.join(table.columns)} FROM {table.name} WHERE {table.key[0]} BETWEEN %s AND %s", [first, last]
        )
        key_of = _key_of(table)
        return {key_of(row): _to_db(connection, row) for row in cursor.fetchall()}


def _to_db(connection: BaseDatabaseWrapper, row: Row) -> Row:
    """A row as a statement takes it. SQLite writes times as text, and reads them without their zone."""
    if is_postgresql(connection):
        return row
    return tuple(time_to_db(connection, time_from_db(value)) if isinstance(value, datetime) else value for value in row)


def _key_of(table: Table) -> Callable[[Row], Row]:
    """What takes the key out of a row. It is called for each, so it looks for the columns once."""
    first, *others = (table.columns.index(column) for column in table.key)
    return itemgetter(first, *others) if others else lambda row: (row[first],)


def _compare(projection: Projection, stored: Rows, expected: Rows, found: Found) -> None:
    streams = set()
    for table, are, should_be in zip(projection.tables, stored, expected, strict=True):
        for key in sorted(are.keys() | should_be.keys()):
            before, after = are.get(key), should_be.get(key)
            if before == after:
                continue
            streams.add(key[0])
            whole_row = before is None or after is None
            columns = [None] if whole_row else [name for name, a, b in _columns(table, before, after) if a != b]
            for column in columns[: SHOWN - len(found.differences)]:
                at = table.columns.index(column) if column is not None else None
                found.differences.append(
                    Difference(
                        stream=stream_name(projection.category, key[0]),
                        table=table.name,
                        key=key,
                        column=column,
                        stored=before if at is None or before is None else before[at],
                        expected=after if at is None or after is None else after[at],
                    )
                )
    found.differing += len(streams)


def _columns(table: Table, before: Row | None, after: Row | None) -> Iterator[tuple[str, Any, Any]]:
    return zip(table.columns, before or (), after or (), strict=True)


def _shown(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else repr(value)


class _Copy:
    """The new tables of a part, and one that says up to which version each stream is in them."""

    def __init__(self, projection: Projection, alias: str, part: Part) -> None:
        self.projection = projection
        self.alias = alias
        self.part = part
        self.connection = connections[alias]
        self.partitioned = is_postgresql(self.connection)
        self.tables = [(table, f"{table.name}_{part.name}_new") for table in projection.tables]
        self.versions = f"{projection.name}_{part.name}_versions"

    def create(self) -> None:
        for table, copy in self.tables:
            if not self.partitioned:
                self._do(f"CREATE TEMP TABLE {copy} AS SELECT {', '.join(table.columns)} FROM {table.name} WHERE 0")
                self._do(f"CREATE INDEX temp.{copy}_key ON {copy} ({table.key[0]})")
                continue
            self._do(f"CREATE TABLE {copy} (LIKE {self._partition(table)} INCLUDING ALL)")
            _, constraint = self._bounds(table)
            # What is known to fit need not be read again under the lock.
            self._do(f"ALTER TABLE {copy} ADD CONSTRAINT {copy}_bounds CHECK ({constraint})")
        kind = "UNLOGGED" if self.partitioned else "TEMP"
        self._do(f"CREATE {kind} TABLE {self.versions} (stream_id bigint PRIMARY KEY, version integer NOT NULL)")

    def drop(self) -> None:
        for name in [*(copy for _, copy in self.tables), self.versions]:
            self._do(f"DROP TABLE IF EXISTS {'' if self.partitioned else 'temp.'}{name}")

    def add(self, histories: dict[int, list[Any]], expected: Rows) -> None:
        for (table, copy), rows in zip(self.tables, expected, strict=True):
            self._insert(copy, table.columns, list(rows.values()))
        versions = [(stream_id, history[-1].version) for stream_id, history in histories.items() if history]
        self._insert(self.versions, ("stream_id", "version"), versions)

    def catch_up(self) -> None:
        """Rebuild the rows of streams that have got events since they were added."""
        with self.connection.cursor() as cursor:
            cursor.execute(
                "SELECT stream.stream_id FROM (SELECT stream_id, max(version) AS version FROM eventing_event"
                " WHERE stream_id BETWEEN %s AND %s AND category = %s GROUP BY stream_id) AS stream"
                f" LEFT JOIN {self.versions} AS added ON added.stream_id = stream.stream_id"
                " WHERE added.version IS NULL OR added.version <> stream.version",
                [self.part.first, self.part.last, self.projection.category],
            )
            outdated = [stream_id for (stream_id,) in cursor.fetchall()]
        for start in range(0, len(outdated), CHUNK):
            ids = outdated[start : start + CHUNK]
            with transaction.atomic(using=self.alias):
                histories = store.load_many(self.projection.category, ids, using=self.alias)
                columns = [(copy, table.key[0]) for table, copy in self.tables] + [(self.versions, "stream_id")]
                for name, column in columns:
                    self._do(f"DELETE FROM {name} WHERE {column} IN {placeholders(len(ids), 1)}", ids)
                self.add(histories, _expected(self.projection, self.connection, histories))

    def analyse(self) -> None:
        if self.partitioned:
            for _, copy in self.tables:
                self._do(f"ANALYZE {copy}")

    def lock_out_writers(self) -> None:
        """Every reader and writer of a partition holds a lock on the whole table; SQLite's transaction has begun so."""
        if self.partitioned:
            self._do(f"SET LOCAL lock_timeout = {LOCK_MILLISECONDS}")
            names = ", ".join(f"ONLY {table.name}" for table, _ in self.tables)
            self._do(f"LOCK TABLE {names} IN ACCESS EXCLUSIVE MODE")

    def take_over(self) -> None:
        for table, copy in self.tables:
            if not self.partitioned:
                self._do(
                    f"DELETE FROM {table.name} WHERE {table.key[0]} BETWEEN %s AND %s",
                    [self.part.first, self.part.last],
                )
                columns = ", ".join(table.columns)
                self._do(f"INSERT INTO {table.name} ({columns}) SELECT {columns} FROM {copy}")
                continue
            bounds, _ = self._bounds(table)
            partition = self._partition(table)
            self._do(f"ALTER TABLE {table.name} DETACH PARTITION {partition}")
            self._do(f"DROP TABLE {partition}")
            self._do(f"ALTER TABLE {copy} RENAME TO {partition}")
            self._do(f"ALTER TABLE {table.name} ATTACH PARTITION {partition} {bounds}")
            self._do(f"ALTER TABLE {partition} DROP CONSTRAINT {copy}_bounds")

    def _partition(self, table: Table) -> str:
        return f"{table.name}_{self.part.name}"

    def _bounds(self, table: Table) -> tuple[str, str]:
        """How the partition was attached, and the condition that its rows meet."""
        with self.connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_get_expr(relpartbound, oid), pg_get_partition_constraintdef(oid) FROM pg_class"
                " WHERE oid = to_regclass(%s) AND relispartition",
                [self._partition(table)],
            )
            row = cursor.fetchone()
        if row is None:
            raise RebuildRefused(f"{self.alias} does not have {self._partition(table)} any more: run it again.")
        return str(row[0]), str(row[1])

    def _insert(self, name: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
        if self.partitioned:
            with (
                self.connection.cursor() as cursor,
                cursor.copy(f"COPY {name} ({', '.join(columns)}) FROM STDIN") as copy,
            ):
                for row in rows:
                    copy.write_row(row)
            return
        for start in range(0, len(rows), ROWS):
            some = rows[start : start + ROWS]
            self._do(
                f"INSERT INTO {name} ({', '.join(columns)}) VALUES {placeholders(len(columns), len(some))}",
                [value for row in some for value in row],
            )

    def _do(self, statement: str, parameters: Sequence[Any] | None = None) -> None:
        with self.connection.cursor() as cursor:
            cursor.execute(statement, parameters)
