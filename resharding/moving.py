"""Moves a bucket from one PostgreSQL database to another while orders go on.

1. An open write fence is put before the bucket's rows at the source (`resharding.write_fence`).
2. The rows are copied to tables of their own at the target, then what changed meanwhile, until little is left.
3. Cutting over: the target prepares the rows of tables that buckets share, in a transaction. The fence closes, the last
   changes are copied, counts and checksums are compared, and the source detaches the bucket's partitions. From here on
   no database has the bucket, for some milliseconds.
4. The target attaches the partitions and commits: it has the bucket. The shard map is changed.
5. The source's other rows are deleted. Its detached partitions are kept until an operator drops them.

Two databases cannot commit together, so there is a moment in which no database has the bucket rather than one in which
two have it. Wherever a mover dies, the next one sees from the partitions which database has the bucket, and from the
record (`BucketMove`) what is left to do: before step 3 it can continue or abort, after step 4 only continue.

Writers that meet a closed fence or a missing partition try again (`shards.on_owner`), readers that find nothing look
again (`shards.query_owner`). If a long transaction prevents that the fence closes within `CLOSE_SECONDS`, or that the
partitions are detached before the bucket was closed for `CLOSED_SECONDS`, the fence opens and it is tried later.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import psycopg
import structlog
from django.db import DEFAULT_DB_ALIAS, DatabaseError, InterfaceError, connections, transaction
from django.db.models import Q
from django.utils import timezone
from psycopg.errors import LockNotAvailable, QueryCanceled

from eventing import projections, rebuild
from eventing.databases import is_postgresql
from eventing.locks import SessionLock, is_locked
from resharding import write_fence
from resharding.copying import Copy, Different, ignore
from resharding.steps import Step
from resharding.tables import connect
from sharding import shards
from sharding.errors import MoveRefused
from sharding.models import Bucket, BucketMove
from sharding.numbers import BUCKETS

State = BucketMove.State
OnStep = Callable[[Step], None]
Report = Callable[[str], None]

LOCK = "sharding.move"
CLOSE_SECONDS = 0.2
CLOSED_SECONDS = 0.35
CUT_OVER_TRIES = 60
PAUSE_SECONDS = 1.0
FEW_ROWS = 200  # so few can be copied while the fence is closed
PASSES = 20
COPIES = 3
LOCK_TRIES = 100
PROGRESS_SECONDS = 1.0
ROWS_A_SECOND = 5_000  # copied while orders go on, which need the machine, too
PACE_SECONDS = 0.05  # so far a copy may be ahead: a pause after each row would cost more than the row

logger = structlog.get_logger(__name__)


def start(bucket: int, target: str, *, by: str = "", drop_source: bool = False) -> BucketMove:
    """Write down that a bucket is to move; `run` does it. Raises MoveRefused."""
    if not 0 <= bucket < BUCKETS:
        raise MoveRefused(f"There is no bucket {bucket}: they count from 0 to {BUCKETS - 1}.")
    if target not in shards.aliases():
        raise MoveRefused(f"{target} is not an order database; there are {', '.join(shards.aliases())}.")
    source = shards.refresh().owners[bucket]
    if source == target:
        raise MoveRefused(f"Bucket {bucket} is in {target} already.")
    for alias in (source, target):
        if not is_postgresql(connections[alias]):
            raise MoveRefused("Buckets are moved between PostgreSQL databases; here they are SQLite files.")
    with transaction.atomic(using=DEFAULT_DB_ALIAS):
        list(Bucket.objects.select_for_update().filter(bucket=bucket))  # one at a time decides
        if (other := BucketMove.objects.filter(bucket=bucket, state__in=BucketMove.ACTIVE).first()) is not None:
            raise MoveRefused(
                f"Bucket {bucket} is on its way to {other.target} ({other.get_state_display()}):"
                " `reshard resume` or `reshard abort` first."
            )
        kept = BucketMove.objects.filter(bucket=bucket, state=State.KEPT, source=target).first()
        if kept is not None:
            raise MoveRefused(
                f"{target} still keeps the rows that it had before bucket {bucket} moved to {kept.target}:"
                f" `reshard drop-source --bucket {bucket}` first."
            )
        return BucketMove.objects.create(
            bucket=bucket, source=source, target=target, by=by, drop_source=drop_source, progress="not begun"
        )


class Cancelled(Exception):
    """An operator has requested that the mover aborts the move."""


def run(move: BucketMove, *, on_step: OnStep = ignore, report: Report = ignore) -> None:
    """Bring a move to its end, from wherever it stands; it is aborted if that is requested meanwhile.

    Raises MoveRefused if it cannot go on now, OperationalError (Django's or psycopg's) if a database is unavailable:
    the move can be resumed or aborted then. The record keeps the error's text until the next attempt.
    """
    with _mover(move, on_step, report) as mover:
        mover.go()


def abort(move: BucketMove, *, report: Report = ignore) -> None:
    """Abort a move, and leave the bucket where it was. Raises MoveRefused if it has moved already."""
    with _mover(move, ignore, report) as mover:
        mover.abort()


def request_abort(move: BucketMove) -> bool:
    """Have the running mover abort this move within a second or so; False if it does not copy any more."""
    return bool(BucketMove.objects.filter(pk=move.pk, state=State.COPYING).update(give_up=True))


def drop_source(move: BucketMove, *, report: Report = ignore) -> None:
    """Drop what the source has kept. Raises MoveRefused if that is not at the target."""
    with _mover(move, ignore, report) as mover:
        mover.drop()


def active() -> list[BucketMove]:
    """The moves that have begun and not ended, oldest first."""
    to_drop = Q(state=State.KEPT, drop_source=True)
    return list(BucketMove.objects.filter(Q(state__in=BucketMove.ACTIVE) | to_drop).order_by("id"))


def is_running() -> bool:
    """Whether a mover is running."""
    return is_postgresql(connections[DEFAULT_DB_ALIAS]) and is_locked(DEFAULT_DB_ALIAS, LOCK)


@contextmanager
def _mover(move: BucketMove, on_step: OnStep, report: Report) -> Iterator[_Mover]:
    """The only mover, while no read model of its databases is rebuilt."""
    lock = SessionLock(DEFAULT_DB_ALIAS, LOCK)
    if not lock.hold():
        raise MoveRefused("Another move is under way; buckets are moved one at a time.")
    try:
        with ExitStack() as stack:
            for projection in projections.all_projections():
                for alias in {move.source, move.target} & set(projection.aliases()):
                    stack.enter_context(rebuild.alone(projection, alias))
            source = stack.enter_context(connect(move.source))
            target = stack.enter_context(connect(move.target))
            preparing = stack.enter_context(connect(move.target))
            move.refresh_from_db()
            _note_error(move, "")
            yield _Mover(move, Copy(source, target, preparing, move.bucket), on_step, report)
    except (rebuild.RebuildRefused, Different) as error:
        _note_error(move, str(error))
        raise MoveRefused(str(error)) from error
    except Exception as error:
        _note_error(move, str(error) or repr(error))
        raise
    finally:
        lock.release()


def _note_error(move: BucketMove, text: str) -> None:
    """Write down why a move that is not over has stopped, for the next reader."""
    if move.error == text or move.state in (State.DONE, State.ABORTED):
        return
    move.error = text
    with suppress(DatabaseError, InterfaceError):  # it may be `default` itself that is unavailable
        BucketMove.objects.filter(pk=move.pk).update(error=text, updated_at=timezone.now())


class _Mover:
    def __init__(self, move: BucketMove, copy: Copy, on_step: OnStep, report: Report) -> None:
        self.move = move
        self.copy = copy
        self.source = copy.source
        self.on_step = on_step
        self.report = report
        self.reported_at = 0.0
        self.pace = 0.0, 0  # when it began to count, and the rows that it had copied by then
        self.closed_at: float | None = None

    def go(self) -> None:
        move = self.move
        if move.state in (State.DONE, State.ABORTED):
            raise MoveRefused(f"This move has ended: {move.get_state_display()}.")
        self._note(give_up=False)
        self._report(f"{move}: {move.get_state_display()}")
        self.on_step(Step.STARTED)
        if move.state in (State.COPYING, State.CUTTING_OVER):
            at_source, at_target = self._where()
            if at_source:
                try:
                    self._copy_over()
                except Cancelled:
                    self.abort()
                    return
            if not at_target:
                self._attach()
            self._switch()
        if move.state == State.SWITCHED:
            self._clear()
        if move.drop_source:
            self.drop()

    def abort(self) -> None:
        move = self.move
        at_source, at_target = self._where()
        if move.state not in (State.COPYING, State.CUTTING_OVER) or at_target:
            hint = "; `reshard resume` finishes it" if move.state in BucketMove.ACTIVE else ""
            raise MoveRefused(f"Bucket {move.bucket} is in {move.target} already{hint}. Then move it back.")
        if not at_source:
            write_fence.until_locked(self.copy.reattach, tries=LOCK_TRIES)
        self._note(state=State.ABORTED, progress="", finished_at=timezone.now(), moving_to=None)
        self._remove_fence()
        self.copy.discard()
        self._report(f"aborted: bucket {move.bucket} stays in {move.source}")

    def drop(self) -> None:
        move = self.move
        if move.state == State.DONE:
            return
        if move.state != State.KEPT:
            raise MoveRefused(f"The bucket has not moved yet: {move.get_state_display()}.")
        self._remove_fence()
        self.copy.drop_source()
        self._note(state=State.DONE, progress="", finished_at=timezone.now())
        self._report(f"{move.source}: the bucket's old partitions are dropped")
        self.on_step(Step.DROPPED)

    # --- Steps -------------------------------------------------------------------------------------------------------

    def _where(self) -> tuple[bool, bool]:
        """Whether the source and whether the target has the bucket."""
        at_source, at_target = self.copy.is_attached(self.source), self.copy.is_attached(self.copy.target)
        if at_source and at_target:
            raise MoveRefused(
                f"Bucket {self.move.bucket} is attached in {self.move.source} and in {self.move.target}, which no move"
                " does; was one of them restored from a backup? `manage.py audit` names the orders."
            )
        if not (at_source or at_target) and self.move.state == State.COPYING:
            raise MoveRefused(
                f"No database has bucket {self.move.bucket}, which no move does: it was detached by hand."
            )
        return at_source, at_target

    def _copy_over(self) -> None:
        """Copy, catch up and cut over, until the source has detached the bucket."""
        move, copy = self.move, self.copy
        self._note(state=State.COPYING, moving_to=None)
        try:
            write_fence.install(self.source, copy.tables, move.bucket)
        except LockNotAvailable:
            raise self._no_gap() from None
        self.on_step(Step.FENCED)
        for _ in range(CUT_OVER_TRIES):
            self._catch_up()
            if self._cut_over():
                return
            self._report(f"bucket {move.bucket} is in use by a long transaction; trying again")
            time.sleep(random.uniform(0.5, 1.0) * PAUSE_SECONDS)
        raise self._no_gap()

    def _no_gap(self) -> MoveRefused:
        return MoveRefused(
            f"Long transactions in {self.move.source} leave no gap to move bucket {self.move.bucket} (pg_stat_activity"
            " shows them). Everything is as it was; `reshard resume` tries again, `reshard abort` gives up."
        )

    def _catch_up(self) -> None:
        """Copy what the target does not have yet, until hardly anything is left."""
        move, copy = self.move, self.copy
        if move.snapshot is None or not copy.has_tables():
            copy.create_tables()
            self._note(snapshot=None, rows=0, expected=copy.expected())
            self.on_step(Step.PREPARED)
        copies = 0
        for _ in range(PASSES):
            self._check_cancelled()
            first = move.snapshot is None
            self.pace = time.monotonic(), 0
            try:
                done = copy.catch_up(move.snapshot, self._count if first else ignore)
            except Different as error:
                # Rows were deleted, old inbox rows for example.
                copies += 1
                if copies == COPIES:
                    raise
                self._report(f"copying again: {error}")
                self._note(snapshot=None)
                continue
            self._note(snapshot=done.snapshot, rows=done.rows if first else move.rows + done.rows)
            if first:
                self._report(f"copied {done.rows:,} rows")
                self.on_step(Step.COPIED)
            elif done.rows <= FEW_ROWS:
                return

    def _cut_over(self) -> bool:
        """Close the fence, copy the rest, detach the bucket at the source; False if a long transaction prevents it."""
        move = self.move
        self.copy.prepare()
        self._note(state=State.CUTTING_OVER, moving_to=move.target)
        began = time.monotonic()
        detached = False
        try:
            detached = write_fence.close(self.source, move.bucket, seconds=CLOSE_SECONDS) and self._detach(began)
        except QueryCanceled:
            """It took too long."""
        except Different as error:
            self._report(f"copying again: {error}")
            move.snapshot = None
        if detached:
            self.closed_at = began
            self.on_step(Step.DETACHED)
        else:
            write_fence.reopen(self.source, move.bucket)
            self.copy.rollback()
            self._note(state=State.COPYING, moving_to=None)
        return detached

    def _detach(self, began: float) -> bool:
        self.on_step(Step.CLOSED)
        self.copy.catch_up(self.move.snapshot, seconds=began + CLOSED_SECONDS - time.monotonic())
        while time.monotonic() - began < CLOSED_SECONDS:
            try:
                self.copy.detach()
            except LockNotAvailable:
                time.sleep(0.01)
            else:
                return True
        return False

    def _attach(self) -> None:
        try:
            write_fence.until_locked(self.copy.attach, tries=LOCK_TRIES)
        except psycopg.Error as error:
            # Without an answer it is unknown whether the target has it, and two must not: the next mover will see.
            if self.copy.preparing.broken or self.copy.is_attached(self.copy.target):
                raise
            write_fence.until_locked(self.copy.reattach, tries=LOCK_TRIES)
            write_fence.reopen(self.source, self.move.bucket)
            self._note(state=State.COPYING, moving_to=None)
            raise MoveRefused(f"{self.move.target} could not take the bucket, so it stays: {error}") from error
        self.on_step(Step.ATTACHED)

    def _switch(self) -> None:
        with transaction.atomic(using=DEFAULT_DB_ALIAS):
            shards.assign(self.move.bucket, self.move.target)
            self._note(state=State.SWITCHED)
        shards.refresh()
        if self.closed_at is not None:
            closed_ms = round((time.monotonic() - self.closed_at) * 1000)
            self._note(closed_ms=closed_ms)
            self._report(f"switched: {self.move.target} has bucket {self.move.bucket}, closed for {closed_ms} ms")
        self.on_step(Step.SWITCHED)

    def _clear(self) -> None:
        self.copy.clear_source()
        self._remove_fence()
        self._note(state=State.KEPT, progress="", finished_at=timezone.now())
        logger.info("bucket.moved", bucket=self.move.bucket, source=self.move.source, target=self.move.target)
        self.on_step(Step.CLEARED)

    def _remove_fence(self) -> None:
        if not write_fence.remove(self.source, self.copy.tables, self.move.bucket):
            self._report("long transactions keep the write fence, open, until the source's old tables are dropped")

    def _check_cancelled(self) -> None:
        if BucketMove.objects.filter(pk=self.move.pk, give_up=True).exists():
            raise Cancelled

    # --- The record --------------------------------------------------------------------------------------------------

    def _note(self, *, moving_to: str | None = "", **changes: object) -> None:
        """Write down how far it is; `moving_to`, if given, in the shard map together with it."""
        for name, value in changes.items():
            setattr(self.move, name, value)
        with transaction.atomic(using=DEFAULT_DB_ALIAS):
            if moving_to != "":
                Bucket.objects.filter(bucket=self.move.bucket).update(moving_to=moving_to)
            self.move.save(update_fields=[*changes, "updated_at"])

    def _count(self, rows: int) -> None:
        start, first = self.pace
        ahead = (rows - first) / ROWS_A_SECOND - (time.monotonic() - start)
        if ahead > PACE_SECONDS:
            time.sleep(ahead)
        elif ahead < -PACE_SECONDS:
            self.pace = time.monotonic(), rows  # time in which nothing was copied is not made up for
        if time.monotonic() - self.reported_at >= PROGRESS_SECONDS:
            self._check_cancelled()
            self._note(rows=rows)
            self._report(f"copying: {rows:,} of about {self.move.expected:,} rows")

    def _report(self, text: str) -> None:
        self.reported_at = time.monotonic()
        self.move.progress = text[:200]
        BucketMove.objects.filter(pk=self.move.pk).update(progress=self.move.progress, updated_at=timezone.now())
        self.report(text)
