"""The outbox of a database: its lag, and whether a relay leads there."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db import connections

from eventing import clocks
from eventing.databases import time_from_db
from eventing.locks import is_locked, session_lock_taken

LOCK = "eventing.relay"  # the relay that has it is the leader of its database

OLDEST = (
    "SELECT event.recorded_at FROM eventing_outbox AS oldest"
    " JOIN eventing_event AS event ON event.stream_id = oldest.stream_id"
    " AND event.category = oldest.category AND event.version = oldest.version"
    " ORDER BY oldest.id LIMIT 1"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lag:
    """The lag of a database: `waiting` events in its outbox, the age of the oldest, and whether a relay leads there."""

    waiting: int
    seconds: float
    led: bool


def lag(alias: str) -> Lag:
    connection = connections[alias]
    now, led = clocks.expression(connection), session_lock_taken(connection)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT (SELECT count(*) FROM eventing_outbox), ({OLDEST}), {now}, {led}", [LOCK])
        waiting, oldest, at, is_led = cursor.fetchone()
    return Lag(waiting=waiting, seconds=_age(oldest, at), led=bool(is_led))


def oldest_seconds(alias: str) -> float:
    """The age of the oldest event in the outbox, 0 if it is empty; without counting the others."""
    connection = connections[alias]
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT ({OLDEST}), {clocks.expression(connection)}")
        oldest, now = cursor.fetchone()
    return _age(oldest, now)


def ends(alias: str) -> tuple[int, int]:
    """The ids of the oldest and of the newest row of the outbox; 0 and 0 if it is empty."""
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT min(id), max(id) FROM eventing_outbox")
        oldest, newest = cursor.fetchone()
    return oldest or 0, newest or 0


def is_led(alias: str) -> bool:
    """Whether a relay leads on this database."""
    return is_locked(alias, LOCK)


def _age(recorded_at: datetime | str | None, now: datetime | None) -> float:
    if recorded_at is None:
        return 0.0
    return max(0.0, (clocks.read(now) - time_from_db(recorded_at)).total_seconds())
