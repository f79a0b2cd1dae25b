"""Circuit breakers: closed, open, half-open."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime

import circuitbreaker
import pytest

from caching import breakers
from caching.breakers import Breaker, CircuitOpen, State


class Silent(Exception):
    pass


class Service:
    """Fails or answers as it is told, and counts how often it was asked."""

    def __init__(self) -> None:
        self.fails: Exception | None = None
        self.asked = 0

    def __call__(self) -> str:
        self.asked += 1
        if self.fails is not None:
            raise self.fails
        return "answer"


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(circuitbreaker, "monotonic", clock)
    return clock


@pytest.fixture
def changes(monkeypatch: pytest.MonkeyPatch) -> list[State]:
    seen: list[State] = []
    listener: Callable[[Breaker], None] = lambda breaker: seen.append(breaker.state)  # noqa: E731
    monkeypatch.setattr(breakers, "_listeners", [listener])
    monkeypatch.setattr(breakers, "_breakers", {})
    return seen


@pytest.fixture
def breaker(clock: Clock, changes: list[State]) -> Breaker:
    return Breaker("service", failures=3, seconds=30, counted=Silent)


def fail(breaker: Breaker, service: Service, times: int) -> None:
    service.fails = Silent("nobody there")
    for _ in range(times):
        with pytest.raises(Silent):
            breaker.call(service)


def test_failures_in_a_row_open_the_circuit_and_nobody_asks_any_more(breaker: Breaker, changes: list[State]) -> None:
    service = Service()
    fail(breaker, service, 3)
    assert breaker.state is State.OPEN

    with pytest.raises(CircuitOpen, match="service is left alone until"):
        breaker.call(service)

    assert (service.asked, changes) == (3, [State.OPEN])
    assert breaker.open_until > datetime.now(UTC)
    assert str(breaker.last_failure) == "nobody there"


def test_an_answer_in_between_starts_the_count_anew(breaker: Breaker, changes: list[State]) -> None:
    service = Service()
    fail(breaker, service, 2)
    service.fails = None
    assert breaker.call(service) == "answer"
    fail(breaker, service, 2)
    assert (breaker.state, changes) == (State.CLOSED, [])


def test_an_error_that_is_an_answer_counts_as_one(breaker: Breaker) -> None:
    service = Service()
    fail(breaker, service, 2)
    service.fails = ValueError("refused")
    with pytest.raises(ValueError, match="refused"):
        breaker.call(service)
    fail(breaker, service, 2)
    assert breaker.state is State.CLOSED


@pytest.mark.parametrize("recovered", [True, False])
def test_after_the_pause_the_next_call_decides(
    breaker: Breaker, clock: Clock, changes: list[State], recovered: bool
) -> None:
    service = Service()
    fail(breaker, service, 3)
    clock.now += 31
    assert breaker.state is State.HALF_OPEN

    if recovered:
        service.fails = None
        assert breaker.call(service) == "answer"
        assert (breaker.state, changes) == (State.CLOSED, [State.OPEN, State.CLOSED])
    else:
        fail(breaker, service, 1)
        assert (breaker.state, changes) == (State.OPEN, [State.OPEN, State.OPEN])
        with pytest.raises(CircuitOpen):
            breaker.call(service)


def test_a_slow_call_does_not_keep_others_waiting(breaker: Breaker) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def slow() -> bool:
        inside.set()
        return go_on.wait(timeout=10)

    thread = threading.Thread(target=breaker.call, args=[slow])
    thread.start()
    try:
        assert inside.wait(timeout=10)
        assert breaker.call(Service()) == "answer"
        assert thread.is_alive()
    finally:
        go_on.set()
        thread.join(timeout=10)


def test_breakers_are_known_by_name_and_forget_when_told(breaker: Breaker) -> None:
    fail(breaker, Service(), 3)
    breakers.reset()
    assert (breakers.names(), breaker.state) == (["service"], State.CLOSED)
