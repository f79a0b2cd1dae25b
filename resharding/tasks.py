"""The Celery tasks that move buckets.

They may take an hour. Their messages are acknowledged when they begin: RabbitMQ would redeliver them after 30 minutes,
to a worker that finds the mover running. What a dead mover has left to do is in the record.
"""

from __future__ import annotations

from typing import Any

from celery import shared_task

from eventing.periodic import periodic
from resharding import background
from resharding.background import Act

LONG: dict[str, Any] = {"acks_late": False, "soft_time_limit": 3_540, "time_limit": 3_600}


@shared_task(name=Act.RESUME.value, **LONG)
def run_move(*, move_id: int) -> None:
    background.perform(Act.RESUME, move_id)


@shared_task(name=Act.ABORT.value, **LONG)
def abort_move(*, move_id: int) -> None:
    background.perform(Act.ABORT, move_id)


@shared_task(name=Act.DROP_SOURCE.value, **LONG)
def drop_source(*, move_id: int) -> None:
    background.perform(Act.DROP_SOURCE, move_id)


@periodic("Finish interrupted moves", every=60, name="sharding.finish_interrupted_moves", **LONG)
def finish_interrupted_moves() -> int:
    """Every minute: no bucket is left without a database because its mover died."""
    return background.finish_interrupted()
