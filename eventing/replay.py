"""Sends history again to one subscriber, through its queue and its inbox, in the order of time, and can go on later.

Its progress is a row, written after each message that the broker has confirmed. After a crash in between a message is
sent twice with the same time, so the inbox drops the second copy, also in a replay that forgets.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, Protocol

import msgspec
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone

from eventing.databases import placeholders, time_to_db
from eventing.errors import EventingError
from eventing.fan_out import on_each
from eventing.locks import session_lock
from eventing.models import ReplayRun
from eventing.publishing import batches
from eventing.relay import backoff_seconds, envelope_of_row
from eventing.store import COLUMNS
from eventing.subscribers import ANY, Subscriber
from eventing.wire import Envelope, Message, Replay

PAGE = 500
BY_TIME = "recorded_at, stream_id, category, version"

Position = tuple[datetime, int, str, int]


class ReplayRefused(EventingError):
    """This replay would do nothing, or more than was requested."""


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which events: of some types (None: all) and streams (category and id; none: all), since <= recorded < until."""

    types: tuple[str, ...] | None
    streams: tuple[tuple[str, int], ...] = ()
    since: datetime | None = None
    until: datetime


class Sender(Protocol):
    """What a replay needs of a publisher."""

    errors: tuple[type[BaseException], ...]

    def send(self, message: Message[Envelope]) -> None: ...


def types_for(subscriber: Subscriber, wanted: Sequence[str], replay: Replay) -> tuple[str, ...] | None:
    """The event types to send, None for all. `wanted` are the requested types; none means all that it handles.

    Raises ReplayRefused if the subscriber does not handle one of them, or if nothing is left of what it does.
    """
    if foreign := [event_type for event_type in wanted if not subscriber.wants(event_type)]:
        raise ReplayRefused(
            f"{subscriber.name} does not handle {', '.join(foreign)}; it handles {', '.join(sorted(subscriber.types))}."
        )
    if replay.outside_effects:
        chosen = wanted or ([] if ANY in subscriber.handlers else sorted(subscriber.types))
        return tuple(chosen) or None
    inside = [event_type for event_type in wanted or sorted(subscriber.types) if subscriber.acts_inside(event_type)]
    if not inside:
        raise ReplayRefused(
            f"All that {subscriber.name} does about {', '.join(wanted) or 'events'} is outside these databases, so"
            " nothing is left without it. --with-outside-effects lets it act again."
        )
    return None if ANY in inside else tuple(inside)


def acting_outside(subscriber: Subscriber, wanted: Sequence[str]) -> list[str]:
    """Those of the wanted types (none: of all it handles) about which the subscriber acts outside the databases."""
    return [event_type for event_type in wanted or sorted(subscriber.types) if subscriber.acts_outside(event_type)]


def counts(alias: str, selection: Selection) -> dict[str, int]:
    """How many events of each type a database would send."""
    where, parameters = _where(connections[alias], selection)
    with connections[alias].cursor() as cursor:
        cursor.execute(
            f"SELECT type, count(*) FROM eventing_event WHERE {where} GROUP BY type ORDER BY type", parameters
        )
        return dict(cursor.fetchall())


def start(subscriber: Subscriber, selection: Selection, replay: Replay, *, events: int) -> ReplayRun:
    """Write down what is to be sent; `run` sends it."""
    now = timezone.now()
    return ReplayRun.objects.using(DEFAULT_DB_ALIAS).create(
        subscriber=subscriber.name,
        selection=msgspec.to_builtins(selection),
        options=msgspec.to_builtins(replay),
        events=events,
        started_at=now,
        updated_at=now,
    )


def run(
    run: ReplayRun,
    sender: Sender,
    *,
    aliases: Iterable[str],
    rate: float | None = None,
    on_progress: Callable[[str, float], None] = lambda alias, rate: None,
    on_trouble: Callable[[BaseException, float], None] = lambda error, seconds: None,
) -> None:
    """Send what is left of a run, at most `rate` events a second, and mark it as finished.

    Calls `on_progress(database, events a second)` after each message, and while the broker does not take messages
    `on_trouble(error, seconds until the next try)`. Raises ReplayRefused if another process is sending this run, and
    the error of a database that is unavailable once the others are done: the run can be continued.
    """
    selection = msgspec.convert(run.selection, Selection)
    replay = msgspec.convert(run.options, Replay)
    began, before = time.monotonic(), run.sent

    def send_all_of(alias: str) -> None:
        while run.positions.get(alias, ()) is not None:
            envelopes = _page(alias, selection, _position(run.positions.get(alias)), _page_size(rate))
            for batch in batches(envelopes):
                message = Message(subscriber=run.subscriber, events=batch, published_at=run.started_at, replay=replay)
                _send(sender, message, on_trouble)
                last = batch[-1]
                run.positions[alias] = [last.recorded_at.isoformat(), *last.key]
                run.sent += len(batch)
                _save(run)
                sent, seconds = run.sent - before, time.monotonic() - began
                on_progress(alias, sent / max(seconds, 0.001))
                if rate is not None:
                    time.sleep(max(0.0, sent / rate - seconds))
            if not envelopes:
                run.positions[alias] = None

    with session_lock(DEFAULT_DB_ALIAS, f"eventing.replay:{run.pk}") as mine:
        if not mine:
            raise ReplayRefused(f"Another process is sending replay {run.pk} right now.")
        for error in on_each(aliases, send_all_of, task="replay").unavailable.values():
            raise error
        run.state = ReplayRun.State.FINISHED
        _save(run)


def _send(sender: Sender, message: Message[Envelope], on_trouble: Callable[[BaseException, float], None]) -> None:
    failed = 0
    while True:
        try:
            sender.send(message)
            return
        except sender.errors as error:
            failed += 1
            pause = backoff_seconds(failed)
            on_trouble(error, pause)
            time.sleep(pause)


def _save(run: ReplayRun) -> None:
    run.updated_at = timezone.now()
    run.save(using=DEFAULT_DB_ALIAS, update_fields=["positions", "sent", "state", "updated_at"])


def _page_size(rate: float | None) -> int:
    """A message holds at most what may be sent in a second."""
    return PAGE if rate is None else min(PAGE, max(1, int(rate)))


def _position(stored: Sequence[Any] | None) -> Position | None:
    if not stored:
        return None
    recorded_at, stream_id, category, version = stored
    return datetime.fromisoformat(recorded_at), stream_id, category, version


def _page(alias: str, selection: Selection, after: Position | None, limit: int) -> list[Envelope]:
    """The next events of a database, in the order of time."""
    connection = connections[alias]
    where, parameters = _where(connection, selection)
    if after is not None:
        recorded_at, *key = after
        where += f" AND ({BY_TIME}) > {placeholders(4, 1)}"
        parameters += [time_to_db(connection, recorded_at), *key]
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {COLUMNS} FROM eventing_event WHERE {where} ORDER BY {BY_TIME} LIMIT %s", [*parameters, limit]
        )
        return [envelope_of_row(row) for row in cursor.fetchall()]


def _where(connection: BaseDatabaseWrapper, selection: Selection) -> tuple[str, list[Any]]:
    conditions = ["recorded_at < %s"]
    parameters: list[Any] = [time_to_db(connection, selection.until)]
    if selection.since is not None:
        conditions.append("recorded_at >= %s")
        parameters.append(time_to_db(connection, selection.since))
    if selection.types is not None:
        conditions.append(f"type IN {placeholders(len(selection.types), 1)}")
        parameters += selection.types
    if selection.streams:
        conditions.append(f"(category, stream_id) IN (VALUES {placeholders(2, len(selection.streams))})")
        parameters += [part for stream in selection.streams for part in stream]
    return " AND ".join(conditions), parameters
