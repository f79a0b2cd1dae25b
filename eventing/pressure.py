"""Back-pressure: which queues take no more for now, and which outboxes lag so far that nothing should be added.

workers are slow -> messages wait -> the relay puts more events into each -> queues fill -> the relay holds their events
back -> the outbox grows old -> the edge says "later"
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Generic, TypeVar

import structlog
from kombu.connection import Connection

from eventing import queues, subscribers, topology
from eventing.conf import conf
from eventing.errors import Overloaded
from eventing.outbox import ends

T = TypeVar("T")

REFRESH_SECONDS = 1.0
ANSWER_SECONDS = 1.0
BACKLOG_MESSAGES = 8  # fewer are on their way to a free worker

logger = structlog.get_logger(__name__)


@dataclass(slots=True)
class Remembered(Generic[T]):
    """A value that one thread loads anew once in REFRESH_SECONDS at most, while the others get the last one.

    What `load` raises goes to the thread that loads.
    """

    load: Callable[[], T]
    last: T
    _loaded_at: float = float("-inf")
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self) -> T:
        if monotonic() - self._loaded_at >= REFRESH_SECONDS and self._lock.acquire(blocking=False):
            try:
                self.last = self.load()
            finally:
                self._loaded_at = monotonic()
                self._lock.release()
        return self.last


# --- Queues: the relay's side ------------------------------------------------------------------------------------


class Load:
    """How full the subscribers' queues are, as of REFRESH_SECONDS ago at most; for many threads.

    A broker that does not answer changes nothing: publishing will notice it soon enough.
    """

    def __init__(self) -> None:
        self._connection: Connection | None = None
        self._remembered: Remembered[dict[str, int]] = Remembered(self._load, {})

    def full(self) -> frozenset[str]:
        """The names of the subscribers whose queues hold EVENTING_QUEUE_HIGH_WATER messages or more."""
        return _full(self._remembered.get())

    def has_backlog(self) -> bool:
        """Whether messages wait for workers."""
        return any(messages >= BACKLOG_MESSAGES for messages in self._remembered.get().values())

    def _load(self) -> dict[str, int]:
        before = self._remembered.last
        try:
            if self._connection is None:
                self._connection = queues.connect(seconds=ANSWER_SECONDS)
            names = [subscriber.name for subscriber in subscribers.all_subscribers()]
            found = queues.depths_of(self._connection, map(topology.work_queue, names))
        except queues.BrokerUnavailable:
            self.close()
            return before
        answer = {depth.name: depth.messages or 0 for depth in found}
        if (full := _full(answer)) != _full(before):
            logger.warning("queues.full", queues=sorted(full), high_water=conf.EVENTING_QUEUE_HIGH_WATER)
        return answer

    def close(self) -> None:
        if self._connection is not None:
            self._connection.collect()
            self._connection = None


def _full(messages: Mapping[str, int]) -> frozenset[str]:
    high_water = conf.EVENTING_QUEUE_HIGH_WATER
    return frozenset(name for name, number in messages.items() if number >= high_water > 0)


# --- Outboxes: the edge's side -----------------------------------------------------------------------------------

LOOKS = 1_000  # that are kept of one outbox

_lags: dict[str, Remembered[float]] = {}


@dataclass(slots=True)
class Waiting:
    """For how long the oldest event of an outbox has waited, as far as this process has seen it wait.

    Only the monotonic clock is read: the times in events are those of other processes, whose clocks may be wrong.
    """

    alias: str
    _looks: list[tuple[int, float]] = field(default_factory=list)  # the newest row of each, and when

    def seconds(self) -> float:
        now = monotonic()
        oldest, newest = ends(self.alias)
        # Whatever a look has found that went up to the oldest row or beyond, the row was there.
        self._looks = [look for look in self._looks if look[0] >= oldest]
        if not oldest:
            return 0.0
        if not self._looks or self._looks[-1][0] < newest:
            self._looks.append((newest, now))
        if len(self._looks) > LOOKS:
            del self._looks[1::2]
        return now - self._looks[0][1]


def admit(alias: str) -> None:
    """Let something in that will write events to this database.

    Raises Overloaded while the oldest event of its outbox has waited for more than EVENTING_MAX_LAG_SECONDS since this
    process has seen it. Looks into the database once in REFRESH_SECONDS at most, so what it says may be as old as that.
    """
    limit = conf.EVENTING_MAX_LAG_SECONDS
    if limit <= 0:
        return
    seconds = _lags.setdefault(alias, Remembered(Waiting(alias).seconds, 0.0)).get()
    if seconds > limit:
        raise Overloaded(
            f"the oldest event of {alias} has waited for {seconds:.0f} s to be published; the limit is {limit:g} s"
        )


def reset() -> None:
    """Forget what is known of every outbox."""
    _lags.clear()
