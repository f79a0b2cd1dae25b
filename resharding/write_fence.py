"""The write fence of a bucket: keeps its writers out for a moment, and only them.

While a bucket is being moved, a trigger makes each writer of its rows share an advisory lock until the end of its
transaction. The mover closes the fence by taking the lock exclusively: it gets it when the writers that are inside
have finished, and later ones are refused at once (`shards.on_owner` tries again). Readers are not affected. If the
mover dies, its lock goes with its connection and the fence is open.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence

from psycopg.errors import LockNotAvailable

from resharding.tables import LOCK_MILLISECONDS, Connection, Table
from sharding.numbers import bucket_range

LOCK = 1_651_860_331  # "buck"; the second number of the advisory lock is the bucket
LOCK_TRIES = 100
REMOVE_TRIES = 10
PAUSE_SECONDS = 0.1

# The names of the function and of its triggers stay: a move may have begun under an older version.
FUNCTION = f"""
CREATE OR REPLACE FUNCTION sharding_gate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT pg_try_advisory_xact_lock_shared({LOCK}, TG_ARGV[0]::int) THEN
        RAISE EXCEPTION 'bucket % is about to move', TG_ARGV[0] USING ERRCODE = 'object_in_use';
    END IF;
    RETURN NEW;
END $$
"""


def install(connection: Connection, tables: Sequence[Table], bucket: int) -> None:
    """Put up the fence of a bucket, open. Every transaction that commits from now on has passed it.

    Raises LockNotAvailable if long transactions keep it from that.
    """
    low, high = bucket_range(bucket)
    connection.execute(FUNCTION)
    for table in tables:
        if not _is_there(connection, table, bucket):
            _briefly(
                connection,
                f"CREATE TRIGGER {_name(bucket)} BEFORE INSERT OR UPDATE ON {table.relation(bucket)} FOR EACH ROW"
                f" WHEN (NEW.{table.column} BETWEEN {low} AND {high - 1}) EXECUTE FUNCTION sharding_gate('{bucket}')",
                tries=LOCK_TRIES,
            )


def remove(connection: Connection, tables: Sequence[Table], bucket: int) -> bool:
    """Remove the fence; False if a long transaction prevents that. It stays, open, and does no harm."""
    removed = True
    for table in tables:
        if _is_there(connection, table, bucket):
            try:
                statement = f"DROP TRIGGER {_name(bucket)} ON {table.relation(bucket)}"
                _briefly(connection, statement, tries=REMOVE_TRIES)
            except LockNotAvailable:
                removed = False
    return removed


def close(connection: Connection, bucket: int, *, seconds: float) -> bool:
    """Let the writers inside finish and no other in; False if that takes longer than `seconds`."""
    try:
        with connection.transaction():
            connection.execute(f"SET LOCAL lock_timeout = {round(seconds * 1000)}")
            connection.execute("SELECT pg_advisory_lock(%s, %s)", [LOCK, bucket])
    except LockNotAvailable:
        return False
    return True


def reopen(connection: Connection, bucket: int) -> None:
    connection.execute("SELECT pg_advisory_unlock(%s, %s)", [LOCK, bucket])


def until_locked(operation: Callable[[], None], *, tries: int) -> None:
    """Repeat an operation that raises LockNotAvailable, and raise it after so many tries."""
    for left in reversed(range(tries)):
        try:
            return operation()
        except LockNotAvailable:
            if not left:
                raise
            time.sleep(random.uniform(0.5, 1.0) * PAUSE_SECONDS)


def _briefly(connection: Connection, statement: str, *, tries: int) -> None:
    """Run a statement that waits for a lock only so long that others do not queue up for it."""

    def attempt() -> None:
        with connection.transaction():
            connection.execute(f"SET LOCAL lock_timeout = {LOCK_MILLISECONDS}")
            connection.execute(statement)

    until_locked(attempt, tries=tries)


def _is_there(connection: Connection, table: Table, bucket: int) -> bool:
    found = connection.execute(
        "SELECT FROM pg_trigger WHERE tgname = %s AND tgrelid = to_regclass(%s)",
        [_name(bucket), table.relation(bucket)],
    )
    return found.fetchone() is not None


def _name(bucket: int) -> str:
    return f"sharding_gate_b{bucket:03d}"
