"""Puts messages into subscribers' queues, and knows only after the broker's confirms that they are there."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import Any, Self

import msgspec
from celery import current_app

from eventing import queues, topology
from eventing.conf import conf
from eventing.confirms import ConfirmedProducer
from eventing.databases import give_back_connections
from eventing.wire import Envelope, Message, encode

TASK = "eventing.deliver"
PATIENCE_SECONDS = 2.0  # where a visitor waits for a page
GATHER_SECONDS = 0.25
BUSY_RATE = 400  # events a second, from which on they are gathered for as long
REST = 0.8  # the part of that time after which relays read: what they have read earlier would only wait

Wanted = Mapping[str, Sequence[Envelope]]  # subscriber → events


class Publisher(ConfirmedProducer):
    """Sends messages, for one thread at a time. It connects at the first message and after each failure.

    Errors are those of `errors`, among them NotConfirmed when a queue is full and refuses a message. After a time-out
    nobody knows whether the broker has a message, so the sender sends it again and the inboxes drop the second copy.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def send(self, message: Message[Envelope], *, countdown: int | None = None) -> None:
        """Send a message to its subscriber's queue, `countdown` (whole seconds >= 1) later. Raises one of `errors`."""
        self.publish_all(partial(self._post, message, countdown))

    def send_all(self, wanted: Wanted, *, published_at: datetime) -> None:
        """Send each subscriber its events, in as few messages as their bounds allow, and wait once for all of them.

        Raises one of `errors`; then any of the messages may have been sent.
        """

        def publish() -> None:
            for message in messages(wanted, published_at):
                self._post(message)

        self.publish_all(publish)

    def _post(self, message: Message[Envelope], countdown: int | None = None) -> None:
        current_app.send_task(
            TASK,
            kwargs=msgspec.structs.asdict(message),
            # Celery would write the whole batch a second time into a header, for monitors nobody runs.
            argsrepr="()",
            kwargsrepr=f"{{'subscriber': {message.subscriber!r}, 'events': {len(message.events)},"
            f" 'attempt': {message.attempt}, 'replay': {message.replay is not None}}}",
            queue=topology.qualified(message.subscriber),
            producer=self.producer,
            countdown=countdown,
            mandatory=True,
            retry=False,
            declare=[],
        )
        self.published()


@dataclass(slots=True)
class _Parcel:
    """What one relay wants to have sent."""

    wanted: Wanted
    published_at: datetime
    sent: bool = False
    error: Exception | None = None

    @property
    def size(self) -> int:
        """The length of its longest message."""
        return max(map(len, self.wanted.values()), default=0)


@dataclass(slots=True)
class SharedPublisher:
    """One publisher for many relays: what several of them want to send at the same time travels in common messages.

    A worker takes a long message about as fast as a short one, and where there are many databases most messages would
    be short. The relay that finds the connection free sends for all that wait, as in `eventing.group_commit`.

    The more events there are, the longer they are gathered, unless they fill a message: for six milliseconds when
    ten a second come, for GATHER_SECONDS from BUSY_RATE on, and also while workers have a backlog.
    Relays that `rest` meanwhile read the more, and what they have read is younger when it leaves.
    """

    has_backlog: Callable[[], bool] = bool
    errors: tuple[type[BaseException], ...] = field(init=False)
    publisher: Publisher = field(default_factory=Publisher)
    _waiting: list[_Parcel] = field(default_factory=list)
    _list: threading.Lock = field(default_factory=threading.Lock)
    _connection: threading.Lock = field(default_factory=threading.Lock)
    _sent_at: float = field(default_factory=time.monotonic)
    _rate: float = 0.0  # events a second, of about the last second

    def __post_init__(self) -> None:
        self.errors = self.publisher.errors

    def send_all(self, wanted: Wanted, *, published_at: datetime) -> None:
        """Send each subscriber its events, together with those of others. Raises one of `errors`, like a Publisher."""
        parcel = _Parcel(wanted, published_at)
        with self._list:
            self._waiting.append(parcel)
        with self._connection:
            if not parcel.sent:
                self._gather()
                with self._list:
                    parcels, self._waiting = self._waiting, []
                self._count(sum(parcel.size for parcel in parcels))
                self._send(parcels)
        if parcel.error is not None:
            raise parcel.error

    def rest(self) -> float:
        """For how many seconds a relay that has just emptied its outbox need not look into it again."""
        return max(0.0, self._sent_at + REST * self._gather_seconds() - time.monotonic())

    def _gather(self) -> None:
        with self._list:
            events = sum(parcel.size for parcel in self._waiting)
        if events < conf.EVENTING_MESSAGE_EVENTS:
            time.sleep(max(0.0, self._sent_at + self._gather_seconds() - time.monotonic()))

    def _gather_seconds(self) -> float:
        return GATHER_SECONDS if self.has_backlog() else GATHER_SECONDS * min(1.0, self._rate / BUSY_RATE)

    def _count(self, events: int) -> None:
        now = time.monotonic()
        passed = max(now - self._sent_at, 1e-3)
        self._rate += (events / passed - self._rate) * -math.expm1(-passed)
        self._sent_at = now

    def _send(self, parcels: Sequence[_Parcel]) -> None:
        together: dict[str, list[Envelope]] = {}
        for parcel in parcels:
            for subscriber, envelopes in parcel.wanted.items():
                together.setdefault(subscriber, []).extend(envelopes)
        error: Exception | None = None
        try:
            self.publisher.send_all(together, published_at=max(parcel.published_at for parcel in parcels))
        except Exception as failure:  # whatever it is, each of them must know that nothing is sure to have left
            error = failure
        for parcel in parcels:
            parcel.error = error
            parcel.sent = True

    def close(self) -> None:
        """Drop the connection, once no thread sends; the next message makes a new one."""
        with self._connection:
            self.publisher.close()


def request_task(
    task: str, kwargs: Mapping[str, Any] | None = None, *, args: Sequence[Any] = (), **options: Any
) -> None:
    """Have a worker run a background task; `options` are those of Celery's `send_task`.

    A visitor may wait for a page meanwhile, so idle connections to databases are returned, and a broker that does not
    answer or takes no messages raises BrokerUnavailable after a few seconds.
    """
    give_back_connections()
    with queues.connected(seconds=PATIENCE_SECONDS) as connection:
        send = partial(
            current_app.send_task,
            task,
            args=list(args),
            kwargs=dict(kwargs or {}),
            **({"queue": topology.qualified(topology.TASKS), "mandatory": True} | options),
            connection=connection,
            retry=False,
        )
        try:
            send()
        except connection.channel_errors:
            topology.declare(connection)
            send()


def messages(wanted: Wanted, published_at: datetime) -> Iterator[Message[Envelope]]:
    """Each subscriber's events in messages of a bounded number and size."""
    for subscriber, envelopes in wanted.items():
        for batch in batches(envelopes):
            yield Message(subscriber=subscriber, events=batch, published_at=published_at)


def batches(envelopes: Iterable[Envelope]) -> Iterator[list[Envelope]]:
    """Cut events into messages of a bounded number and size; an event larger than the bound travels alone."""
    batch: list[Envelope] = []
    size = 0
    most, largest = conf.EVENTING_MESSAGE_EVENTS, conf.EVENTING_MESSAGE_BYTES
    for envelope in envelopes:
        length = len(encode(envelope))
        if batch and (len(batch) >= most or size + length > largest):
            yield batch
            batch, size = [], 0
        batch.append(envelope)
        size += length
    if batch:
        yield batch
