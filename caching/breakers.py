"""Circuit breakers: a service that fails again and again is not called for a while, instead of being waited for.

    closed (every call goes through) -> open (none does) -> half-open (the next call decides) -> closed or open

A breaker belongs to a process. `on_change` notifies listeners; see monitoring.circuits.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from typing import TypeVar

import circuitbreaker
import structlog

T = TypeVar("T")

logger = structlog.get_logger(__name__)


class State(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class CircuitOpen(Exception):
    """The service has failed too often and is left alone for now."""


class Breaker:
    """Opens after so many `failures` in a row, for so many `seconds`; only errors of the class `counted` are failures.

    Any other error is an answer of the service. In use by several threads; calls do not wait for each other.
    """

    def __init__(self, name: str, *, failures: int, seconds: int, counted: type[Exception]) -> None:
        self.name = name
        self._circuit = circuitbreaker.CircuitBreaker(failures, seconds, counted, name=name)
        _breakers[name] = self

    @property
    def state(self) -> State:
        return State(self._circuit.state)

    @property
    def open_until(self) -> datetime:
        """When the next call may go through; in the past if one may."""
        until: datetime = self._circuit.open_until
        return until

    @property
    def last_failure(self) -> Exception | None:
        failure: Exception | None = self._circuit.last_failure
        return failure

    def call(self, function: Callable[[], T]) -> T:
        """What the function returns or raises; raises CircuitOpen without calling it while the circuit is open."""
        before = self.state
        if before is State.OPEN:
            raise CircuitOpen(f"{self.name} is left alone until {self.open_until:%H:%M:%S} UTC")
        try:
            with self._circuit:
                return function()
        finally:
            after = self.state
            if after is not before:
                logger.warning("circuit.changed", name=self.name, state=after, error=repr(self.last_failure))
                for listener in _listeners:
                    listener(self)

    def reset(self) -> None:
        self._circuit.reset()


_breakers: dict[str, Breaker] = {}
_listeners: list[Callable[[Breaker], None]] = []
_elsewhere: list[Callable[[str], bool]] = []


def names() -> list[str]:
    """The services that have a breaker in this process."""
    return sorted(_breakers)


def on_change(listener: Callable[[Breaker], None]) -> None:
    """Call `listener(breaker)` in the thread in which a breaker of this process has opened or closed."""
    _listeners.append(listener)


def ask_also(closed: Callable[[str], bool]) -> None:
    """Have `is_closed` ask somebody who knows the breakers of other processes."""
    _elsewhere.append(closed)


def is_closed(name: str) -> bool:
    """Whether no process leaves this service alone, as far as this one knows."""
    own = _breakers.get(name)
    return (own is None or own.state is State.CLOSED) and all(closed(name) for closed in _elsewhere)


def reset() -> None:
    """Forget every failure."""
    for breaker in _breakers.values():
        breaker.reset()
