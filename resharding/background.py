"""Moves of buckets in the background: an operator requests one, a worker does it, the record has its progress.

A move that is cut off while its bucket is at the source waits for an operator. One that was cut off later must not:
no database may have the bucket, so `finish_interrupted` continues it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from enum import StrEnum

import psycopg
import structlog
from celery.exceptions import SoftTimeLimitExceeded
from django.db import DEFAULT_DB_ALIAS, DatabaseError, InterfaceError, connections, transaction
from django.utils import timezone

from eventing.locks import try_transaction_lock
from eventing.publishing import request_task
from eventing.queues import BrokerUnavailable
from resharding import moving
from sharding.errors import MoveRefused
from sharding.models import BucketMove

LOCK = "sharding.start"
WAITING = "waiting for a worker"
WAITS = timedelta(minutes=1)  # a worker that has not come by then may never come

State = BucketMove.State

logger = structlog.get_logger(__name__)


class Act(StrEnum):
    """What a worker can do with a move; the values are the names of the tasks."""

    RESUME = "sharding.run_move"
    ABORT = "sharding.abort_move"
    DROP_SOURCE = "sharding.drop_source"


def start(bucket: int, target: str, *, by: str, drop_source: bool = False) -> BucketMove:
    """Let a worker move a bucket. Raises MoveRefused or BrokerUnavailable, and has done nothing then."""
    with transaction.atomic(using=DEFAULT_DB_ALIAS):
        alone = try_transaction_lock(connections[DEFAULT_DB_ALIAS], LOCK)
        other = BucketMove.objects.filter(state__in=BucketMove.ACTIVE).first()
        if not alone or other is not None:
            what = f" {other.bucket} is on its way to {other.target}" if other else "s are moved by another mover"
            raise MoveRefused(f"Bucket{what}. One bucket moves at a time: let that end, or abort it.")
        move = moving.start(bucket, target, by=by, drop_source=drop_source)
        _wait(move)
    try:
        _post(Act.RESUME, move)
    except BrokerUnavailable:
        move.delete()
        raise
    return move


def request(act: Act, move: BucketMove) -> None:
    """Let a worker do something about a move, or the running mover abort.

    Raises MoveRefused or BrokerUnavailable, and has done nothing then.
    """
    refuse_nonsense(act, move)
    if act is Act.ABORT and moving.is_running():
        moving.request_abort(move)
        return
    before = move.progress
    _wait(move)
    try:
        _post(act, move)
    except BrokerUnavailable:
        BucketMove.objects.filter(pk=move.pk, progress=WAITING).update(progress=before)
        raise


def refuse_nonsense(act: Act, move: BucketMove) -> None:
    """Raises MoveRefused if a worker would refuse it, as far as that is known here."""
    if act is Act.RESUME and not is_unfinished(move):
        raise MoveRefused(f"There is nothing to resume: {move.get_state_display()}.")
    if act is Act.ABORT and move.state == State.ABORTED:
        raise MoveRefused("This move has been aborted already.")
    if act is Act.ABORT and move.state not in (State.COPYING, State.CUTTING_OVER):
        raise MoveRefused(f"Bucket {move.bucket} is in {move.target} already. It can be moved back.")
    if act is Act.DROP_SOURCE and move.state != State.KEPT:
        raise MoveRefused(f"There is nothing to drop: {move.get_state_display()}.")
    if is_waiting(move):
        raise MoveRefused("A worker has been notified already; it has not begun yet.")
    if moving.is_running() and not (act is Act.ABORT and move.state == State.COPYING):
        raise MoveRefused("A bucket is being moved and cannot be interrupted now. Try again when that ends.")


def is_unfinished(move: BucketMove) -> bool:
    return move.state in BucketMove.ACTIVE or (move.state == State.KEPT and move.drop_source)


def is_waiting(move: BucketMove) -> bool:
    """Whether a worker was notified lately and has not begun."""
    return move.progress == WAITING and timezone.now() - move.updated_at < WAITS


def perform(act: Act, move_id: int) -> None:
    """Do what was requested. A refusal is in the record, or another worker does it: then there is nothing to do.

    Raises what moving raises when a database is away; that is in the record, too.
    """
    move = BucketMove.objects.filter(pk=move_id).first()
    if move is None:
        return
    does: dict[Act, Callable[[BucketMove], None]] = {
        Act.RESUME: moving.run,
        Act.ABORT: moving.abort,
        Act.DROP_SOURCE: moving.drop_source,
    }
    try:
        does[act](move)
    except MoveRefused as error:
        logger.warning("bucket.move_refused", act=act.name, move=move_id, bucket=move.bucket, error=str(error))
    except SoftTimeLimitExceeded:
        BucketMove.objects.filter(pk=move_id).update(error="The time limit of a task is reached; resume continues it.")
        raise
    finally:
        # What has ended is not waited for any more, also if nothing came of it.
        BucketMove.objects.filter(pk=move_id, state=State.KEPT).update(progress="")


def finish_interrupted() -> int:
    """Continue stalled moves whose bucket may be in no database; returns how many are finished."""
    cut_off = list(BucketMove.objects.filter(state__in=[State.CUTTING_OVER, State.SWITCHED]).order_by("id"))
    if not cut_off or moving.is_running():
        return 0
    finished = 0
    for move in cut_off:
        try:
            moving.run(move)
            finished += 1
        except (MoveRefused, DatabaseError, InterfaceError, psycopg.Error) as error:
            logger.warning("bucket.move_not_finished", move=move.pk, bucket=move.bucket, error=str(error))
    return finished


def _wait(move: BucketMove) -> None:
    move.progress = WAITING
    move.save(update_fields=["progress", "updated_at"])


def _post(act: Act, move: BucketMove) -> None:
    request_task(act.value, {"move_id": move.pk})
