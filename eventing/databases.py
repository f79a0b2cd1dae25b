"""What PostgreSQL can do and SQLite does otherwise, each difference under a name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils.dateparse import parse_datetime


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


def release_session_lock(connection: BaseDatabaseWrapper, name: str) -> None:
    """Give back a lock that this connection has taken."""
    if is_postgresql(connection):
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", [name])


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
