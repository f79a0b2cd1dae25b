"""Everything that has happened to an order, from all the streams that have its id."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.utils.safestring import SafeString

from coupons.events import REDEMPTION
from eventing.html import pretty_json
from eventing.models import Event, InboxEntry
from eventing.recorded import event_id
from inventory.events import RESERVATION
from orders.events import CATEGORY
from payments.events import CATEGORY as PAYMENT
from sharding import shards
from sharding.router import database_of

SAME_MOMENT = timedelta(seconds=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Handling:
    """A subscriber has handled an event, so many milliseconds after it was written, at the given attempt."""

    subscriber: str
    milliseconds: int
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """An event in the timeline. `at` is when it happened, where that is not when it was written."""

    id: str
    category: str
    version: int
    type: str
    schema_version: int
    data: SafeString
    actor: str
    correlation_id: str
    cause_id: str | None
    cause: str
    recorded_at: datetime
    at: datetime | None
    handled: tuple[Handling, ...]


def timeline_of(order_id: int) -> list[Moment]:
    """The events of an order, its reservation, its redemption and its payments, in the order of their writing."""
    events: list[Event] = []
    handled: dict[str, list[Handling]] = {}
    aliases = dict.fromkeys(
        [shards.alias_of(order_id), database_of("inventory"), database_of("coupons"), database_of("payments")]
    )
    for alias in aliases:
        of_order = Event.objects.using(alias).filter(stream_id=order_id)
        events += of_order.filter(category__in=[CATEGORY, RESERVATION, REDEMPTION, PAYMENT])
    events.sort(key=lambda event: (event.recorded_at, event.category, event.version))
    written = {event.event_id: event.recorded_at for event in events}
    for alias in dict.fromkeys([*aliases, database_of("notifications")]):
        for entry in InboxEntry.objects.using(alias).filter(stream_id=order_id).order_by("handled_at"):
            if (at := written.get(entry.event_id)) is not None:
                milliseconds = round((entry.handled_at - at).total_seconds() * 1000)
                handled.setdefault(entry.event_id, []).append(
                    Handling(subscriber=entry.subscriber, milliseconds=milliseconds, attempts=entry.attempts)
                )
    types = {event.event_id: event.type for event in events}
    return [_moment(event, types, handled.get(event.event_id, [])) for event in events]


def _moment(event: Event, types: Mapping[str, str], handled: Iterable[Handling]) -> Moment:
    cause_id = event.metadata.get("causation_id")
    at = event.data.get("at")
    happened = datetime.fromisoformat(at) if isinstance(at, str) else event.recorded_at
    return Moment(
        id=event_id(event.category, event.stream_id, event.version),
        category=event.category,
        version=event.version,
        type=event.type,
        schema_version=event.schema_version,
        data=pretty_json(event.data),
        actor=event.metadata.get("actor", ""),
        correlation_id=event.metadata.get("correlation_id", ""),
        cause_id=cause_id,
        cause=types.get(cause_id, ""),
        recorded_at=event.recorded_at,
        at=happened if abs(happened - event.recorded_at) > SAME_MOMENT else None,
        handled=tuple(handled),
    )
