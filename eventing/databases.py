"""What PostgreSQL can do and SQLite does otherwise, each difference under a name."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Self

import msgspec
import psycopg
from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper
from django.utils.dateparse import parse_datetime
from psycopg.types.datetime import TimestamptzLoader

CANCEL_SECONDS = 0.5  # how long the server may take to cancel a statement before the next attempt


def give_back_connections() -> None:
    """Return this thread's idle connections to their pools, before it waits for threads that may need them.

    Connections in a transaction or with a lock are kept; SQLite has one for each thread.
    """
    for connection in connections.all(initialized_only=True):
        is_idle = connection.connection is not None and not connection.in_atomic_block
        if is_idle and is_postgresql(connection) and not vars(connection).get("has_session_lock"):
            connection.close()


def is_postgresql(connection: BaseDatabaseWrapper) -> bool:
    return connection.vendor == "postgresql"


def time_to_db(connection: BaseDatabaseWrapper, value: datetime) -> Any:
    """A time as a parameter of a statement written by hand (SQLite keeps text)."""
    return connection.ops.adapt_datetimefield_value(value)


def time_from_db(value: datetime | str) -> datetime:
    """A time as it comes out of such a statement."""
    parsed = parse_datetime(value) if isinstance(value, str) else value
    if parsed is None:
        raise ValueError(f"{value!r} is not a time")
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def read_times_fast(cursor: CursorWrapper) -> None:
    """Let a cursor that reads a great many times do so with compiled code, in a fifth of Django's time."""
    if is_postgresql(cursor.db):
        cursor.cursor.adapters.register_loader("timestamptz", TimestamptzLoader)


def placeholders(columns: int, rows: int) -> str:
    """`(%s, %s), (%s, %s)`: the values of a statement that writes several rows at once."""
    return ", ".join([f"({', '.join(['%s'] * columns)})"] * rows)


def relation(
    connection: BaseDatabaseWrapper, name: str, columns: Mapping[str, str], rows: Iterable[Sequence[Any]]
) -> tuple[str, list[Any]]:
    """Rows as a relation that a statement can have in its FROM, in their order: the SQL, and its parameters.

    `columns` gives the type of each in PostgreSQL, which gets the rows as one text of JSON. It reads that about three
    times as fast as it reads VALUES, and writing it costs a tenth of what binding each value does; and the statement is
    the same for any number of rows. Values are numbers, texts (an object of JSON for jsonb), times, bytes and None.
    """
    if is_postgresql(connection):
        named = [dict(zip(columns, row, strict=True)) for row in rows]
        for column in (column for column, kind in columns.items() if kind == "jsonb"):
            for row in named:
                row[column] = msgspec.Raw(row[column].encode())
        for column in (column for column, kind in columns.items() if kind == "bytea"):
            for row in named:
                row[column] = row[column] and f"\\x{row[column].hex()}"
        return _recordset(name, tuple(columns.items())), [msgspec.json.encode(named).decode()]
    rows = list(rows)
    if not rows:
        return f"(SELECT {', '.join(f'NULL AS {column}' for column in columns)} WHERE 0) AS {name}", []
    names = ", ".join(f"column{number} AS {column}" for number, column in enumerate(columns, start=1))
    values = [time_to_db(connection, value) if isinstance(value, datetime) else value for one in rows for value in one]
    shape = placeholders(len(columns), len(rows))
    return f"(SELECT {names} FROM (VALUES {shape})) AS {name}", values


@functools.cache
def _recordset(name: str, columns: tuple[tuple[str, str], ...]) -> str:
    return f"json_to_recordset(%s) AS {name} ({', '.join(' '.join(column) for column in columns)})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Insertion:
    """Rows for a table; `columns` are those of `relation`, `then` is what follows, such as ON CONFLICT."""

    table: str
    columns: Mapping[str, str]
    rows: Iterable[Sequence[Any]]
    then: str = ""

    def sql(self, connection: BaseDatabaseWrapper, condition: str = "true") -> tuple[str, list[Any]]:
        """The statement, and its parameters."""
        source, parameters = relation(connection, "new", self.columns, self.rows)
        names = ", ".join(self.columns)
        # Without a condition, SQLite would take ON CONFLICT for that of a join.
        sql = f"INSERT INTO {self.table} ({names}) SELECT {names} FROM {source} WHERE {condition} {self.then}"
        return sql, parameters


def insert(connection: BaseDatabaseWrapper, insertion: Insertion) -> list[tuple[Any, ...]]:
    """Insert rows in one statement; returns what it returns."""
    sql, parameters = insertion.sql(connection)
    with prepared(connection) as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchall() if "RETURNING" in insertion.then else []


def insert_together(connection: BaseDatabaseWrapper, first: Insertion, *others: Insertion) -> int:
    """Insert into several tables, on PostgreSQL in one statement; returns how many rows of the first were new.

    In a transaction, because on SQLite they are several statements.
    """
    parts = [insertion.sql(connection) for insertion in (first, *others)]
    with prepared(connection) as cursor:
        if is_postgresql(connection):
            named = ", ".join(
                f"part{number} AS ({sql}{'' if number else ' RETURNING 1'})" for number, (sql, _) in enumerate(parts)
            )
            cursor.execute(
                f"WITH {named} SELECT count(*) FROM part0", [value for _, values in parts for value in values]
            )
            return int(cursor.fetchone()[0])
        new = 0
        for number, (sql, values) in enumerate(parts):
            cursor.execute(sql, values)
            new = new if number else cursor.rowcount
        return new


class Claim(Enum):
    """What a row has met that only one transaction may write."""

    NEW = "it is written"
    TAKEN = "it was there"
    IN_FLIGHT = "another transaction is writing it"


def insert_alone(
    connection: BaseDatabaseWrapper, insertion: Insertion, locks: Sequence[str], *, by: str
) -> dict[Any, Claim]:
    """Insert rows, each under a lock of its own that lasts until the end of the transaction (`try_transaction_lock`).

    Returns for each row, by its column `by`, what it has met.
    """
    if not is_postgresql(connection):
        new = {one for (one,) in insert(connection, replace(insertion, then=f"{insertion.then} RETURNING {by}"))}
        at = list(insertion.columns).index(by)
        return {row[at]: Claim.NEW if row[at] in new else Claim.TAKEN for row in insertion.rows}
    columns = {**insertion.columns, "lock": "text"}
    rows = [(*row, lock) for row, lock in zip(insertion.rows, locks, strict=True)]
    source, parameters = relation(connection, "new", columns, rows)
    names = ", ".join(insertion.columns)
    with prepared(connection) as cursor:
        cursor.execute(
            "WITH locked AS MATERIALIZED"
            f" (SELECT {names}, pg_try_advisory_xact_lock(hashtextextended(lock, 0)) AS taken FROM {source}),"
            f" inserted AS (INSERT INTO {insertion.table} ({names})"
            f" SELECT {names} FROM locked WHERE taken {insertion.then} RETURNING {by})"
            f" SELECT {by}, taken, {by} IN (SELECT {by} FROM inserted) FROM locked",
            parameters,
        )
        return {
            one: (Claim.NEW if new else Claim.TAKEN) if locked else Claim.IN_FLIGHT
            for one, locked, new in cursor.fetchall()
        }


def look_up(
    connection: BaseDatabaseWrapper,
    table: str,
    columns: Sequence[str],
    keys: Sequence[str],
    wanted: Iterable[Sequence[Any]],
    *,
    then: str = "",
    parameters: Sequence[Any] = (),
) -> list[tuple[Any, ...]]:
    """The rows of a table that have one of the wanted keys; by the first column of a key the table may be partitioned.

    The server plans for these keys, and so for their partitions only: a plan that is kept would open all of them each
    time. `then` follows the condition; its `parameters` come with it.
    """
    rows = list(wanted)
    if not rows:
        return []
    first = sorted({row[0] for row in rows})
    condition = f"{keys[0]} IN {placeholders(len(first), 1)}"
    if len(keys) > 1:
        condition += f" AND ({', '.join(keys)}) IN (VALUES {placeholders(len(keys), len(rows))})"
    else:
        rows = []
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {', '.join(columns)} FROM {table} WHERE {condition} {then}",
            [*first, *(value for row in rows for value in row), *parameters],
        )
        return list(cursor.fetchall())


class _PreparingCursor(psycopg.Cursor[Any]):
    """Lets the server keep the plan of each statement for as long as the connection lives."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> Self:
        return super().execute(query, params, prepare=True, **options)


def prepared(connection: BaseDatabaseWrapper) -> CursorWrapper:
    """A cursor for statements that are the same each time, whatever is in the tables: the server plans them once.

    The plan lives as long as the connection, so it must not depend on how large the tables were: this is for
    insertions. Django binds parameters into the text, and so has every statement planned again. Where
    statements are logged, they are logged like that.
    """
    if not is_postgresql(connection) or connection.queries_logged:
        return connection.cursor()
    connection.ensure_connection()
    cursor: Any = _PreparingCursor(connection.connection)
    return connection.make_cursor(cursor)


@contextmanager
def snapshot(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Read everything inside as it is at one moment, without keeping anybody from writing.

    Inside a transaction (a test's) it is that transaction that says what is seen. A transaction that Django opens on
    SQLite would be a writing one, so its own begins by hand.
    """
    if connection.in_atomic_block:
        yield
    elif is_postgresql(connection):
        with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            cursor.execute("SELECT 1")  # the moment is that of the first question
            yield
    else:
        with connection.cursor() as cursor:
            cursor.execute("BEGIN DEFERRED")
            try:
                cursor.execute("SELECT 1 FROM sqlite_schema LIMIT 1")
                yield
            finally:
                cursor.execute("ROLLBACK")


@contextmanager
def time_limit(connection: BaseDatabaseWrapper, seconds: float) -> Iterator[None]:
    """Read inside, and let the server break off the statement that is still running after so long: OperationalError.

    A thread watches the clock: a limit set on the server would be one more statement for each query. Inside a
    transaction nothing is limited, because a statement that is broken off would take all of it along. SQLite reads
    without waiting for anybody.
    """
    if connection.in_atomic_block or not is_postgresql(connection):
        yield
        return
    connection.ensure_connection()
    done = threading.Event()
    watch = threading.Thread(target=_break_off, args=(connection, seconds, done), name="time-limit", daemon=True)
    watch.start()
    try:
        yield
    finally:
        done.set()
        watch.join()  # nothing that comes later may be broken off


def _break_off(connection: BaseDatabaseWrapper, seconds: float, done: threading.Event) -> None:
    """Cancel what runs in a connection from then on, again and again, because a cancellation may fall between two."""
    while not done.wait(seconds):
        seconds = CANCEL_SECONDS
        try:
            connection.connection.cancel_safe(timeout=CANCEL_SECONDS)
        except (psycopg.Error, AttributeError):  # the server does not answer, or the connection has just been lost
            continue
