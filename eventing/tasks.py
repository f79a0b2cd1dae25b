"""The Celery task in which every subscriber's events arrive."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
import structlog
from celery import Task, current_app, shared_task
from django.conf import settings

from eventing import deadletters, subscribers
from eventing.delivery import Delivery, backoff_seconds, deliver
from eventing.publishing import TASK, Publisher
from eventing.wire import Envelope, Replay

logger = structlog.get_logger(__name__)


@shared_task(bind=True, name=TASK)
def deliver_message(
    self: Task, *, subscriber: str, events: Any, published_at: str, attempt: int, replay: Any = None
) -> None:
    envelopes = msgspec.convert(events, list[Envelope])
    delivery = Delivery(
        subscriber=subscribers.get(subscriber),
        attempt=attempt,
        published_at=msgspec.convert(published_at, datetime),
        replay=msgspec.convert(replay, Replay | None),
    )
    if len(envelopes) > 1 and (self.request.delivery_info or {}).get("redelivered"):
        # Its last worker died with it. An event that kills workers must take only itself to the dead letters.
        logger.warning("delivery.split", subscriber=subscriber, events=len(envelopes))
        _send_singly(envelopes, delivery, attempt, countdown=None)
        return
    outcome = deliver(envelopes, delivery)
    if outcome.retry:
        _send_singly(outcome.retry, delivery, attempt + 1, countdown=backoff_seconds(attempt))


@shared_task(name="eventing.collect_dead_letters")
def collect_dead_letters(limit: int = 500) -> int:
    """Take what the broker has given up into the table of dead letters; returns how many messages."""
    if not settings.EVENTING_DURABLE_BROKER:
        return 0
    with current_app.connection_for_read() as connection:
        return deadletters.collect(connection, limit)


def _send_singly(envelopes: Sequence[Envelope], delivery: Delivery, attempt: int, *, countdown: int | None) -> None:
    with Publisher() as publisher:
        for envelope in envelopes:
            publisher.send(
                delivery.subscriber.name,
                [envelope],
                published_at=delivery.published_at,
                attempt=attempt,
                countdown=countdown,
                replay=delivery.replay,
            )
