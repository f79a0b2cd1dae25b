"""Back-pressure: which queues take no more for now, and which outboxes are so far behind that nothing should be added.

workers are slow -> queues fill -> the relay holds their events back -> the outbox grows old -> the edge says "later"
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, TypeVar

import structlog
from django.conf import settings
from kombu.connection import Connection

from eventing import queues, subscribers, topology
from eventing.errors import Overloaded
from eventing.relay import oldest_seconds

T = TypeVar("T")

ASK_SECONDS = 1.0
ANSWER_SECONDS = 1.0

logger = structlog.get_logger(__name__)


@dataclass(slots=True)
class Remembered(Generic[T]):
    """An answer that is asked for once in ASK_SECONDS at most, by one thread while the others go on with the last one.

    What `ask` raises goes to the thread that has asked.
    """

    ask: Callable[[], T]
    last: T
    _asked_at: float = float("-inf")
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self) -> T:
        if time.monotonic() - self._asked_at >= ASK_SECONDS and self._lock.acquire(blocking=False):
            try:
                self.last = self.ask()
            finally:
                self._asked_at = time.monotonic()
                self._lock.release()
        return self.last


# --- Queues: the relay's side ------------------------------------------------------------------------------------


class FullQueues:
    """The names of the subscribers whose queues hold EVENTING_QUEUE_HIGH_WATER messages or more; for many threads.

    A broker that does not answer changes nothing: publishing will notice it soon enough.
    """

    def __init__(self) -> None:
        self._connection: Connection | None = None
        self._remembered: Remembered[frozenset[str]] = Remembered(self._ask, frozenset())

    def __call__(self) -> frozenset[str]:
        return self._remembered.get() if settings.EVENTING_QUEUE_HIGH_WATER > 0 else frozenset()

    def _ask(self) -> frozenset[str]:
        before = self._remembered.last
        try:
            if self._connection is None:
                self._connection = queues.connect(seconds=ANSWER_SECONDS)
            names = [subscriber.name for subscriber in subscribers.all_subscribers()]
            found = queues.ask(self._connection, map(topology.work_queue, names))
        except queues.BrokerUnavailable:
            self.close()
            return before
        high_water = settings.EVENTING_QUEUE_HIGH_WATER
        full = frozenset(depth.name for depth in found if (depth.messages or 0) >= high_water)
        if full != before:
            logger.warning("queues.full", queues=sorted(full), high_water=high_water)
        return full

    def close(self) -> None:
        if self._connection is not None:
            self._connection.collect()
            self._connection = None


# --- Outboxes: the edge's side -----------------------------------------------------------------------------------

_lags: dict[str, Remembered[float]] = {}


def admit(alias: str) -> None:
    """Let something in that will write events to this database.

    Raises Overloaded while the oldest event of its outbox has waited for more than EVENTING_MAX_LAG_SECONDS. Looks
    into the database once in ASK_SECONDS at most, so what it says may be as old as that.
    """
    limit = settings.EVENTING_MAX_LAG_SECONDS
    if limit <= 0:
        return
    seconds = _lags.setdefault(alias, Remembered(partial(oldest_seconds, alias), 0.0)).get()
    if seconds > limit:
        raise Overloaded(
            f"the oldest event of {alias} has waited for {seconds:.0f} s to be published; the limit is {limit:g} s"
        )


def forget() -> None:
    """Ask anew about every outbox."""
    _lags.clear()
