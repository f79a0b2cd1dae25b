"""What PostgreSQL can do and SQLite does otherwise, each difference under a name."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import psycopg
from django.db import DatabaseError, InterfaceError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper
from django.db.utils import load_backend
from django.utils.dateparse import parse_datetime
from psycopg.types.datetime import TimestamptzLoader

CANCEL_SECONDS = 0.5  # how long the server may take to cancel a statement before it is told again


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


def try_session_lock(connection: BaseDatabaseWrapper, name: str) -> bool:
    """Take a lock that lives as long as the connection; False if another session has it.

    SQLite is only used by a single process, which needs no lock against others.
    """
    if not is_postgresql(connection):
        return True
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", [name])
        return bool(cursor.fetchone()[0])


def session_lock_taken(connection: BaseDatabaseWrapper) -> str:
    """An SQL expression, with a lock's name as its parameter, that says whether any session has it.

    On SQLite the single process has it, which ends when its thread with the lock fails.
    """
    if not is_postgresql(connection):
        return "%s IS NOT NULL"
    # PostgreSQL shows the halves of the number in two columns.
    return (
        "EXISTS (SELECT 1 FROM pg_locks, hashtextextended(%s, 0) AS number WHERE locktype = 'advisory'"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND granted"
        " AND objsubid = 1 AND classid::bigint = (number >> 32) & 4294967295"
        " AND objid::bigint = number & 4294967295)"
    )


def release_session_lock(connection: BaseDatabaseWrapper, name: str) -> None:
    """Give back a lock that this connection has taken."""
    if is_postgresql(connection):
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", [name])


class SessionLock:
    """A lock that this process has until it gives it back, or its connection to the database breaks.

    The connection is one of its own and not the pool's, which would hand the lock on together with it.
    """

    def __init__(self, alias: str, name: str) -> None:
        self._alias = alias
        self._name = name
        self._connection: BaseDatabaseWrapper | None = None

    def hold(self) -> bool:
        """Take the lock, or make sure that it is still ours; False if another has it or the database is away."""
        if not is_postgresql(connections[self._alias]):
            return True
        try:
            if self._connection is None:
                self._connection = _unpooled(self._alias)
                held = try_session_lock(self._connection, self._name)
            else:
                with self._connection.cursor() as cursor:
                    cursor.execute("SELECT 1")
                held = True
        except (DatabaseError, InterfaceError):
            held = False
        if not held:
            self.release()
        return held

    def release(self) -> None:
        """Give the lock back by closing its connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _unpooled(alias: str) -> BaseDatabaseWrapper:
    """A further connection to a database that no pool and no thread knows."""
    configured = connections[alias].settings_dict
    options = {name: value for name, value in configured["OPTIONS"].items() if name != "pool"}
    connection: BaseDatabaseWrapper = load_backend(configured["ENGINE"]).DatabaseWrapper(
        {**configured, "OPTIONS": options}, alias
    )
    return connection


def try_transaction_lock(connection: BaseDatabaseWrapper, name: str) -> bool:
    """Take a lock until the end of the transaction; False if another transaction has it.

    SQLite's writers exclude each other from the start of a transaction, so nobody can have it.
    """
    if not is_postgresql(connection):
        return True
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 0))", [name])
        return bool(cursor.fetchone()[0])


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

    A thread watches the clock: a limit told to the server would be one more statement for each question. Inside a
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
