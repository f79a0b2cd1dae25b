"""What Celery's workers do for the backbone: declare its exchanges and queues after each connect, and lose no message.

Celery acknowledges a message that it cannot decode, and the worker ends when the headers are not what it expects.
Both are rejected here, so that the broker moves them to the dead letters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog
from amqp.exceptions import RecoverableConnectionError
from celery import bootsteps
from celery.worker.consumer import Consumer
from celery.worker.consumer.connection import Connection
from kombu.entity import Queue
from kombu.message import Message

from eventing import queues, topology
from eventing.conf import conf

CHECK_SECONDS = 5
ANSWER_SECONDS = 1.0

logger = structlog.get_logger(__name__)


class Backbone(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery is not typed
    """A step of each worker; it is started again whenever the worker has lost its connection or a queue."""

    requires = (Connection,)

    def __init__(self, consumer: Consumer, **options: Any) -> None:
        super().__init__(consumer, **options)
        self._watch: Any = None
        consumer.on_decode_error = _reject
        create = consumer.create_task_handler
        consumer.create_task_handler = lambda *args, **kwargs: _careful(consumer, create(*args, **kwargs))

    def start(self, consumer: Consumer) -> None:
        self.stop(consumer)
        if conf.EVENTING_DURABLE_BROKER:
            self._watch = consumer.timer.call_repeatedly(CHECK_SECONDS, _require_consumers, (consumer,))
        with consumer.app.connection_for_write() as connection:
            try:
                topology.declare(connection)
            except connection.channel_errors as error:
                # Something of the same name is declared otherwise. The worker's own queue may still be right.
                logger.error("topology.not_declared", error=str(error))

    def stop(self, consumer: Consumer) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None


def _require_consumers(consumer: Consumer) -> None:
    """Raises what makes the worker connect and declare again, if one of its queues was deleted.

    The broker does not notify the consumers of a quorum queue that it is gone. One that is there again has none.
    """
    if consumer.task_consumer is None:
        return
    names = [queue.name for queue in consumer.task_consumer.queues]
    try:
        with queues.connected(seconds=ANSWER_SECONDS) as connection:
            found = queues.depths_of(connection, map(Queue, names))
    except queues.BrokerUnavailable:
        return  # the worker's own connection will notice
    if lost := [depth.name for depth in found if depth.consumers == 0 or depth.messages is None]:
        logger.warning("worker.queue_lost", queues=lost)
        raise RecoverableConnectionError(f"nobody consumes from {', '.join(lost)}")


def _careful(consumer: Consumer, handle: Callable[[Message], None]) -> Callable[[Message], None]:
    def on_message(message: Message) -> None:
        try:
            handle(message)
        except consumer.connection_errors:
            raise
        except Exception as error:  # whatever is in the message, the worker goes on with the next one
            _reject(message, error)

    return on_message


def _reject(message: Message, error: Exception) -> None:
    logger.warning("message.rejected", headers=str(message.headers)[:500], error=repr(error))
    if not message.acknowledged:
        message.reject()
