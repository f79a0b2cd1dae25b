"""The Celery task in which every subscriber's events arrive."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
import structlog
from celery import Task, current_app, shared_task
from django.conf import settings
from django.db import InterfaceError, OperationalError
from django.utils import timezone

from eventing import deadletters, housekeeping, subscribers
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
    outcome = deliver(envelopes, delivery)
    if outcome.retry:
        _send_singly(subscriber, outcome.retry, published, attempt + 1, countdown=backoff_seconds(attempt))


@shared_task(name="eventing.collect_dead_letters")
def collect_dead_letters(limit: int = 500) -> int:
    """Take what the broker has given up into the table of dead letters; returns how many messages."""
    if not settings.EVENTING_DURABLE_BROKER:
        return 0
    with current_app.connection_for_read() as connection:
        return deadletters.collect(connection, limit)


@shared_task(name="eventing.prune_inbox")
def prune_inbox(batch: int = 2_000, batches: int = 50) -> int:
    """Forget old inbox rows of every database, at most `batch * batches` of each; returns how many."""
    pruned = 0
    for alias in settings.DATABASES:
        try:
            for _ in range(batches):
                deleted = housekeeping.prune_inbox(timezone.now(), alias, batch)
                pruned += deleted
                if deleted < batch:
                    break
        except (OperationalError, InterfaceError) as error:
            logger.warning("database.skipped", alias=alias, task="prune_inbox", error=str(error))
    return pruned


def _send_singly(
    subscriber: str, envelopes: Sequence[Envelope], published_at: datetime, attempt: int, *, countdown: int | None
) -> None:
    with Publisher() as publisher:
        for envelope in envelopes:
            publisher.send(subscriber, [envelope], published_at=published_at, attempt=attempt, countdown=countdown)
