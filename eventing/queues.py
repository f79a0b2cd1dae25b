"""How full the broker's queues are, read without changing anything."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from celery import current_app
from kombu.connection import Connection
from kombu.entity import Queue
from kombu.exceptions import KombuError

from eventing import topology
from eventing.errors import EventingError, Transient


class BrokerUnavailable(EventingError, Transient):
    """The broker does not answer."""


class BrokerBlocked(BrokerUnavailable):
    """The broker takes no messages: its memory or its disk is nearly full."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Depth:
    """Messages (batches of events) that are ready and the workers that take them; None if there is no such queue.

    A message that a worker is processing is not counted, and the in-memory broker does not know its consumers.
    """

    name: str
    messages: int | None
    consumers: int | None


def depths(*, seconds: float) -> list[Depth]:
    """Every queue of this installation, that of dead letters last; raises BrokerUnavailable.

    `seconds` bounds the wait for a connection and for each answer.
    """
    with connected(seconds=seconds) as connection:
        return depths_of(connection, [*topology.work_queues(), topology.dead_letter_queue()])


def delayed(*, seconds: float) -> int:
    """Messages that wait for their next attempt, of all installations that share the broker.

    Raises BrokerUnavailable. The in-memory broker keeps none: there it is the worker that waits.
    """
    with connected(seconds=seconds) as connection:
        if connection.transport.driver_type != "amqp":
            return 0
        return sum(depth.messages or 0 for depth in depths_of(connection, map(Queue, topology.delayed_names())))


def publish_nowhere(*, seconds: float) -> None:
    """Publish a message that no queue wants, which shows that the broker takes messages.

    Raises BrokerUnavailable, and BrokerBlocked where it only answers: it reports a memory or disk alarm only to a
    connection that publishes something. `seconds` bounds the wait for a connection and for the confirm.
    """
    with connected(seconds=seconds) as connection:
        if connection.transport.driver_type != "amqp":
            return  # the in-memory broker would keep the message
        channel = connection.channel()
        channel.basic_publish(channel.prepare_message(b""), exchange="", routing_key=topology.qualified("nowhere"))


def missing_topology(*, seconds: float) -> list[str]:
    """The exchanges and queues that the broker should have and has not, such as "queue dead-letters".

    Raises BrokerUnavailable. The in-memory broker needs none.
    """
    with connected(seconds=seconds) as connection:
        if connection.transport.driver_type != "amqp":
            return []
        exchanges = [name for name in topology.exchange_names() if not _has_exchange(connection, name)]
        queues = [name for name in topology.queue_names() if _declared(connection, name) is None]
    return [f"exchange {topology.unqualified(name)}" for name in exchanges] + [
        f"queue {topology.unqualified(name)}" for name in queues
    ]


def connect(*, seconds: float) -> Connection:
    """A connection, to be collected by the caller; raises BrokerUnavailable.

    `seconds` bounds the wait for it and for each answer.
    """
    connection = current_app.connection_for_write(connect_timeout=seconds, transport_options=limits(seconds))
    try:
        with answering(connection):
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=seconds)
    except BrokerUnavailable:
        connection.collect()
        raise
    return connection


@contextmanager
def connected(*, seconds: float) -> Iterator[Connection]:
    """A connection that is collected afterwards. Raises BrokerUnavailable, also for what fails inside."""
    connection = connect(seconds=seconds)
    try:
        with answering(connection):
            yield connection
    finally:
        connection.collect()


def limits(seconds: float) -> dict[str, Any]:
    """Options of a connection that waits no longer than this for an answer, and not at all for the end of an alarm."""
    return {"read_timeout": seconds, "write_timeout": seconds, "on_blocked": _refuse_to_wait}


def _refuse_to_wait(reason: str) -> None:
    raise BrokerBlocked("takes no messages: its memory or its disk is nearly full")


def depths_of(connection: Connection, queues: Iterable[Queue]) -> list[Depth]:
    """How full these queues are; raises BrokerUnavailable, after which the connection is of no use."""
    with answering(connection):
        return [_depth(connection, queue.name) for queue in queues]


@contextmanager
def answering(connection: Connection) -> Iterator[None]:
    """Raises BrokerUnavailable if the broker does not answer on this connection, or refuses a request."""
    try:
        yield
    except (OSError, KombuError, *connection.connection_errors, *connection.channel_errors) as error:
        raise BrokerUnavailable(type(error).__name__) from error


def _depth(connection: Connection, queue: str) -> Depth:
    name = topology.unqualified(queue)
    answer = _declared(connection, queue)
    if answer is None:
        return Depth(name=name, messages=None, consumers=None)
    counted = answer.consumer_count if connection.transport.driver_type == "amqp" else None
    return Depth(name=name, messages=answer.message_count, consumers=counted)


def _declared(connection: Connection, queue: str) -> Any:
    """What the broker reports of a queue, None if there is none."""
    try:
        return connection.default_channel.queue_declare(queue, passive=True)
    except connection.channel_errors:  # the channel is closed now, and the next request gets another one
        return None


def _has_exchange(connection: Connection, exchange: str) -> bool:
    try:
        connection.default_channel.exchange_declare(exchange, "topic", passive=True)
    except connection.channel_errors:
        return False
    return True
