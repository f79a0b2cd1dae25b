"""The Celery task in which every subscriber's events arrive."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
import structlog
from celery import Task, current_app, shared_task
from celery.exceptions import Reject, SoftTimeLimitExceeded
from django.conf import settings

from eventing import deadletters, subscribers
from eventing.delivery import Delivery, backoff_seconds, deliver
from eventing.publishing import TASK, Publisher
from eventing.wire import Envelope

logger = structlog.get_logger(__name__)


@shared_task(bind=True, name=TASK)
def deliver_message(self: Task, *, subscriber: str, events: Any, published_at: str, attempt: int) -> None:
    envelopes = msgspec.convert(events, list[Envelope])
    published = msgspec.convert(published_at, datetime)
    if len(envelopes) > 1 and (self.request.delivery_info or {}).get("redelivered"):
        # Its last worker died with it. An event that kills workers must take only itself to the dead letters.
        logger.warning("delivery.split", subscriber=subscriber, events=len(envelopes))
        _send_singly(subscriber, envelopes, published, attempt, countdown=None)
        return
    delivery = Delivery(subscriber=subscribers.get(subscriber), attempt=attempt, published_at=published)
    try:
        outcome = deliver(envelopes, delivery)
        if outcome.retry:
            _send_singly(subscriber, outcome.retry, published, attempt + 1, countdown=backoff_seconds(attempt))
    except SoftTimeLimitExceeded as error:
        # It came between two events: the broker hands the whole message out again, and the inboxes know what is done.
        raise Reject(error, requeue=True) from error


@shared_task(name="eventing.collect_dead_letters")
def collect_dead_letters(limit: int = 500) -> int:
    """Take what the broker has given up into the table of dead letters; returns how many messages."""
    if not settings.EVENTING_DURABLE_BROKER:
        return 0
    with current_app.connection_for_read() as connection:
        return deadletters.collect(connection, limit)


def _send_singly(
    subscriber: str, envelopes: Sequence[Envelope], published_at: datetime, attempt: int, *, countdown: int | None
) -> None:
    with Publisher() as publisher:
        for envelope in envelopes:
            publisher.send(subscriber, [envelope], published_at=published_at, attempt=attempt, countdown=countdown)
