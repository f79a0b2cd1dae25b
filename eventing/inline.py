"""Delivers events in the process itself, without a broker: for filling a new installation, and for tests.

It is the relay with a sender that hands each message to its subscriber at once, so an outbox row is deleted only when
its subscribers have had the event: a process that dies in between leaves the rest to the next relay.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime

import msgspec

from eventing.conf import conf
from eventing.delivery import Delivery, deliver
from eventing.errors import EventingError
from eventing.locks import session_lock
from eventing.outbox import LOCK
from eventing.publishing import Wanted, messages
from eventing.relay import Relay
from eventing.wire import Envelope, Message, encode

MAX_ROUNDS = 100


class BatchSender:
    """Stands in for a publisher, and gets its messages one by one."""

    def send(self, message: Message[Envelope]) -> None:
        raise NotImplementedError

    def send_all(self, wanted: Wanted, *, published_at: datetime) -> None:
        for message in messages(wanted, published_at):
            self.send(message)

    def close(self) -> None:
        """There is no connection."""


@dataclass(slots=True)
class DirectSender(BatchSender):
    """Delivers. What it delivers has been through the wire format; those in `skip` get nothing."""

    skip: frozenset[str] = frozenset()
    messages: int = 0
    errors: tuple[type[BaseException], ...] = ()

    def send(self, message: Message[Envelope]) -> None:
        if message.subscriber not in self.skip:
            self.messages += 1
            deliver_until_settled([over_the_wire(message)])


@dataclass(slots=True)
class _KeepingRelay(Relay):
    """A relay for in-process delivery that keeps its outbox rows: a subscriber that was skipped has not had them."""

    durable: bool = False

    def settle(self) -> None:
        """The next relay publishes the rows again, and the inboxes drop what was handled."""


class Inline:
    """Delivers what is in the outboxes of some databases to all subscribers but those in `skip`.

    Without `keep_rows` the events count as published, and those in `skip` never get them.
    """

    def __init__(self, aliases: Iterable[str], *, skip: Iterable[str] = (), keep_rows: bool = False) -> None:
        self._sender = DirectSender(skip=frozenset(skip))
        self._relays = [
            _KeepingRelay(alias, sender=self._sender) if keep_rows else Relay(alias, sender=self._sender, durable=True)
            for alias in aliases
        ]

    def deliver(self) -> int:
        """Deliver everything, and what follows from it, until quiet; returns the number of messages.

        Raises EventingError if the events go on causing each other without an end.
        """
        before = self._sender.messages
        for _ in range(MAX_ROUNDS):
            # Every database gets its turn, also after the first one that has something.
            if not sum([relay.publish_once() for relay in self._relays]):
                return self._sender.messages - before
        raise EventingError(f"the outboxes are still not empty after {MAX_ROUNDS} rounds")


@contextmanager
def leading(aliases: Iterable[str]) -> Iterator[list[str]]:
    """Keep relays from these databases; yields those that no relay is working on already."""
    with ExitStack() as locks:
        yield [alias for alias in aliases if locks.enter_context(session_lock(alias, LOCK))]


def deliver_until_settled(messages: Sequence[Message[Envelope]]) -> None:
    """Deliver messages; what wants to be tried again is, after the others, until it is a dead letter.

    Raises EventingError if the dead letters' database is unavailable.
    """
    for _ in range(conf.EVENTING_MAX_ATTEMPTS):
        messages = [
            message.again(batch)
            for message in messages
            for batch in deliver(message.events, Delivery.of(message)).messages
        ]
        if not messages:
            return
    raise EventingError(f"{len(messages)} messages are neither handled nor dead; their dead letters cannot be written")


def over_the_wire(message: Message[Envelope]) -> Message[Envelope]:
    """The message as a worker would receive it."""
    return msgspec.convert(msgspec.json.decode(encode(message)), Message[Envelope])
