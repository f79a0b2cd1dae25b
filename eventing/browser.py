"""Events of all databases for operators: lists paged by key, newest first, and where one event has gone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, TypeVar

from django.conf import settings
from django.db.models import Exists, F, Q, Value

from eventing import crockford, fan_out, subscribers
from eventing.conf import conf
from eventing.keyset import beyond
from eventing.models import DeadLetter, Event, InboxEntry, OutboxMessage
from eventing.recorded import event_id

T = TypeVar("T")
KEY = ("recorded_at", "stream_id", "category", "version")  # of an event in a list
Key = tuple[datetime, int, str, int]

FOLLOWERS = 100  # events looked at, to find those that an event has caused


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """An event and the database that has it."""

    event: Event
    alias: str

    @property
    def key(self) -> Key:
        return self.event.recorded_at, *self.event.key


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Events, newest first, and the databases that are unavailable: their events are missing."""

    items: tuple[Listed, ...]
    unavailable: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What became of an event with one subscriber: an inbox `entry`, a `dead_letter`, or neither so far."""

    subscriber: str
    alias: str
    entry: InboxEntry | None
    dead_letter: DeadLetter | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Journey:
    """An event and where it has gone. `waiting`: its outbox row is still there."""

    event: Event
    alias: str
    waiting: bool
    deliveries: tuple[Delivery, ...]
    effects: tuple[Listed, ...]
    unavailable: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outbox:
    """The outbox of a database: its first events, up to a limit, and whether there are more."""

    alias: str
    events: tuple[Event, ...]
    more: bool
    error: str = ""

    @property
    def oldest(self) -> datetime | None:
        return min((event.recorded_at for event in self.events), default=None)


def parse(text: str) -> tuple[str, int, int] | None:
    """The category, stream and version of an event id, or of a stream's name with version 0; None for anything else."""
    stream, _, version = text.strip().partition("@")
    category, _, number = stream.rpartition("-")
    if not category or (version and not (version.isascii() and version.isdigit() and len(version) < 10)):
        return None
    try:
        return category, crockford.decode(number), int(version or 0)
    except ValueError:
        return None


def newest(filters: Mapping[str, Any], *, before: Key | None = None, limit: int) -> Page:
    """Up to `limit` events of all databases, newest first, starting after the one with the key `before`.

    `filters` are those of Django's QuerySet.
    """

    def page(alias: str) -> list[Listed]:
        rows = Event.objects.using(alias).filter(**filters)
        if before is not None:
            rows = rows.filter(beyond(KEY, before))
        rows = rows.order_by(*(f"-{column}" for column in KEY))[:limit]
        return [Listed(event=event, alias=alias) for event in rows]

    pages, unavailable = _query(page)
    # Sorted here once more, because databases disagree about the order of texts.
    merged = sorted((item for items in pages.values() for item in items), key=lambda item: item.key, reverse=True)
    return Page(items=tuple(islice(merged, limit)), unavailable=unavailable)


def journey(category: str, stream_id: int, version: int) -> Journey | None:
    """One event and where it has gone; None if no database that answers has it."""
    key = {"category": category, "stream_id": stream_id, "version": version}

    traces, unavailable = _query(lambda alias: _traces(alias, key))
    alias = next((alias for alias, rows in traces.items() for row in rows if not row.subscriber), None)
    waiting = Exists(OutboxMessage.objects.using(alias).filter(**key))
    event = alias and Event.objects.using(alias).filter(**key).annotate(waiting=waiting).first()
    if not alias or not event:
        return None
    inbox = {
        row.subscriber: (database, row)
        for database, rows in traces.items()
        for row in rows
        if row.subscriber and row.is_about(event)
    }
    parked = DeadLetter.objects.using("default").filter(**key).order_by("id")
    dead_letters = {dead_letter.subscriber: dead_letter for dead_letter in parked if dead_letter.is_about(event)}
    wanted = {one.name for one in subscribers.all_subscribers() if one.wants(event.type)}
    deliveries = []
    for name in sorted(wanted | set(inbox) | set(dead_letters)):
        database, entry = inbox.get(name, ("", None))
        deliveries.append(Delivery(subscriber=name, alias=database, entry=entry, dead_letter=dead_letters.get(name)))
    # What follows an event has its stream's id, nearly always; a search by cause would read every event there is.
    name = event_id(category, stream_id, version)
    later = Q(stream_id=stream_id, recorded_at__gte=event.recorded_at)
    streams, _ = _query(
        lambda alias: list(Event.objects.using(alias).filter(later).order_by("recorded_at")[:FOLLOWERS])
    )
    effects = [
        Listed(event=one, alias=alias)
        for alias, rows in streams.items()
        for one in rows
        if one.metadata.get("causation_id") == name
    ]
    return Journey(
        event=event,
        alias=alias,
        waiting=event.waiting,
        deliveries=tuple(deliveries),
        effects=tuple(sorted(effects, key=lambda item: item.key)),
        unavailable=unavailable,
    )


def _traces(alias: str, key: dict[str, Any]) -> list[InboxEntry]:
    """The inbox rows of an event in a database, and one without a subscriber if the event itself is there.

    One statement for both: there are many databases.
    """
    columns = ("subscriber", "attempts", "published_at", "handled_at", "hashes")
    at = F("recorded_at")
    here = Event.objects.using(alias).filter(**key).order_by().annotate(
        subscriber=Value(""), attempts=F("schema_version"), published_at=at, handled_at=at, hashes=Value("")
    )  # fmt: skip
    rows = InboxEntry.objects.using(alias).filter(**key).values_list(*columns)
    return [InboxEntry(**key, **dict(zip(columns, row, strict=True))) for row in rows.union(here.values_list(*columns))]


def outboxes(*, limit: int) -> list[Outbox]:
    """What waits to be published in each database, at most `limit` events each, the first ones first."""

    def outbox(alias: str) -> Outbox:
        rows = list(OutboxMessage.objects.using(alias).order_by("id")[: limit + 1])
        shown = rows[:limit]
        of_streams = Event.objects.using(alias).filter(stream_id__in={row.stream_id for row in shown})
        events = {event.event_id: event for event in of_streams} if shown else {}
        listed = tuple(events[row.event_id] for row in shown if row.event_id in events)
        return Outbox(alias=alias, events=listed, more=len(rows) > limit)

    answers, unavailable = _query(outbox)
    away = {alias: Outbox(alias=alias, events=(), more=False, error="does not answer") for alias in unavailable}
    return [(answers | away)[alias] for alias in settings.DATABASES]


def _query(question: Callable[[str], T]) -> tuple[dict[str, T], tuple[str, ...]]:
    """The answers of all databases, and those that are unavailable."""
    answers = fan_out.query(settings.DATABASES, question, seconds=conf.EVENTING_READ_SECONDS)
    return answers.values, tuple(answers.unavailable)
