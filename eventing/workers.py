"""What Celery's workers do for the backbone: declare its exchanges and queues after each connect."""

from __future__ import annotations

import structlog
from celery import bootsteps
from celery.worker.consumer import Consumer
from celery.worker.consumer.connection import Connection

from eventing import topology

logger = structlog.get_logger(__name__)


class Backbone(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery is not typed
    """A step of each worker; it is started anew whenever the worker has lost its connection or a queue."""

    requires = (Connection,)

    def start(self, consumer: Consumer) -> None:
        with consumer.app.connection_for_write() as connection:
            try:
                topology.declare(connection)
            except connection.channel_errors as error:
                # Something of the same name is declared otherwise. The worker's own queue may still be right.
                logger.error("topology.not_declared", error=str(error))
