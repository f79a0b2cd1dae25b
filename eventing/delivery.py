"""Delivers a batch of events to a subscriber: inbox, handlers, and what happens to the events that fail.

A batch is one transaction for each database that it touches. If that fails, its events run singly, so that a bad one
stops only itself. Each event of a batch ends in one of three ways: handled (now or before), to be tried again, or
dead. A replay that must not act outside has a fourth: left out.
"""

from __future__ import annotations

import random
import traceback
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

import django.db
import structlog
from celery.exceptions import SoftTimeLimitExceeded
from django.db import connections, transaction
from django.utils import timezone

from eventing import deadletters, subscribers
from eventing.conf import conf
from eventing.databases import placeholders, prepared, relation, time_to_db
from eventing.recorded import Identity, Recorded, is_among, short_hash
from eventing.store import KEY_TYPES
from eventing.subscribers import BatchHandler, Subscriber
from eventing.transient import Chance, chance, is_transient
from eventing.wire import Envelope, Message, Replay

logger = structlog.get_logger(__name__)

Key = tuple[int, str, int]
NEW_TYPES = KEY_TYPES | {"hashes": "text"}  # what differs within a message; the rest of a row goes into the statement
# A row stands for what was handled under a key, and is taken over by an event with another hash than those: the key was
# given again after a restore. Where a hash is null these conditions are null, too, and the event counts as handled.
OTHER = "eventing_inbox.hashes NOT LIKE '%%' || excluded.hashes || '%%'"
FORGOTTEN = "eventing_inbox.published_at < excluded.published_at"
INSERT = (
    "INSERT INTO eventing_inbox (stream_id, category, version, hashes, subscriber, attempts, published_at, handled_at)"
    " SELECT stream_id, category, version, hashes, %s, %s, %s, %s"
)
TAKE_OVER = (
    "ON CONFLICT (stream_id, category, version, subscriber) DO UPDATE SET attempts = excluded.attempts,"
    " published_at = excluded.published_at, handled_at = excluded.handled_at,"
    f" hashes = CASE WHEN {OTHER} THEN eventing_inbox.hashes || ' ' || excluded.hashes"
    " ELSE coalesce(eventing_inbox.hashes, excluded.hashes) END"
    " WHERE {condition} RETURNING stream_id, category, version"
)
ENTER = TAKE_OVER.format(condition=OTHER)
ENTER_AGAIN = TAKE_OVER.format(condition=f"{OTHER} OR {FORGOTTEN}")


@dataclass(slots=True)
class Outcome:
    """What became of a batch. The sender has to send again later: `retry` singly, each of `retry_batches` as it was."""

    handled: int = 0
    repeated: int = 0
    left_out: int = 0
    dead: int = 0
    retry: list[Envelope] = field(default_factory=list)
    retry_batches: list[list[Envelope]] = field(default_factory=list)
    out_of_time: bool = False  # what is left goes into `retry`, too

    @property
    def messages(self) -> list[list[Envelope]]:
        """What has to be sent again, message by message."""
        return [[envelope] for envelope in self.retry] + self.retry_batches


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A message as it arrived: whose it is, how often it was tried (from 1), when it was published, if as history."""

    subscriber: Subscriber
    attempt: int
    published_at: datetime
    replay: Replay | None = None

    @classmethod
    def of(cls, message: Message[Any]) -> Self:
        """Raises EventingError if there is no such subscriber."""
        return cls(
            subscriber=subscribers.get(message.subscriber),
            attempt=message.attempt,
            published_at=message.published_at,
            replay=message.replay,
        )

    @property
    def forget(self) -> bool:
        return self.replay is not None and self.replay.forget

    @property
    def quiet(self) -> bool:
        """Nothing outside the databases may happen."""
        return self.replay is not None and not self.replay.outside_effects


Handle = Callable[[str, Delivery, Sequence[Recorded[Any]]], int]  # returns how many events were handled now


def backoff_seconds(attempt: int) -> int:
    """The pause before the next attempt: 1, 2, 4, … seconds up to the maximum, give or take half, as whole seconds."""
    seconds: int = min(2 ** (attempt - 1), conf.EVENTING_MAX_BACKOFF_SECONDS)
    return max(1, round(seconds * random.uniform(0.5, 1.5)))


def deliver(envelopes: Sequence[Envelope], delivery: Delivery) -> Outcome:
    """Handle the events of one message. Raises only if a dead letter cannot be written, its database being there."""
    attempt = _Attempt(delivery)
    events: dict[str, list[Recorded[Any]]] = defaultdict(list)
    for envelope in envelopes:
        try:
            recorded = envelope.open()
            alias = delivery.subscriber.database(recorded)
        except Exception as error:
            attempt.retry_or_park(envelope, error)
        else:
            attempt.arrived[envelope.identity] = envelope
            events[alias].append(recorded)
    for alias, batch in events.items():
        attempt.handle(alias, batch)
    return attempt.outcome


@dataclass(slots=True)
class _Attempt:
    """The handling of a message: its events as they arrived, and what becomes of them."""

    delivery: Delivery
    outcome: Outcome = field(default_factory=Outcome)
    arrived: dict[Identity, Envelope] = field(default_factory=dict)

    def handle(self, alias: str, batch: Sequence[Recorded[Any]]) -> None:
        """Handle the events of one database."""
        subscriber = self.delivery.subscriber
        effects: list[Recorded[Any]] = []
        plain: list[Recorded[Any]] = []
        quiet: list[Recorded[Any]] = []
        for recorded in batch:
            event_type = recorded.event.TYPE
            if self.delivery.quiet and subscriber.acts_outside(event_type):
                if event_type in subscriber.quiet:
                    quiet.append(recorded)
                else:
                    self.outcome.left_out += 1
            elif event_type in subscriber.effects:
                effects.append(recorded)
            else:
                plain.append(recorded)
        if plain:
            self._try(_handle_in_transaction, alias, plain)
        if quiet:
            self._try(_handle_inside, alias, quiet)
        for recorded in effects:
            self._try(_handle_outside, alias, [recorded])

    def _try(self, handle: Handle, alias: str, batch: Sequence[Recorded[Any]]) -> None:
        """Handle a batch as one, or its events singly if that fails."""
        envelopes = [self.arrived[recorded.identity] for recorded in batch]
        if self.outcome.out_of_time:
            self.outcome.retry += envelopes
            return
        try:
            handled = handle(alias, self.delivery, batch)
        except Exception as error:
            # Without time they cannot be tried singly. While the database is unavailable no event is suspected, and
            # each alone would only wait for the same time-out.
            alone = len(batch) == 1 or isinstance(error, SoftTimeLimitExceeded)
            unavailable = not alone and _is_unavailable(alias, error)
            if unavailable and self._may_retry(error):
                self._log("retry_batch", error, events=len(batch))
                self.outcome.retry_batches.append(envelopes)
            elif alone or unavailable:
                for envelope in envelopes:
                    self.retry_or_park(envelope, error)
            else:
                self._log("singly", error, events=len(batch))
                for recorded in batch:
                    self._try(handle, alias, [recorded])
        else:
            self.outcome.handled += handled
            self.outcome.repeated += len(batch) - handled

    def retry_or_park(self, envelope: Envelope, error: Exception) -> None:
        """Try again later what may get better, up to the limit; everything else is a dead letter."""
        self.outcome.out_of_time |= isinstance(error, SoftTimeLimitExceeded)
        if self._may_retry(error):
            self._log("retry", error, event_id=envelope.id)
            self.outcome.retry.append(envelope)
            return
        self._log("dead", error, event_id=envelope.id)
        name, attempts, replay = self.delivery.subscriber.name, self.delivery.attempt, self.delivery.replay
        try:
            trace = "".join(traceback.format_exception(error))
            deadletters.park(envelope, name, error, trace, attempts=attempts, replay=replay)
        except django.db.Error as unavailable:
            if not is_transient(unavailable):
                raise
            # The rest of the batch must not fail with it, so the event is retried until the dead letter is written.
            self._log("dead_letter_postponed", unavailable, event_id=envelope.id)
            self.outcome.retry.append(envelope)
        else:
            self.outcome.dead += 1

    def _may_retry(self, error: Exception) -> bool:
        return is_transient(error) and self.delivery.attempt < conf.EVENTING_MAX_ATTEMPTS

    def _log(self, what: str, error: Exception, **values: Any) -> None:
        log = logger.warning if what.startswith("dead") else logger.info
        name, attempt = self.delivery.subscriber.name, self.delivery.attempt
        log(f"delivery.{what}", subscriber=name, attempt=attempt, error=repr(error), **values)


def _handle_in_transaction(alias: str, delivery: Delivery, batch: Sequence[Recorded[Any]]) -> int:
    """Mark the events as handled and handle those that were not before, in one transaction; returns their number."""
    with transaction.atomic(using=alias):
        new = _claim(alias, batch, delivery)
        _by_handler(new, delivery.subscriber.handler_of)
    return len(new)


def _handle_inside(alias: str, delivery: Delivery, batch: Sequence[Recorded[Any]]) -> int:
    """Do what stays inside about replayed events whose effect does not; returns how many were handled.

    The inbox row of such an event says that all of its effect has happened, so it is neither written nor removed: if
    the effect was lost, a replay that may act outside still finds it undone.
    """
    with transaction.atomic(using=alias):
        known = set() if delivery.forget else _claimed_before(alias, batch, delivery)
        once = {recorded.identity: recorded for recorded in batch}
        new = [recorded for identity, recorded in once.items() if identity not in known]
        _by_handler(new, lambda event_type: delivery.subscriber.quiet[event_type])
    return len(new)


def _by_handler(batch: Sequence[Recorded[Any]], handler_of: Callable[[str], BatchHandler]) -> None:
    by_handler: dict[BatchHandler, list[Recorded[Any]]] = {}
    for recorded in batch:
        by_handler.setdefault(handler_of(recorded.event.TYPE), []).append(recorded)
    for handler, events in by_handler.items():
        handler(events)


def _handle_outside(alias: str, delivery: Delivery, batch: Sequence[Recorded[Any]]) -> int:
    """Run an effect of one event outside the database, then write its result down together with the inbox row."""
    [recorded] = batch
    if _claimed_before(alias, [recorded], delivery):
        return 0
    write_down = delivery.subscriber.effects[recorded.event.TYPE](recorded)
    with transaction.atomic(using=alias):
        if not _claim(alias, [recorded], delivery):
            return 0
        write_down()
    return 1


def _claim(alias: str, batch: Sequence[Recorded[Any]], delivery: Delivery) -> list[Recorded[Any]]:
    """Write inbox rows; returns the events that were not handled, each once.

    Waits for another worker that is handling them. A replay that forgets takes over older rows in the transaction of
    the new effect: if that fails, or the message is lost, nothing was forgotten. Rows of this message stay, so that it
    can be repeated like any other.
    """
    connection = connections[alias]
    times = (time_to_db(connection, at) for at in (delivery.published_at, timezone.now()))
    rest = (delivery.subscriber.name, delivery.attempt, *times)
    then = ENTER_AGAIN if delivery.forget else ENTER
    entered: list[Recorded[Any]] = []
    left: Sequence[Recorded[Any]] = batch
    while left:
        first: dict[Key, Recorded[Any]] = {}
        for recorded in left:
            first.setdefault(recorded.key, recorded)
        # Sorted, so that two workers with overlapping batches cannot wait for each other.
        rows = [(*key, short_hash(first[key].hash)) for key in sorted(first)]
        source, parameters = relation(connection, "new", NEW_TYPES, rows)
        with prepared(connection) as cursor:
            cursor.execute(f"{INSERT} FROM {source} WHERE true {then}", [*rest, *parameters])
            new = {(stream_id, category, version) for stream_id, category, version in cursor.fetchall()}
        entered += [recorded for key, recorded in first.items() if key in new]
        # Of two events that had a key in turn, the second comes after the first: a statement cannot write a row twice.
        is_once = len(first) == len(left)
        left = () if is_once else [one for one in left if one.identity != first[one.key].identity]
    return entered


def _claimed_before(alias: str, batch: Sequence[Recorded[Any]], delivery: Delivery) -> set[Identity]:
    """The events that have an inbox row which a replay would not take over."""
    connection = connections[alias]
    keys = [part for recorded in batch for part in recorded.key]
    since = " AND published_at >= %s" if delivery.forget else ""
    published_at = [time_to_db(connection, delivery.published_at)] if delivery.forget else []
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT stream_id, category, version, hashes FROM eventing_inbox WHERE"
            f" (stream_id, category, version) IN (VALUES {placeholders(3, len(batch))}) AND subscriber = %s{since}",
            [*keys, delivery.subscriber.name, *published_at],
        )
        rows = {(stream_id, category, version): hashes for stream_id, category, version, hashes in cursor.fetchall()}
    return {
        recorded.identity
        for recorded in batch
        if recorded.key in rows and is_among(short_hash(recorded.hash), rows[recorded.key])
    }


def _is_unavailable(alias: str, error: Exception) -> bool:
    if chance(error) is Chance.WHEN_BACK:
        return True
    return isinstance(error, django.db.Error) and is_transient(error) and not connections[alias].is_usable()
