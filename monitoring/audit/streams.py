"""Checks of the event streams, and of what has become of each event."""

from __future__ import annotations

from collections import defaultdict
from functools import cache
from operator import itemgetter
from typing import Any

import msgspec
from django.conf import settings
from django.db import connections

from coupons.events import REDEMPTION, CouponRedeemed
from eventing import chain, deadletters, subscribers
from eventing.databases import time_to_db
from eventing.errors import EventingError
from eventing.recorded import Recorded, event_id
from inventory.events import StockReleased, StockReserved, StockShipped
from monitoring.audit.broker import longest_delay
from monitoring.audit.report import NOTHING, Finding, Scope, case_check, database_check
from monitoring.audit.rows import Case, Row
from notifications.events import CATEGORY as MESSAGE
from payments.events import PaymentCaptured, PaymentRefunded
from sharding import numbers, shards
from sharding.router import database_of, sharded_apps
from values.contexts import all_contexts, owners


def _versions(case: Case) -> dict[str, list[int]]:
    versions: dict[str, list[int]] = defaultdict(list)
    for _, row in case.stored:
        versions[row[1]].append(row[2])
    return versions


@cache
def _last_types() -> frozenset[str]:
    return frozenset(event.TYPE for context in all_contexts().values() for event in context.last_events)


@case_check(
    title="The events of each stream are numbered from 1 without a gap.",
    counts="streams",
    hint="An event was deleted, or written by hand. Restore the missing rows of eventing_event from a backup; "
    "writers refuse the stream until then.",
    at_once=True,
)
def streams_gapless(case: Case, scope: Scope) -> Finding:
    streams = _versions(case)
    return len(streams), [
        case.name(category)
        for category, versions in streams.items()
        if sorted(versions) != list(range(1, len(versions) + 1))
    ]


@case_check(
    title="Nothing happens in a stream after its last event.",
    counts="streams",
    hint="A rule let something through. Open the event in the back office and see who caused it.",
    at_once=True,
)
def nothing_after_the_end(case: Case, scope: Scope) -> Finding:
    streams = _versions(case)
    last = _last_types()
    ends = {row[1]: row[2] for _, row in sorted(case.stored, key=lambda item: -item[1][2]) if row[3] in last}
    return len(streams), [
        event_id(category, case.id, version)
        for category, end in ends.items()
        for version in streams[category]
        if version > end
    ]


@case_check(
    title="Every stored event is what was written: its hash fits its content and its predecessor's hash.",
    counts="events",
    hint="Somebody has changed, inserted or removed events by hand. Compare the named event with a backup and "
    "restore it; what was made of it in the meantime is in the read model and the messages.",
    at_once=True,
)
def events_as_written(case: Case, scope: Scope) -> Finding:
    """Of each stream the first event whose hash does not fit: what comes after it was written after it."""
    streams: dict[str, list[Row]] = defaultdict(list)
    for _, row in case.stored:
        streams[row[1]].append(row)
    since = scope.hashed_since or scope.now
    broken = (chain.first_broken(sorted(rows, key=itemgetter(2)), since) for rows in streams.values())
    return len(case.stored), [event_id(row[1], row[0], row[2]) for row in broken if row is not None]


@case_check(
    title="Every event ever stored can be read.",
    counts="events",
    hint="Its type is not registered, or an upcaster is missing. Deploy the release that wrote it, or add an "
    "upcaster to the events.py of its app.",
    at_once=True,
)
def events_readable(case: Case, scope: Scope) -> Finding:
    return len(case.stored), case.unreadable


@case_check(
    title="Nothing was handled that is not stored, and dead letters are what is stored.",
    counts="deliveries",
    hint="A shard was restored to an earlier moment (`manage.py restored`), which the event that was handled is "
    "not in (`another`: the key was given to a later one); or a message was published by hand. Restore the event "
    "from a backup, or undo its effect; archive a dead letter that belongs to no event.",
)
def handled_was_committed(case: Case, scope: Scope) -> Finding:
    committed = {(row[1], row[2]): row for _, row in case.stored}
    letters = {
        key: letter
        for key, letter in case.dead_letters.items()
        if letter.status != "archived" and key[0] != deadletters.UNREADABLE
    }
    traces = [entry[1:] for entry in case.inbox]
    wrong = [key for key in (*traces, *letters) if key[:2] not in committed]
    wrong += [
        key
        for key, letter in letters.items()
        if key[:2] in committed and letter.content != _content(committed[key[:2]])
    ]
    named = [f"{name}: {event_id(category, case.id, version)}" for category, version, name in wrong]
    named += [f"{name}: another {event_id(category, case.id, version)}" for category, version, name in case.of_others]
    return len(traces) + len(letters) + len(case.of_others), dict.fromkeys(named)


def _content(row: Row) -> tuple[Any, ...]:
    """An event as a dead letter keeps it."""
    return (*row[3:5], *(msgspec.json.decode(value) if isinstance(value, str) else value for value in row[5:7]))


@case_check(
    title="Every published event was handled by each subscriber, is a dead letter, or is on its way.",
    counts="deliveries",
    hint="`manage.py replay --subscriber NAME --stream STREAM` sends the event there again; a subscriber that is "
    "newer than the event gets its history in the same way.",
)
def events_reach_subscribers(case: Case, scope: Scope) -> Finding:
    """An event that is neither handled, nor a dead letter, nor waiting in the outbox or a queue, is lost."""
    lost = []
    for name, recorded in case.missing:
        if recorded.recorded_at > scope.cutoff:
            continue
        if scope.broker.may_have(name, scope.now - recorded.recorded_at):
            scope.pending[name] += 1
        else:
            lost.append(f"{name}: {recorded.id}")
    for (category, version, name), letter in case.dead_letters.items():
        # Sent again and not failed again: then it was handled, or it is on its way.
        if letter.status not in ("redriven", "handled") or case.has(category, version, name):
            continue
        stored = next((item for item in case.history(category) if item.version == version), None)
        if stored is None or stored.recorded_at < scope.horizon:
            continue
        age = scope.now - (letter.settled_at or stored.recorded_at)
        under_way = age < (scope.settle if settings.EVENTING_DURABLE_BROKER else longest_delay())
        if letter.status == "redriven" and (under_way or scope.broker.may_have(name, age)):
            scope.pending[name] += 1
        else:
            lost.append(f"{name}: {stored.id}")
    return len(case.inbox) + len(case.dead_letters) + len(case.missing), lost


@case_check(
    title="An event has its effect once, however often it is delivered.",
    counts="events",
    hint="A handler acted outside the inbox's transaction. Open both events in the back office, undo one by hand "
    "(adjust the stock, refund the payment), and fix the handler.",
    at_once=True,
)
def one_effect_per_event(case: Case, scope: Scope) -> Finding:
    """What an event causes it causes once, by whichever way it was delivered how often."""
    seen: set[tuple[Any, ...]] = set()
    doubled = []
    for category, history in case.events.items():
        for recorded in history:
            for effect in _effects(category, recorded):
                if effect in seen:
                    doubled.append(recorded.id)
                seen.add(effect)
    return sum(map(len, case.events.values())), dict.fromkeys(doubled)


def _effects(category: str, recorded: Recorded[Any]) -> list[tuple[Any, ...]]:
    """Names of what may happen only once. A message may fail again after an operator had it sent again."""
    event = recorded.event
    effects: list[tuple[Any, ...]] = []
    if recorded.metadata.causation_id is not None and category != MESSAGE:
        effects.append((category, event.TYPE, recorded.metadata.causation_id))
    if isinstance(event, StockReserved | StockReleased | StockShipped):
        effects.append((category, event.TYPE))
    if isinstance(event, PaymentCaptured | PaymentRefunded):
        effects.append((category, event.TYPE, event.payment_id))
    return effects


@case_check(
    title="An order redeems its coupon once.",
    counts="redemptions",
    hint="Correct `redeemed` of the coupon; see one_effect_per_event for the cause.",
    at_once=True,
)
def coupon_once_per_order(case: Case, scope: Scope) -> Finding:
    redeemed = [item for item in case.history(REDEMPTION) if isinstance(item.event, CouponRedeemed)]
    return (1, [item.id for item in redeemed[1:]]) if redeemed else NOTHING


@case_check(
    title="Events and inbox rows are in the database that owns them, and orders in their customer's bucket.",
    counts="rows",
    hint="Move the rows to the database that the shard map names, in one transaction each.",
)
def rows_in_their_database(case: Case, scope: Scope) -> Finding:
    """Each event, and each trace of its handling, in the database that has the say about it."""
    misplaced = [
        f"{event_id(row[1], case.id, row[2])} in {alias}"
        for alias, row in case.stored
        if alias != _home(row[1], case, alias)
    ]
    events = {(item.category, item.version): item for history in case.events.values() for item in history}
    for alias, category, version, name in case.inbox:
        recorded = events.get((category, version))
        if recorded is not None and alias != _database_of_delivery(name, recorded, alias):
            misplaced.append(f"{name}: {recorded.id} in {alias}")
    state = case.state
    if state is not None and numbers.bucket_of_customer(state.customer_id) != numbers.bucket_of(case.id):
        misplaced.append(f"{case.name()} of customer {state.customer_id}")
    return len(case.stored) + len(case.inbox), misplaced


def _home(category: str, case: Case, unknown: str) -> str:
    owner = owners().get(category)
    if owner is None:
        return unknown
    return shards.alias_of(case.id) if owner in sharded_apps() else database_of(owner)


def _database_of_delivery(subscriber: str, recorded: Recorded[Any], unknown: str) -> str:
    try:
        return subscribers.get(subscriber).database(recorded)
    except EventingError:
        return unknown


@database_check(
    title="Nothing that is committed stays unpublished.",
    counts="outbox rows",
    hint="Is `manage.py relay` running, and the broker up? The outbox page shows what waits; the relay goes on by "
    "itself. A row without an event is deleted by hand.",
    databases=lambda: tuple(settings.DATABASES),
)
def events_published(alias: str, scope: Scope) -> Finding:
    """Rows of the outbox whose event is old, or is not there at all."""
    connection = connections[alias]
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM eventing_outbox")
        waiting: int = cursor.fetchone()[0]
        cursor.execute(
            "SELECT outbox.stream_id, outbox.category, outbox.version FROM eventing_outbox AS outbox"
            " LEFT JOIN eventing_event AS event ON event.stream_id = outbox.stream_id"
            " AND event.category = outbox.category AND event.version = outbox.version"
            " WHERE event.recorded_at IS NULL OR event.recorded_at < %s ORDER BY outbox.id",
            [time_to_db(connection, scope.cutoff)],
        )
        return waiting, [event_id(category, stream_id, version) for stream_id, category, version in cursor.fetchall()]


CHECKS = (
    streams_gapless,
    events_as_written,
    nothing_after_the_end,
    events_readable,
    events_published,
    events_reach_subscribers,
    handled_was_committed,
    one_effect_per_event,
    coupon_once_per_order,
    rows_in_their_database,
)
