"""Puts batches of events into subscribers' queues, and knows only after the broker's confirm that they are there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from types import TracebackType
from typing import Self

from celery import current_app
from django.conf import settings
from kombu.connection import Connection
from kombu.exceptions import KombuError
from kombu.messaging import Producer

from eventing import topology
from eventing.wire import Envelope, Replay, encode

TASK = "eventing.deliver"
CONFIRM_SECONDS = 10


class Publisher:
    """One connection to the broker, for one thread. It connects at the first message and after each failure.

    Errors are those of `Publisher.errors`. After a time-out nobody knows whether the broker has the message, so the
    sender sends it again and the inboxes drop the second copy.
    """

    errors: tuple[type[BaseException], ...]

    def __init__(self) -> None:
        self._connection: Connection = current_app.connection_for_write()
        self._producer: Producer | None = None
        # kombu has names of its own for some of what it catches.
        self.errors = (*self._connection.connection_errors, *self._connection.channel_errors, KombuError)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def send(
        self,
        subscriber: str,
        envelopes: Sequence[Envelope],
        *,
        published_at: datetime,
        attempt: int = 1,
        countdown: int | None = None,
        replay: Replay | None = None,
    ) -> None:
        """Send one message with these events to a subscriber's queue, `countdown` (whole seconds >= 1) later.

        Raises one of `errors`, among them a channel error when no queue is bound (the broker returns the message) and
        an OperationalError when the queue is full and refuses it.
        """
        if self._producer is None:
            self._connection.ensure_connection(max_retries=1, timeout=3)
            self._producer = current_app.amqp.Producer(self._connection, auto_declare=False)
        try:
            current_app.send_task(
                TASK,
                kwargs={
                    "subscriber": subscriber,
                    "events": envelopes,
                    "published_at": published_at,
                    "attempt": attempt,
                    "replay": replay,
                },
                # Celery would write the whole batch a second time into a header, for monitors nobody runs.
                argsrepr="()",
                kwargsrepr=f"{{'subscriber': {subscriber!r}, 'events': {len(envelopes)}, 'attempt': {attempt},"
                f" 'replay': {replay is not None}}}",
                queue=topology.qualified(subscriber),
                producer=self._producer,
                countdown=countdown,
                mandatory=True,
                confirm_timeout=CONFIRM_SECONDS,
                retry=False,
                declare=[],
            )
        except self.errors:
            self.close()
            raise

    def close(self) -> None:
        """Drop the connection; the next message makes a new one."""
        self._producer = None
        self._connection.collect()


def batches(envelopes: Iterable[Envelope]) -> Iterator[list[Envelope]]:
    """Cut events into messages of a bounded number and size; an event larger than the bound travels alone."""
    batch: list[Envelope] = []
    size = 0
    for envelope in envelopes:
        length = len(encode(envelope))
        full = len(batch) >= settings.EVENTING_MESSAGE_EVENTS or size + length > settings.EVENTING_MESSAGE_BYTES
        if batch and full:
            yield batch
            batch, size = [], 0
        batch.append(envelope)
        size += length
    if batch:
        yield batch
