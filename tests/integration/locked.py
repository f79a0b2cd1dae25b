"""Tables that somebody else has locked, so that whoever reads them waits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import psycopg
from django.db import connections

from tests.waiting import wait_until


@contextmanager
def elsewhere(alias: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection to the database that is none of Django's."""
    parameters = {**connections[alias].get_connection_params(), "cursor_factory": psycopg.Cursor, "context": None}
    with psycopg.connect(**parameters) as connection:
        yield connection


@contextmanager
def locked(*aliases: str, table: str = "orders_order") -> Iterator[None]:
    """Nobody can read the table of these databases meanwhile, and nobody waits for it any more afterwards."""
    with ExitStack() as stack:
        others = [stack.enter_context(elsewhere(alias)) for alias in aliases]
        for other in others:
            other.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        yield
        for other in others:
            wait_until(lambda other=other: waiting(other) == 0)  # type: ignore[misc]
            other.rollback()


def waiting(connection: psycopg.Connection[Any]) -> int:
    """How many wait for a lock in the database."""
    row = connection.execute(
        "SELECT count(*) FROM pg_locks WHERE NOT granted"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    ).fetchone()
    assert row is not None
    return int(row[0])
