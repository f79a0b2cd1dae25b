"""Publishes many messages and waits once for the broker's confirms of all of them.

kombu waits for each confirm before the next message, which leaves a publisher idle for a round trip and the broker's
disk a message. The technique is RabbitMQ's own advice, "publishing messages in batches" (Publisher Confirms).

Celery gives heartbeats only to connections that consume. The ones here have them too, from a thread, as those of
oslo.messaging have: a dead connection is noticed, and an idle one kept.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress

import structlog
from celery import current_app
from kombu.connection import Connection
from kombu.exceptions import KombuError, OperationalError
from kombu.messaging import Producer

from eventing import queues, topology

CONFIRM_SECONDS = 10
CONNECT_SECONDS = 3
READ_SECONDS = 0.001  # for what has arrived already
UNANSWERED = 1_000  # messages; more on the way at once would only fill buffers

logger = structlog.get_logger(__name__)


class NotConfirmed(OperationalError):  # type: ignore[misc]  # kombu is not typed
    """The broker has refused messages (a queue that takes no more), or has not answered in time."""


class ConfirmedProducer:
    """A connection with confirms that are waited for together. It connects when it is first used.

    What `publish_all` is given publishes through `producer` and calls `published` after each message. After an error of
    `errors` nobody knows which messages the broker has: publish all of them again.
    """

    errors: tuple[type[BaseException], ...]

    def __init__(self, *, seconds: float = CONFIRM_SECONDS) -> None:
        """Each answer of the broker is waited for `seconds` at most."""
        self._seconds = seconds
        # The transport's own way to confirm is to wait after each message.
        options = {**queues.limits(seconds), "confirm_publish": False}
        self._connection: Connection = current_app.connection_for_write(
            transport_options=options, heartbeat=current_app.conf.broker_heartbeat
        )
        self._in_use = threading.RLock()  # heartbeats come between what is published
        self._heartbeat_seconds = 0.0  # between two looks whether the broker lives; 0: none
        self._closed = threading.Event()
        # A transport in memory has a message as soon as it is published, and no confirms.
        self._confirms = self._connection.transport.driver_type == "amqp"
        self._producer: Producer | None = None
        self._published = 0
        self._open: set[int] = set()
        self._refused = 0
        # kombu has names of its own for some of what it catches.
        self.errors = (
            *self._connection.connection_errors,
            *self._connection.channel_errors,
            KombuError,
            queues.BrokerUnavailable,
        )

    @property
    def producer(self) -> Producer:
        """Raises one of `errors` when there is no broker."""
        if self._producer is None:
            self._connection.ensure_connection(max_retries=1, timeout=min(self._seconds, CONNECT_SECONDS))
            producer = current_app.amqp.Producer(self._connection, auto_declare=False)
            self._published, self._refused = 0, 0
            self._open.clear()
            if self._confirms:
                producer.channel.confirm_select()
                producer.channel.events["basic_ack"].add(self._on_ack)
                producer.channel.events["basic_nack"].add(self._on_nack)
                self._start_heartbeats()
            self._producer = producer
        return self._producer

    def publish_all(self, publish: Callable[[], None]) -> None:
        """Run `publish`, and wait until the broker has every message. Raises one of `errors`.

        When the broker lacks an exchange or a queue, all of them are declared, and `publish` is run a second time.
        """
        with self._in_use:
            try:
                try:
                    publish()
                    self.confirm()
                except self._connection.channel_errors as error:
                    logger.warning("topology.declared_again", error=str(error))
                    self.close()
                    with current_app.connection_for_write() as connection:
                        topology.declare(connection)
                    publish()
                    self.confirm()
            except BaseException:
                self.close()
                raise

    def published(self) -> None:
        """Count a message; waits for confirms when very many are missing. Raises what `confirm` raises."""
        if self._confirms:
            self._published += 1
            self._open.add(self._published)  # the broker counts the messages of a channel, too
            if len(self._open) >= UNANSWERED:
                self.confirm()

    def confirm(self) -> None:
        """Return when the broker has every message published so far.

        Raises NotConfirmed, a channel error when it has returned one that no queue is bound for, or a connection error.
        """
        deadline = time.monotonic() + self._seconds
        while self._open:
            left = deadline - time.monotonic()
            if left <= 0:
                raise NotConfirmed(f"{len(self._open)} messages were not confirmed within {self._seconds:g} s")
            try:
                self._connection.drain_events(timeout=min(left, self._heartbeat_seconds or left))
            except TimeoutError:
                self._connection.heartbeat_check()
        if self._refused:
            raise NotConfirmed(f"the broker has refused {self._refused} messages")

    def close(self) -> None:
        """Drop the connection; the next message makes a new one."""
        with self._in_use:
            self._closed.set()
            self._producer = None
            self._open.clear()
            self._connection.collect()

    def _start_heartbeats(self) -> None:
        self._heartbeat_seconds = float(self._connection.get_heartbeat_interval() or 0) / 4
        if self._heartbeat_seconds:
            self._closed = threading.Event()
            arguments = (weakref.ref(self), self._closed, self._heartbeat_seconds)
            threading.Thread(target=_send_heartbeats, args=arguments, name="heartbeats", daemon=True).start()

    def _heartbeat(self, closed: threading.Event) -> None:
        """Read the broker's heartbeats and send one if it is time for it."""
        with self._in_use:
            if closed.is_set():
                return
            try:
                with suppress(TimeoutError):
                    while True:
                        self._connection.drain_events(timeout=READ_SECONDS)
                self._connection.heartbeat_check()
            except self.errors as error:
                logger.warning("publisher.connection_lost", error=str(error))
                self.close()

    def _on_ack(self, delivery_tag: int, multiple: bool) -> None:
        self._settle(delivery_tag, multiple)

    def _on_nack(self, delivery_tag: int, multiple: bool) -> None:
        self._refused += self._settle(delivery_tag, multiple)

    def _settle(self, delivery_tag: int, multiple: bool) -> int:
        settled = {tag for tag in self._open if tag <= delivery_tag} if multiple else {delivery_tag}
        self._open -= settled
        return len(settled)


def _send_heartbeats(producer: weakref.ref[ConfirmedProducer], closed: threading.Event, seconds: float) -> None:
    """Until the connection is closed, or the producer is garbage."""
    while not closed.wait(seconds):
        living = producer()
        if living is None:
            return
        living._heartbeat(closed)
        del living  # or this thread would keep it
