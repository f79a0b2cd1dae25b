"""Helpers for tests: given/when/then for a pure domain, and delivery of everything without a broker."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from django.conf import settings
from django.db import connections

from eventing.inline import MAX_ROUNDS, BatchSender, Inline, deliver_until_settled, over_the_wire
from eventing.relay import Relay
from eventing.wire import Envelope, Message

State = TypeVar("State")
Command = TypeVar("Command")


@dataclass(frozen=True, slots=True)
class Scenario(Generic[State, Command]):
    """`Scenario(decide, evolve, initial).given(*events).when(command).then(*events)`; or `.refused(error)`."""

    decide: Callable[[State, Command], list[Any]]
    evolve: Callable[[State, Any], State]
    state: State
    command: Command | None = None

    def given(self, *events: Any) -> Scenario[State, Command]:
        state = self.state
        for event in events:
            state = self.evolve(state, event)
        return Scenario(self.decide, self.evolve, state, self.command)

    def when(self, command: Command) -> Scenario[State, Command]:
        return Scenario(self.decide, self.evolve, self.state, command)

    def _decided(self) -> list[Any]:
        assert self.command is not None, "say .when(command) first"
        return self.decide(self.state, self.command)

    def then(self, *expected: Any) -> State:
        """The command causes exactly these events; returns the state after them."""
        events = self._decided()
        assert events == list(expected), f"expected {list(expected)}, got {events}"
        return self.given(*events).state

    def refused(self, error: type[Exception]) -> Exception:
        """The command is refused with exactly this class of error; returns it."""
        try:
            events = self._decided()
        except error as refusal:
            assert type(refusal) is error, f"expected {error.__name__}, got {type(refusal).__name__}"
            return refusal
        raise AssertionError(f"expected {error.__name__}, got events {events}")


@dataclass(slots=True)
class Collector(BatchSender):
    """A sender that keeps the messages; what it keeps has gone through the wire format."""

    messages: list[Message[Envelope]] = field(default_factory=list)
    errors: tuple[type[BaseException], ...] = ()

    def send(self, message: Message[Envelope]) -> None:
        self.messages.append(over_the_wire(message))


def publish_all(only: Iterable[str] | None = None) -> list[Message[Envelope]]:
    """Empty the outboxes of all databases (or `only` these) into messages."""
    collector = Collector()
    for alias in only or settings.DATABASES:
        if alias in connections:
            relay = Relay(alias, sender=collector, durable=True)
            while relay.publish_once():
                pass
    return collector.messages


def drain(*, skip: Iterable[str] = ("integration",)) -> int:
    """Deliver everything in the outboxes, and what follows from it, until quiet; returns the number of messages.

    Runs in the test's own thread and transaction. Subscribers in `skip` need a broker.
    """
    return Inline([alias for alias in settings.DATABASES if alias in connections], skip=skip).deliver()


def deliver_shuffled(rng: random.Random, times: int = 2, *, skip: Iterable[str] = ("integration",)) -> int:
    """Like `drain`, but every event arrives `times` times, alone, and in the order of the random generator."""
    delivered = 0
    skipped = set(skip)
    for _ in range(MAX_ROUNDS):
        messages = [
            message.again([envelope], attempts=0)
            for message in publish_all()
            if message.subscriber not in skipped
            for envelope in message.events
            for _ in range(times)
        ]
        if not messages:
            return delivered
        rng.shuffle(messages)
        delivered += len(messages)
        deliver_until_settled(messages)
    raise AssertionError(f"still not quiet after {MAX_ROUNDS} rounds")
