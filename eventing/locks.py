"""Advisory locks, each known by a name. SQLite is used by a single process only, which needs no lock against others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from django.db import DatabaseError, InterfaceError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import load_backend

from eventing.databases import is_postgresql


def try_session_lock(connection: BaseDatabaseWrapper, name: str) -> bool:
    """Take a lock that lives as long as the connection; False if another session has it."""
    if not is_postgresql(connection):
        return True
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", [name])
        taken = bool(cursor.fetchone()[0])
    vars(connection)["has_session_lock"] = taken  # so that its pool does not get it back unasked
    return taken


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


def is_locked(alias: str, name: str) -> bool:
    """Whether any session has a lock."""
    connection = connections[alias]
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {session_lock_taken(connection)}", [name])
        return bool(cursor.fetchone()[0])


def release_session_lock(connection: BaseDatabaseWrapper, name: str) -> None:
    """Give back a lock that this connection has taken."""
    if is_postgresql(connection):
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", [name])
        vars(connection)["has_session_lock"] = False


@contextmanager
def session_lock(alias: str, name: str) -> Iterator[bool]:
    """Hold a lock of this thread's connection inside; yields False if another session has it."""
    connection = connections[alias]
    taken = try_session_lock(connection, name)
    try:
        yield taken
    finally:
        if taken and connection.is_usable():
            release_session_lock(connection, name)


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
            self._close()
        return held

    def release(self) -> None:
        """Give the lock back. Others can have it at once, unless the database is away."""
        if self._connection is not None:
            # A connection that is closed is gone for the server a moment later.
            with suppress(DatabaseError, InterfaceError):
                release_session_lock(self._connection, self._name)
        self._close()

    def _close(self) -> None:
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
