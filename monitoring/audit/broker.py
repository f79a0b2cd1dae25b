"""What the broker knows of events that are published and not handled yet."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import timedelta

from eventing import queues
from eventing.conf import conf
from eventing.queues import BrokerUnavailable

ANSWER_SECONDS = 3.0
FRESH_SECONDS = 1.0


def longest_delay() -> timedelta:
    """How long an event can be tried again before it is a dead letter: the sum of the longest pauses."""
    pauses = (min(2**attempt, conf.EVENTING_MAX_BACKOFF_SECONDS) for attempt in range(conf.EVENTING_MAX_ATTEMPTS))
    return timedelta(seconds=1.5 * sum(pauses))


@dataclass(slots=True)
class Broker:
    """Asked at most once a second. `answers` is False once it has not answered."""

    answers: bool = True
    _waiting: dict[str, int] = field(default_factory=dict)
    _delayed: int = 0
    _asked_at: float = float("-inf")

    def may_have(self, subscriber: str, age: timedelta) -> bool:
        """Whether an event that was published `age` ago can still be on its way to the subscriber.

        The embedded profile's broker is not asked: there, an event stays in the outbox until it has been handled. One
        that does not answer may have anything.
        """
        if not conf.EVENTING_DURABLE_BROKER:
            return False
        self._ask()
        if not self.answers:
            return True
        return self._waiting.get(subscriber, 0) > 0 or (self._delayed > 0 and age < longest_delay())

    def _ask(self) -> None:
        if not self.answers or time.monotonic() - self._asked_at < FRESH_SECONDS:
            return
        try:
            depths = queues.depths(seconds=ANSWER_SECONDS)
            self._delayed = queues.delayed(seconds=ANSWER_SECONDS)
        except BrokerUnavailable:
            self.answers = False
            return
        self._waiting = {depth.name: depth.messages or 0 for depth in depths}
        self._asked_at = time.monotonic()
