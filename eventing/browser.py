"""Events of all databases for operators: lists paged by key, newest first, and where one event has gone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, TypeVar

from django.conf import settings
from django.db.models import CharField, Exists, F, Q, QuerySet, TextField, Value

from eventing import crockford, fan_out, subscribers
from eventing.conf import conf
from eventing.models import DeadLetter, Event, InboxEntry, OutboxMessage
from eventing.recorded import event_id

T = TypeVar("T")
Key = tuple[datetime, int, str, int]  # of an event in the order of a list: recorded at, stream, category, version

FOLLOWERS = 100  # events looked at, to find those that an event has caused


@dataclass(frozen=True, slots=True, kw_only=True)
class Only:
    """Which events are wanted. `category` and `stream_id` name a stream, or one of them all that have it."""

    type: str = ""
    category: str = ""
    stream_id: int | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """An event and the database that has it."""

    event: Event
    alias: str

    @property
    def key(self) -> Key:
        return self.event.recorded_at, self.event.stream_id, self.event.category, self.event.version


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Events, newest first, and the databases that could not be asked: their events are missing."""

    items: tuple[Listed, ...]
    unavailable: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What became of an event with one subscriber: `handled`, a `dead letter`, or neither so far."""

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
class Waiting:
    """The outbox of a database: the events that wait there first, up to a limit, and whether there are more."""

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


def newest(only: Only, *, before: Key | None = None, limit: int) -> Page:
    """Up to `limit` events of all databases, newest first, starting after the one with the key `before`."""

    def page(alias: str) -> list[Listed]:
        rows = _narrowed(Event.objects.using(alias), only)
        if before is not None:
            at, stream_id, category, version = before
            # The first condition lets the index start in the right place; the second cuts exactly.
            rows = rows.filter(recorded_at__lte=at)
            rows = rows.filter(Q(recorded_at__lt=at) | _is_before(stream_id, category, version))
        rows = rows.order_by("-recorded_at", "-stream_id", "-category", "-version")[:limit]
        return [Listed(event=event, alias=alias) for event in rows]

    pages, unavailable = _ask(page)
    # Sorted here once more, because databases disagree about the order of texts.
    merged = sorted((item for items in pages.values() for item in items), key=lambda item: item.key, reverse=True)
    return Page(items=tuple(islice(merged, limit)), unavailable=unavailable)


def _is_before(stream_id: int, category: str, version: int) -> Q:
    """What comes later in a list than this event of the same moment."""
    return (
        Q(stream_id__lt=stream_id)
        | Q(stream_id=stream_id, category__lt=category)
        | Q(stream_id=stream_id, category=category, version__lt=version)
    )


def _narrowed(rows: QuerySet[Event], only: Only) -> QuerySet[Event]:
    if only.type:
        rows = rows.filter(type=only.type)
    if only.category:
        rows = rows.filter(category=only.category)
    if only.stream_id is not None:
        rows = rows.filter(stream_id=only.stream_id)
    if only.since is not None:
        rows = rows.filter(recorded_at__gte=only.since)
    if only.until is not None:
        rows = rows.filter(recorded_at__lt=only.until)
    return rows


def journey(category: str, stream_id: int, version: int) -> Journey | None:
    """One event and where it has gone; None if no database that answers has it."""
    key = {"category": category, "stream_id": stream_id, "version": version}
    traces, unavailable = _ask(lambda alias: _traces(alias, key))
    alias = next((alias for alias, rows in traces.items() for row in rows if not row.subscriber), None)
    waiting = OutboxMessage.objects.using(alias).filter(**key)
    event = (
        None if alias is None else Event.objects.using(alias).annotate(waiting=Exists(waiting)).filter(**key).first()
    )
    if alias is None or event is None:
        return None
    inbox = {
        row.subscriber: (database, row)
        for database, rows in traces.items()
        for row in rows
        if row.subscriber and row.is_about(event)
    }
    found = DeadLetter.objects.using("default").filter(**key).order_by("id")
    dead_letters = {dead_letter.subscriber: dead_letter for dead_letter in found if dead_letter.is_about(event)}
    wanted = {one.name for one in subscribers.all_subscribers() if one.wants(event.type)}
    deliveries = []
    for name in sorted(wanted | set(inbox) | set(dead_letters)):
        database, entry = inbox.get(name, ("", None))
        deliveries.append(Delivery(subscriber=name, alias=database, entry=entry, dead_letter=dead_letters.get(name)))
    # What follows an event has its stream's id, nearly always; a search by cause would read every event there is.
    name = event_id(category, stream_id, version)
    later = Q(stream_id=stream_id, recorded_at__gte=event.recorded_at)
    streams, _ = _ask(lambda alias: list(Event.objects.using(alias).filter(later).order_by("recorded_at")[:FOLLOWERS]))
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
    """The inbox rows of an event in a database, and one without a subscriber if the event itself is there."""
    columns = ("subscriber", "attempts", "published_at", "handled_at", "hashes")
    at = F("recorded_at")
    of_event = Event.objects.using(alias).filter(**key).order_by()
    here = of_event.annotate(
        subscriber=Value("", output_field=CharField()),
        attempts=F("schema_version"),
        published_at=at,
        handled_at=at,
        hashes=Value(None, output_field=TextField()),
    )
    entries = InboxEntry.objects.using(alias).filter(**key).order_by()
    rows = entries.values_list(*columns).union(here.values_list(*columns), all=True)
    return [InboxEntry(**key, **dict(zip(columns, row, strict=True))) for row in rows]


def outboxes(*, limit: int) -> list[Waiting]:
    """What waits to be published in each database, at most `limit` events each, the first ones first."""

    def waiting(alias: str) -> Waiting:
        rows = list(OutboxMessage.objects.using(alias).order_by("id")[: limit + 1])
        shown = rows[:limit]
        of_streams = Event.objects.using(alias).filter(stream_id__in={row.stream_id for row in shown})
        events = {event.event_id: event for event in of_streams} if shown else {}
        listed = tuple(events[row.event_id] for row in shown if row.event_id in events)
        return Waiting(alias=alias, events=listed, more=len(rows) > limit)

    answers, unavailable = _ask(waiting)
    away = {alias: Waiting(alias=alias, events=(), more=False, error="does not answer") for alias in unavailable}
    return [(answers | away)[alias] for alias in settings.DATABASES]


def _ask(question: Callable[[str], T]) -> tuple[dict[str, T], tuple[str, ...]]:
    """The answers of all databases, and those that gave none."""
    answers = fan_out.query(settings.DATABASES, question, seconds=conf.EVENTING_READ_SECONDS)
    return answers.values, tuple(answers.unavailable)
