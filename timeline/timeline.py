"""The timeline of an order: the events of all contexts that belong to it, what became of each, and what is still open.

It reads the backbone's own tables, so it shows what is there and not what somebody has told it.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, assert_never

from django.db.models import Q
from django.utils.safestring import SafeString

from eventing import registry, subscribers
from eventing.conf import conf
from eventing.models import DeadLetter, Event, InboxEntry, OutboxMessage
from eventing.recorded import event_id
from notifications import selectors as notifications
from notifications.events import CATEGORY as MESSAGE
from orders.domain import FINAL, Order, Status, fold
from orders.events import CATEGORY, Check
from payments.events import CATEGORY as PAYMENT
from payments.events import PaymentCaptured, PaymentRequested, RefundRequested
from sharding import numbers, shards
from sharding.router import database_of, sharded_apps
from timeline.json_html import pretty_json
from values.contexts import all_contexts

SAME_MOMENT = timedelta(seconds=2)
OUTSIDE = "integration"  # tells other programs; no order waits for it


@dataclass(frozen=True, slots=True, kw_only=True)
class Handling:
    """A subscriber has handled an event, so many milliseconds after it was written, at the given attempt."""

    subscriber: str
    milliseconds: int
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A subscriber has given an event up; `error` names what it raised. An operator may have settled it since."""

    dead_letter_id: int
    subscriber: str
    error: str
    attempts: int
    settled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What the customer was told about an event on one channel."""

    event_id: str
    channel: str
    subject: str
    status: str
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An event of the timeline. `at` is when it happened, where that is not when it was written.

    `published` is in milliseconds after it was written, None if nobody knows: a subscriber that handles the event
    writes it down. `waiting` names the subscribers that want the event and have neither handled it nor given it up.
    """

    id: str
    category: str
    version: int
    type: str
    schema_version: int
    values: Mapping[str, Any]
    actor: str
    correlation_id: str
    cause_id: str | None
    cause: str
    recorded_at: datetime
    at: datetime | None
    alias: str
    published: int | None = None
    in_outbox: bool = False
    handled: tuple[Handling, ...] = ()
    waiting: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()

    @property
    def data(self) -> SafeString:
        return pretty_json(self.values)

    @property
    def fact(self) -> Any:
        """The event itself, in its current schema version."""
        return registry.decode(self.type, self.schema_version, dict(self.values))


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """Entries in the order in which they were written, each after its cause."""

    order_id: int
    alias: str
    entries: tuple[Entry, ...]
    messages: tuple[Message, ...] = ()
    databases: Mapping[str, str] = field(default_factory=dict)

    @property
    def number(self) -> str:
        return numbers.to_text(self.order_id)

    @property
    def bucket(self) -> int:
        return numbers.bucket_of(self.order_id)

    def until(self, entry_id: str) -> list[Entry] | None:
        """The entries up to this one; None if it is not of this timeline."""
        for position, entry in enumerate(self.entries, start=1):
            if entry.id == entry_id:
                return list(self.entries[:position])
        return None


def state_after(entries: Iterable[Entry]) -> Order:
    """The order as its own events among these make it."""
    return fold(entry.fact for entry in entries if entry.category == CATEGORY)


# --- Reading -------------------------------------------------------------------------------------------------------


def timeline_of(order_id: int) -> Timeline:
    """All that belongs to an order. The number of queries depends on the number of databases, not of events."""
    home = shards.alias_of(order_id)
    databases = {label: home if label in sharded_apps() else database_of(label) for label in all_contexts()}
    aliases = list(dict.fromkeys([home, *databases.values()]))
    categories = [category for context in all_contexts().values() for category in context.order_streams]
    events: list[Event] = []
    for alias in aliases:
        of_order = Event.objects.using(alias).filter(stream_id=order_id)
        events += of_order.filter(category__in=categories)
    messages, sendings = _messages(event.event_id for event in events)
    events = _in_order([*events, *sendings])
    ours = Q(stream_id=order_id)
    if sendings:
        ours |= Q(category=MESSAGE, stream_id__in={event.stream_id for event in sendings})
    rows = _Rows.read(ours, aliases)
    types = {event.event_id: event.type for event in events}
    return Timeline(
        order_id=order_id,
        alias=home,
        entries=tuple(_entry(event, types, rows) for event in events),
        messages=messages,
        databases=databases,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """What the backbone's tables say of the events of an order, by the events' ids."""

    entries: Mapping[str, list[InboxEntry]]
    failures: Mapping[str, list[DeadLetter]]
    unpublished: frozenset[str]

    @classmethod
    def read(cls, ours: Q, aliases: Sequence[str]) -> _Rows:
        entries: dict[str, list[InboxEntry]] = defaultdict(list)
        unpublished: set[str] = set()
        for alias in dict.fromkeys([*aliases, conf.EVENTING_INTEGRATION_DATABASE]):
            for entry in InboxEntry.objects.using(alias).filter(ours).order_by("handled_at"):
                entries[entry.event_id].append(entry)
        for alias in aliases:
            outbox = OutboxMessage.objects.using(alias).filter(ours)
            unpublished |= {row.event_id for row in outbox}
        failures: dict[str, list[DeadLetter]] = defaultdict(list)
        dead = DeadLetter.objects.filter(ours).exclude(
            status__in=(DeadLetter.Status.REDRIVEN, DeadLetter.Status.HANDLED)
        )
        for letter in dead.defer("traceback").order_by("id"):
            failures[letter.event_id].append(letter)
        return cls(entries=entries, failures=failures, unpublished=frozenset(unpublished))


def _messages(event_ids: Iterable[str]) -> tuple[tuple[Message, ...], list[Event]]:
    """What was told about these events, and the events of sending it, which are in streams of the messages."""
    found = notifications.about(event_ids)
    messages = tuple(
        Message(
            event_id=message.event_id,
            channel=message.get_channel_display(),
            subject=message.subject,
            status=message.status,
            attempts=message.attempts,
        )
        for message in found
    )
    streams = [message.pk for message in found if message.version]
    alias = database_of("notifications")
    sendings = Event.objects.using(alias).filter(category=MESSAGE, stream_id__in=streams) if streams else []
    return messages, list(sendings)


def _in_order(events: Sequence[Event]) -> list[Event]:
    """By the time of writing, but never before a cause or an earlier version: databases' clocks may differ."""
    known = {event.event_id: event for event in events}
    after: dict[str, list[str]] = defaultdict(list)
    open_: Counter[str] = Counter()
    for name, event in known.items():
        earlier = event_id(event.category, event.stream_id, event.version - 1)
        for needed in {event.metadata.get("causation_id"), earlier} & known.keys():
            after[str(needed)].append(name)
            open_[name] += 1

    def ready(name: str) -> tuple[datetime, str, int, str]:
        event = known[name]
        return event.recorded_at, event.category, event.version, name

    heap = [ready(name) for name in known if not open_[name]]
    heapq.heapify(heap)
    found: list[Event] = []
    while heap:
        name = heapq.heappop(heap)[-1]
        found.append(known[name])
        for following in after[name]:
            open_[following] -= 1
            if not open_[following]:
                heapq.heappush(heap, ready(following))
    return found


def _entry(event: Event, types: Mapping[str, str], rows: _Rows) -> Entry:
    name = event.event_id
    cause_id = event.metadata.get("causation_id")
    at = event.data.get("at")
    happened = datetime.fromisoformat(at) if isinstance(at, str) else event.recorded_at
    entries = [entry for entry in rows.entries.get(name, []) if entry.is_about(event)]
    failures = [letter for letter in rows.failures.get(name, []) if letter.is_about(event)]
    handled = {entry.subscriber for entry in entries}
    settled = handled | {letter.subscriber for letter in failures}
    published = min((entry.published_at for entry in entries), default=None)
    return Entry(
        id=name,
        category=event.category,
        version=event.version,
        type=event.type,
        schema_version=event.schema_version,
        values=event.data,
        actor=event.metadata.get("actor", ""),
        correlation_id=event.metadata.get("correlation_id", ""),
        cause_id=cause_id,
        cause=types.get(cause_id, ""),
        recorded_at=event.recorded_at,
        at=happened if abs(happened - event.recorded_at) > SAME_MOMENT else None,
        alias=str(event._state.db),
        published=None if published is None else _after(event, published),
        # Where the broker keeps nothing, a row stays until all have handled its event.
        in_outbox=name in rows.unpublished and not settled,
        handled=tuple(
            Handling(subscriber=entry.subscriber, milliseconds=_after(event, entry.handled_at), attempts=entry.attempts)
            for entry in entries
        ),
        waiting=tuple(
            subscriber.name
            for subscriber in subscribers.all_subscribers()
            if subscriber.name != OUTSIDE and subscriber.wants(event.type) and subscriber.name not in settled
        ),
        failures=tuple(
            Failure(
                dead_letter_id=letter.pk,
                subscriber=letter.subscriber,
                error=letter.error,
                attempts=letter.attempts,
                settled=letter.status != DeadLetter.Status.OPEN,
            )
            for letter in failures
            if letter.subscriber not in handled
        ),
    )


def _after(event: Event, at: datetime) -> int:
    return round((at - event.recorded_at).total_seconds() * 1000)


# --- What it is waiting for ----------------------------------------------------------------------------------------


def is_busy(timeline: Timeline) -> bool:
    """Whether machines have something to do, so that more is to be seen soon."""
    unsent = any(message.status in ("pending", "sending") and message.attempts <= 1 for message in timeline.messages)
    return unsent or any(entry.in_outbox or entry.waiting for entry in timeline.entries) or bool(_payment(timeline))


def is_over(timeline: Timeline) -> bool:
    """Whether nothing more will happen, by itself or by anybody's doing; an e-mail may still be on its way."""
    return state_after(timeline.entries).status in FINAL and not is_busy(timeline) and not any(_stuck(timeline))


def waiting_for(timeline: Timeline, now: datetime) -> list[str]:
    """What the order is waiting for, in words; empty if it is over and nothing is left to do."""
    return [*_stuck(timeline), *_next_step(timeline, now), *_deliveries(timeline)]


def _stuck(timeline: Timeline) -> Iterator[str]:
    for entry in timeline.entries:
        for failure in entry.failures:
            if failure.settled:
                continue
            attempts = "1 attempt" if failure.attempts == 1 else f"{failure.attempts} attempts"
            yield (
                f"An operator: {failure.subscriber} could not handle {entry.type} and has given it up after"
                f" {attempts}. It is a dead letter."
            )


def _next_step(timeline: Timeline, now: datetime) -> Iterator[str]:
    order = state_after(timeline.entries)
    yield from _payment(timeline)
    match order.status:
        case Status.PLACED:
            if Check.STOCK in order.waiting_for:
                yield "The stock check, by inventory."
            if Check.COUPON in order.waiting_for:
                yield "The coupon check, by coupons."
        case Status.CONFIRMED:
            due = order.expires_at
            if _payment(timeline):
                return
            if due is not None and due <= now:
                yield f"The clock, to cancel it: the payment was due at {due:%H:%M:%S} UTC."
            elif due is not None:
                yield f"The payment, until {due:%-d %B %Y, %H:%M:%S} UTC. After that the clock cancels the order."
        case Status.PAID:
            yield "Shipping, by an operator."
        case Status.SHIPPED:
            yield "The delivery, which an operator confirms."
        case None | Status.DELIVERED | Status.REJECTED | Status.CANCELLED | Status.REFUNDED:
            return
        case _:
            assert_never(order.status)


def _payment(timeline: Timeline) -> list[str]:
    """What is going on about the payment just now, as the last of its events says."""
    latest = next((entry for entry in reversed(timeline.entries) if entry.category == PAYMENT), None)
    match latest.fact if latest is not None else None:
        case PaymentRequested():
            return ["The payment gateway, to take the money."]
        case PaymentCaptured() if latest is not None and latest.waiting:
            return ["The order, to hear of its payment."]
        case RefundRequested():
            return ["The payment gateway, to give the money back."]
        case _:
            return []


def _deliveries(timeline: Timeline) -> Iterator[str]:
    unpublished: dict[str, list[str]] = defaultdict(list)
    for entry in timeline.entries:
        if entry.in_outbox:
            unpublished[entry.alias].append(entry.type)
    for alias, types in unpublished.items():
        yield f"The relay, to publish what is in the outbox of {alias}: {', '.join(types)}."
    unhandled: dict[str, list[str]] = defaultdict(list)
    for entry in timeline.entries:
        for subscriber in entry.waiting:
            if not entry.in_outbox:
                unhandled[subscriber].append(entry.type)
    for subscriber, types in unhandled.items():
        yield f"{subscriber.capitalize()}, to handle {', '.join(types)}."
    unsent = sum(message.status in ("pending", "sending") for message in timeline.messages)
    if unsent:
        yield "1 e-mail to be sent." if unsent == 1 else f"{unsent} e-mails to be sent."
