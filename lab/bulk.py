"""Many commands at once, a transaction for each shard and batch: how load tests make orders faster than customers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from uuid import uuid4

from django.db import transaction

from eventing.recorded import Metadata
from orders import handlers
from orders.commands import Command
from sharding import shards

BATCH = 500


def metadata(actor: str) -> Metadata:
    return Metadata(correlation_id=uuid4().hex, actor=actor)


def handle_all(commands: Iterable[Command], *, actor: str) -> None:
    """Let many orders decide; commands for one order in their sequence. Raises the first refusal."""
    by_alias: dict[str, list[tuple[Command, Metadata]]] = defaultdict(list)
    for command in commands:
        by_alias[shards.alias_of(command.order_id)].append((command, metadata(actor)))
    for alias, pairs in by_alias.items():
        for start in range(0, len(pairs), BATCH):
            with transaction.atomic(using=alias):
                for refusal in handlers.handle_batch(pairs[start : start + BATCH], using=alias).refused:
                    raise refusal.error
