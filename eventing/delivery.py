"""Delivers a batch of events to a subscriber: inbox, handlers, and what happens to the events that fail.

A batch is one transaction for each database that it touches. If that fails, its events run singly, so that a bad one
stops only itself. Each event of a batch ends in one of three ways: handled (now or before), to be tried again, or
dead.
"""

from __future__ import annotations

import random
import traceback
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

import structlog
from celery.exceptions import SoftTimeLimitExceeded
from django.conf import settings
from django.db import InterfaceError, OperationalError, connections, transaction
from django.utils import timezone

from eventing import deadletters
from eventing.databases import placeholders, time_to_db
from eventing.errors import Transient
from eventing.recorded import Recorded
from eventing.subscribers import BatchHandler, Subscriber
from eventing.wire import Envelope

logger = structlog.get_logger(__name__)

Key = tuple[int, str, int]


@dataclass(slots=True)
class Outcome:
    """What became of a batch. `retry` holds what the sender has to send again later."""

    handled: int = 0
    repeated: int = 0
    dead: int = 0
    retry: list[Envelope] = field(default_factory=list)
    out_of_time: bool = False  # what is left goes into `retry`, too


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A message as it arrived: whose it is, how often it was tried (from 1), and when it was published."""

    subscriber: Subscriber
    attempt: int
    published_at: datetime


def is_transient(error: BaseException) -> bool:
    """Whether trying again later may help: the database was away or busy, time was up, or the handler says so."""
    return isinstance(error, Transient | OperationalError | InterfaceError | SoftTimeLimitExceeded)


def backoff_seconds(attempt: int) -> int:
    """The pause before the next attempt: 1, 2, 4, … seconds up to the maximum, give or take half, as whole seconds."""
    seconds: int = min(2 ** (attempt - 1), settings.EVENTING_MAX_BACKOFF_SECONDS)
    return max(1, round(seconds * random.uniform(0.5, 1.5)))


def deliver(envelopes: Sequence[Envelope], delivery: Delivery) -> Outcome:
    """Handle the events of one message. Raises only if a dead letter cannot be written."""
    outcome = Outcome()
    sent_as: dict[Key, Envelope] = {}
    events: dict[str, list[Recorded[Any]]] = defaultdict(list)
    for envelope in envelopes:
        try:
            recorded = envelope.open()
            alias = delivery.subscriber.database(recorded)
        except Exception as error:
            _fail(envelope, error, delivery, outcome)
        else:
            sent_as[envelope.key] = envelope
            events[alias].append(recorded)
    for alias, batch in events.items():
        _deliver_to_database(alias, batch, sent_as, delivery, outcome)
    return outcome


def _deliver_to_database(
    alias: str,
    batch: list[Recorded[Any]],
    sent_as: dict[Key, Envelope],
    delivery: Delivery,
    outcome: Outcome,
) -> None:
    effects = [recorded for recorded in batch if recorded.event.TYPE in delivery.subscriber.effects]
    plain = [recorded for recorded in batch if recorded.event.TYPE not in delivery.subscriber.effects]
    if outcome.out_of_time:
        outcome.retry += [sent_as[recorded.key] for recorded in batch]
        return
    if plain:
        try:
            _count(outcome, plain, _handle(alias, plain, delivery))
        except Exception as error:
            if len(plain) == 1:
                _fail(sent_as[plain[0].key], error, delivery, outcome)
            elif isinstance(error, SoftTimeLimitExceeded) or _database_is_away(alias, error):
                # There is no time left for single events, or each would only wait for the same time-out.
                for recorded in plain:
                    _fail(sent_as[recorded.key], error, delivery, outcome)
            else:
                logger.info(
                    "delivery.singly", subscriber=delivery.subscriber.name, events=len(plain), error=repr(error)
                )
                for recorded in plain:
                    _one(partial(_handle, alias, [recorded], delivery), recorded, sent_as, delivery, outcome)
    for recorded in effects:
        _one(partial(_act, alias, recorded, delivery), recorded, sent_as, delivery, outcome)


def _one(
    handle: Callable[[], int],
    recorded: Recorded[Any],
    sent_as: dict[Key, Envelope],
    delivery: Delivery,
    outcome: Outcome,
) -> None:
    if outcome.out_of_time:
        outcome.retry.append(sent_as[recorded.key])
        return
    try:
        _count(outcome, [recorded], handle())
    except Exception as error:
        _fail(sent_as[recorded.key], error, delivery, outcome)


def _count(outcome: Outcome, batch: Sequence[Recorded[Any]], handled: int) -> None:
    outcome.handled += handled
    outcome.repeated += len(batch) - handled


def _handle(alias: str, batch: Sequence[Recorded[Any]], delivery: Delivery) -> int:
    """Mark the events as handled and handle those that were not before, in one transaction; returns their number."""
    with transaction.atomic(using=alias):
        new = _enter(alias, batch, delivery)
        by_handler: dict[BatchHandler, list[Recorded[Any]]] = {}
        for recorded in {recorded.key: recorded for recorded in batch if recorded.key in new}.values():
            by_handler.setdefault(delivery.subscriber.handler_of(recorded.event.TYPE), []).append(recorded)
        for handler, events in by_handler.items():
            handler(events)
    return len(new)


def _act(alias: str, recorded: Recorded[Any], delivery: Delivery) -> int:
    """Run an effect outside the database, then write its result down together with the inbox row."""
    if _is_handled(alias, recorded, delivery):
        return 0
    write_down = delivery.subscriber.effects[recorded.event.TYPE](recorded)
    with transaction.atomic(using=alias):
        if not _enter(alias, [recorded], delivery):
            return 0
        write_down()
    return 1


def _enter(alias: str, batch: Sequence[Recorded[Any]], delivery: Delivery) -> set[Key]:
    """Insert inbox rows; returns the keys that were not there. Waits for another worker that has them in hand."""
    connection = connections[alias]
    published_at = time_to_db(connection, delivery.published_at)
    handled_at = time_to_db(connection, timezone.now())
    # Sorted, so that two workers with overlapping batches cannot wait for each other.
    keys = sorted({recorded.key for recorded in batch})
    rows = [
        value for key in keys for value in (*key, delivery.subscriber.name, delivery.attempt, published_at, handled_at)
    ]
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO eventing_inbox (stream_id, category, version, subscriber, attempts, published_at, handled_at)"
            f" VALUES {placeholders(7, len(keys))} ON CONFLICT DO NOTHING RETURNING stream_id, category, version",
            rows,
        )
        return {(stream_id, category, version) for stream_id, category, version in cursor.fetchall()}


def _is_handled(alias: str, recorded: Recorded[Any], delivery: Delivery) -> bool:
    with connections[alias].cursor() as cursor:
        cursor.execute(
            "SELECT 1 FROM eventing_inbox WHERE stream_id = %s AND category = %s AND version = %s AND subscriber = %s",
            [*recorded.key, delivery.subscriber.name],
        )
        return cursor.fetchone() is not None


def _database_is_away(alias: str, error: Exception) -> bool:
    return isinstance(error, OperationalError | InterfaceError) and not connections[alias].is_usable()


def _fail(envelope: Envelope, error: Exception, delivery: Delivery, outcome: Outcome) -> None:
    """Try again later what may get better, up to the limit; everything else is a dead letter."""
    name = delivery.subscriber.name
    outcome.out_of_time |= isinstance(error, SoftTimeLimitExceeded)
    if is_transient(error) and delivery.attempt < settings.EVENTING_MAX_ATTEMPTS:
        logger.info(
            "delivery.retry", subscriber=name, event_id=envelope.id, attempt=delivery.attempt, error=repr(error)
        )
        outcome.retry.append(envelope)
        return
    logger.warning("delivery.dead", subscriber=name, event_id=envelope.id, attempt=delivery.attempt, error=repr(error))
    deadletters.park(envelope, name, error, "".join(traceback.format_exception(error)), attempts=delivery.attempt)
    outcome.dead += 1
