"""The relay takes committed events from the outboxes to the broker.

One relay works on a database at a time, under a lock of that database; when it dies its lock goes with its
connection and another relay takes over. Outbox rows are deleted once the broker has confirmed, so a crash in between
publishes twice, which the inboxes absorb, and never loses.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Any, Protocol

import msgspec
import structlog
from django.db import DatabaseError, InterfaceError, connections
from django.utils import timezone

from eventing import deadletters, subscribers
from eventing.conf import conf
from eventing.databases import look_up, placeholders, prepared, relation, time_from_db
from eventing.locks import release_session_lock, try_session_lock
from eventing.outbox import LOCK
from eventing.pressure import Load
from eventing.publishing import Publisher, SharedPublisher, Wanted
from eventing.recorded import is_among, short_hash
from eventing.store import KEY_TYPES, TYPES
from eventing.subscribers import ANY, Subscriber
from eventing.wire import Envelope, request_ids

logger = structlog.get_logger(__name__)

STANDBY_SECONDS = 1.0
MAX_BACKOFF_SECONDS = 10.0
SETTLE_SECONDS = 0.3
HELD_SECONDS = 0.25
LOOK_PAST = 5_000  # rows whose events are held back, among which others are looked for


class Sender(Protocol):
    """What a relay needs of a publisher."""

    errors: tuple[type[BaseException], ...]

    def send_all(self, wanted: Wanted, *, published_at: datetime) -> None: ...

    def close(self) -> None: ...


@dataclass(slots=True)
class Sent:
    """A published event whose outbox row is kept until its subscribers have handled it (see `Relay.settle`)."""

    envelope: Envelope
    waiting: list[Subscriber]
    at: datetime


@dataclass(slots=True)
class Relay:
    """The relay of one database. `run` is the loop of a thread; `publish_once` is one turn of it."""

    alias: str
    sender: Sender = field(default_factory=Publisher)
    # A broker that forgets its messages when it stops (the embedded profile's) must not be the only one to have them.
    durable: bool = field(default_factory=lambda: conf.EVENTING_DURABLE_BROKER)
    # The subscribers whose queues are full. Their events wait in the outbox, and the others' go past them.
    full: Callable[[], frozenset[str]] = frozenset
    rest: Callable[[], float] = float  # for how many seconds it need not look into an outbox that it has emptied
    sent: dict[int, Sent] = field(default_factory=dict)
    # Rows whose events the broker has, but which could not be deleted: the database has become read-only, say.
    undeleted: list[int] = field(default_factory=list)
    leading: bool = False

    def run(self, stop: threading.Event) -> None:
        """Publish until `stop` is set, finishing the current batch; failures pause it and never end it."""
        failed = 0
        pause = 0.0
        try:
            while not stop.wait(pause):
                try:
                    pause = self._turn(pause)
                    failed = 0
                except Exception as error:
                    failed += 1
                    pause = backoff_seconds(failed)
                    expected = isinstance(error, (DatabaseError, InterfaceError, *self.sender.errors))
                    # An unexpected error is a bug and needs its traceback; the events wait in the outbox meanwhile.
                    logger.warning(
                        "relay.paused",
                        database=self.alias,
                        seconds=round(pause, 2),
                        error=repr(error),
                        exc_info=not expected,
                    )
                    self._start_over()
        finally:
            self._start_over()
            self.sender.close()

    def _turn(self, pause: float) -> float:
        """Lead or stand by; returns how long to wait until the next turn, given how long the last wait was."""
        if not self.leading:
            self.leading = try_session_lock(connections[self.alias], LOCK)
            if not self.leading:
                # Another relay has this database; do not hold a connection while standing by.
                connections[self.alias].close()
                return STANDBY_SECONDS
            logger.info("relay.leading", database=self.alias)
        if published := self.publish_once():
            return 0.0 if published >= conf.EVENTING_RELAY_BATCH else self.rest()
        return HELD_SECONDS if self.full() else _next_pause(pause)

    def _start_over(self) -> None:
        """Give up lock and connection: after a failure nothing is known about either."""
        if self.leading:
            # The connection goes back to a pool, and the lock would stay with it. A broken one has lost it already.
            with suppress(DatabaseError, InterfaceError):
                release_session_lock(connections[self.alias], LOCK)
        self.leading = False
        connections[self.alias].close()

    def publish_once(self) -> int:
        """Publish what the outbox holds, up to a batch; returns the number of events published."""
        if self.sent:
            self.settle()
        if self.undeleted:  # before anything else is read, so that nothing is published again and again
            self._delete(self.undeleted)
            self.undeleted = []
        held = _wanted_by(self.full())
        if ANY in held:
            return 0
        rows = [row for row in self._outbox_rows(held) if row[0] not in self.sent]
        if not rows:
            return 0
        envelopes = {row[0]: envelope_of_row(row[1:]) for row in rows}
        published_at = timezone.now()
        wanted = {
            subscriber.name: [envelope for envelope in envelopes.values() if subscriber.wants(envelope.type)]
            for subscriber in subscribers.all_subscribers()
        }
        self.sender.send_all(wanted, published_at=published_at)
        if self.durable:
            self.undeleted = list(envelopes)
            self._delete(envelopes)
            self.undeleted = []
        else:
            self._remember(envelopes, published_at)
        logger.info(
            "relay.published", database=self.alias, events=len(envelopes), request_id=request_ids(envelopes.values())
        )
        return len(envelopes)

    def _outbox_rows(self, held: Sequence[str]) -> list[tuple[Any, ...]]:
        """The oldest rows of the outbox with their events, but for events of the types that are held back."""
        connection = connections[self.alias]
        batch = conf.EVENTING_RELAY_BATCH + len(self.sent)
        with prepared(connection) as cursor:
            cursor.execute(
                "SELECT stream_id, category, version, id FROM eventing_outbox ORDER BY id LIMIT %s",
                [max(batch, LOOK_PAST) if held else batch],
            )
            ids = {row[:3]: row[3] for row in cursor.fetchall()}
        if not ids:
            return []
        passed = f"AND type NOT IN {placeholders(len(held), 1)}" if held else ""
        events = look_up(
            connection, "eventing_event", tuple(TYPES), tuple(KEY_TYPES), ids, then=passed, parameters=held
        )
        return sorted(((ids[row[:3]], *row) for row in events), key=itemgetter(0))[:batch]

    def _delete(self, outbox_ids: Iterable[int]) -> None:
        connection = connections[self.alias]
        sent, parameters = relation(connection, "sent", {"id": "bigint"}, [(one,) for one in outbox_ids])
        with connection.cursor() as cursor:
            cursor.execute(f"DELETE FROM eventing_outbox WHERE id IN (SELECT id FROM {sent})", parameters)

    def _remember(self, envelopes: dict[int, Envelope], at: datetime) -> None:
        for outbox_id, envelope in envelopes.items():
            wanting = [one for one in subscribers.all_subscribers() if one.wants(envelope.type)]
            self.sent[outbox_id] = Sent(envelope=envelope, waiting=wanting, at=at)

    def settle(self) -> None:
        """Delete the outbox rows of events that all their subscribers have handled or parked.

        Only for a broker that is not durable: what is still in the outbox when the process starts is published again.
        """
        before = timezone.now() - timedelta(seconds=SETTLE_SECONDS)
        done = []
        for outbox_id, sent in self.sent.items():
            if sent.at <= before:
                sent.waiting = [subscriber for subscriber in sent.waiting if not _settled(subscriber, sent.envelope)]
                sent.at = timezone.now()
                if not sent.waiting:
                    done.append(outbox_id)
        if done:
            self._delete(done)
            for outbox_id in done:
                del self.sent[outbox_id]


def _wanted_by(names: Iterable[str]) -> list[str]:
    """The event types that any of these subscribers wants; among them ANY if one of them wants them all."""
    return sorted({wanted for name in names for wanted in subscribers.get(name).types})


def _settled(subscriber: Subscriber, envelope: Envelope) -> bool:
    """Whether there is an inbox row or a dead letter for this delivery."""
    key = (*envelope.key, subscriber.name)
    where = "stream_id = %s AND category = %s AND version = %s AND subscriber = %s"
    with connections[subscriber.database(envelope.open())].cursor() as cursor:
        cursor.execute(f"SELECT hashes FROM eventing_inbox WHERE {where}", key)
        if any(is_among(short_hash(envelope.hash), hashes) for (hashes,) in cursor.fetchall()):
            return True
    return deadletters.of_event(envelope, subscriber.name).exists()


def envelope_of_row(row: Sequence[Any]) -> Envelope:
    """A row of `eventing.store.COLUMNS` as it travels."""
    stream_id, category, version, event_type, schema_version, data, metadata, recorded_at, digest = row
    return Envelope(
        stream_id=stream_id,
        category=category,
        version=version,
        type=event_type,
        schema_version=schema_version,
        data=msgspec.Raw(data.encode()),
        metadata=msgspec.Raw(metadata.encode()),
        recorded_at=time_from_db(recorded_at),
        hash=digest,
    )


def _next_pause(pause: float) -> float:
    """Poll at the set interval while there is work, up to 2.5 times slower when there is none."""
    shortest: float = conf.EVENTING_POLL_SECONDS
    return min(max(pause * 1.2, shortest), shortest * 2.5)


def backoff_seconds(failures: int) -> float:
    """0.1, 0.2, 0.4, … seconds up to the maximum, with full jitter, so that relays do not come back in step."""
    return random.uniform(0.05, min(0.1 * 2.0**failures, MAX_BACKOFF_SECONDS))


def start_threads(aliases: Iterable[str], stop: threading.Event, load: Load) -> list[threading.Thread]:
    """Start a relay for each database. They share a connection to the broker, and messages.

    They end soon after `stop` is set; join them to let the current batch finish.
    """
    sender = SharedPublisher(has_backlog=load.has_backlog)
    threads = [
        threading.Thread(
            target=Relay(alias, sender=sender, full=load.full, rest=sender.rest).run,
            args=[stop],
            name=f"relay-{alias}",
            daemon=True,
        )
        for alias in aliases
    ]
    for thread in threads:
        thread.start()
    return threads
