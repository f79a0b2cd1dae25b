"""Periodic work on the order shards. Tasks may run twice at once, and skip a shard that is down until next time."""

from collections.abc import Callable
from datetime import datetime

import structlog
from celery import shared_task
from django.db import InterfaceError, OperationalError
from django.utils import timezone

from eventing.errors import WrongExpectedVersion
from orders import handlers
from sharding import shards

BATCH = 200
BATCHES = 50  # of one shard and run

logger = structlog.get_logger(__name__)


@shared_task
def cancel_overdue_orders() -> int:
    """Cancel orders that were not paid before their deadline; returns how many."""
    return _on_each_shard(handlers.cancel_overdue)


@shared_task
def prune_idempotency_keys() -> int:
    """Forget idempotency keys that are too old to be used again; returns how many."""
    return _on_each_shard(handlers.prune_idempotency_keys)


def _on_each_shard(operation: Callable[[datetime, str, int], int]) -> int:
    """Run an operation in batches on each shard, until a batch is not full; returns the sum of its answers."""
    total = 0
    for alias in shards.aliases():
        try:
            for _ in range(BATCHES):
                done = operation(timezone.now(), alias, BATCH)
                total += done
                if done < BATCH:
                    break
        except (OperationalError, InterfaceError, WrongExpectedVersion) as error:
            logger.warning("shard.skipped", alias=alias, task=operation.__name__, error=str(error))
    return total
