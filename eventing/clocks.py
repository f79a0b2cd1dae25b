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
from django.db.models.functions import Now

from eventing.databases import is_postgresql
from eventing.models import ProcessClock

NOTICED_SECONDS = 2.0
ROUND_TRIP_SECONDS = 1.0  # an answer that took longer says too little
NOTE_SECONDS = 30.0
LINE_SECONDS = 60.0

logger = structlog.get_logger(__name__)

_lock = threading.Lock()
_last_note: dict[str, float] = {}
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


def note(process: str) -> None:
    """Write down how far the clock of this process is from the database's, every half a minute; log it if it is off.

    Nothing here goes by the result, so it does not matter if the database cannot say.
    """
    with _lock:
        last = _last_note.get(process)
        if last is not None and time.monotonic() - last < NOTE_SECONDS:
            return
        _last_note[process] = time.monotonic()
    if not is_postgresql(connections[DEFAULT_DB_ALIAS]):
        return  # there is one clock
    with suppress(Error):
        if (seconds := ahead()) is not None:
            warn(process, seconds)
            ProcessClock.objects.using(DEFAULT_DB_ALIAS).update_or_create(
                process=process[:200], defaults={"seconds_ahead": seconds, "noted_at": Now()}
            )


def warn(process: str, seconds: float) -> None:
    """Log that a clock is off, at most once a minute for each process."""
    if abs(seconds) < NOTICED_SECONDS:
        return
    with _lock:
        last = _last_line.get(process)
        if last is not None and time.monotonic() - last < LINE_SECONDS:
            return
        _last_line[process] = time.monotonic()
    logger.warning("clock.differs", process=process, seconds_ahead_of_database=seconds)
