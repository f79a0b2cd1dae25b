"""The clocks of the databases, by which everything periodic goes, and how far that of this process is from that of
the `default` database, to which all processes can compare.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime

import structlog
from django.db import DEFAULT_DB_ALIAS, Error, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from eventing.databases import is_postgresql

NOTICED_SECONDS = 2.0
ROUND_TRIP_SECONDS = 1.0  # an answer that took longer says too little
LINE_SECONDS = 60.0

logger = structlog.get_logger(__name__)

_lock = threading.Lock()
_last_line: dict[str, float] = {}


def database_time(alias: str = DEFAULT_DB_ALIAS) -> datetime:
    """What the clock of the database says. Periodic tasks go by it: a worker's own may be days ahead for a while.

    SQLite has no clock of its own: it would read this machine's, and cut off what is less than a millisecond.
    """
    connection = connections[alias]
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {expression(connection)}")
        return read(cursor.fetchone()[0])


def expression(connection: BaseDatabaseWrapper) -> str:
    """The SQL expression for the time; `read` converts its value."""
    return "clock_timestamp()" if is_postgresql(connection) else "NULL"


def read(value: datetime | None) -> datetime:
    return datetime.now(UTC) if value is None else value


def time_of_any(aliases: Iterable[str]) -> datetime:
    """What the clock of the first database says that answers; this process's own if none does."""
    for alias in aliases:
        with suppress(Error):
            return database_time(alias)
    return datetime.now(UTC)


def ahead() -> float | None:
    """By how many seconds this clock is ahead of the database's (negative: behind); None if the answer came late."""
    if connections[DEFAULT_DB_ALIAS].connection is None:
        database_time()  # the connection is there now, so that the next answer is quick
    before = datetime.now(UTC)
    database = database_time()
    after = datetime.now(UTC)
    if abs((after - before).total_seconds()) > ROUND_TRIP_SECONDS:
        return None
    return round((before + (after - before) / 2 - database).total_seconds(), 3)


def notice(process: str, seconds: float | None) -> bool:
    """Write a line if a clock is off, at most once a minute for each process; returns whether it is off."""
    if seconds is None or abs(seconds) < NOTICED_SECONDS:
        return False
    with _lock:
        last = _last_line.get(process)
        if last is None or time.monotonic() - last >= LINE_SECONDS:
            _last_line[process] = time.monotonic()
            logger.warning("clock.differs", process=process, seconds_ahead_of_database=seconds)
    return True
