"""Periodic work on the order shards. Tasks may run twice at once, and skip a shard that is down until next time."""

import time
from collections.abc import Callable
from datetime import datetime

import structlog

from eventing import clocks
from eventing.errors import WrongExpectedVersion
from eventing.fan_out import on_each
from eventing.periodic import periodic
from orders import handlers
from orders.events import CATEGORY
from sharding import restores, shards

BATCH = 200
RUN_SECONDS = 20  # less than a task may take

logger = structlog.get_logger(__name__)


@periodic("Cancel overdue orders", every=5)
def cancel_overdue_orders() -> int:
    """Cancel orders that were not paid before their deadline; returns how many."""
    return _on_each_shard(_cancel_overdue)


def _cancel_overdue(now: datetime, alias: str, limit: int) -> int:
    """A shard that was restored may have forgotten payments, so it waits until somebody has looked."""
    return 0 if restores.waits(alias, CATEGORY) else handlers.cancel_overdue(now, alias, limit)


@periodic("Prune idempotency keys", every=600)
def prune_idempotency_keys() -> int:
    """Forget idempotency keys that are too old to be used again; returns how many."""
    return _on_each_shard(handlers.prune_idempotency_keys)


def _on_each_shard(operation: Callable[[datetime, str, int], int]) -> int:
    """Run an operation on the shards in turn, until none has a full batch left; returns the sum of its answers.

    What is left after RUN_SECONDS, or on a shard that is down, is done by the next run.
    """
    until = time.monotonic() + RUN_SECONDS

    def run(alias: str) -> int:
        if time.monotonic() > until:
            return 0
        try:
            return operation(clocks.database_time(alias), alias, BATCH)
        except WrongExpectedVersion as error:  # others were faster
            logger.info("shard.skipped", alias=alias, task=operation.__name__, error=str(error))
            return 0

    total = 0
    busy = list(shards.aliases())
    while busy:
        done = on_each(busy, run, task=operation.__name__).values
        total += sum(done.values())
        busy = [alias for alias, number in done.items() if number >= BATCH]
    return total
