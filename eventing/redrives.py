"""Redrives many dead letters at a set rate, as a run that an operator can watch, cancel and continue.

A run is a row, processed in steps: each sends as many dead letters as the rate allows for a second, then posts the
next step with a delay of one second. A step begins by raising the row's step number, so of two copies of a step one
finds nothing to do; a run whose worker died is continued by `resume_stalled`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import structlog
from django.db.models import F, Q, QuerySet

from eventing import clocks
from eventing.deadletters import DATABASE, history_entry, redrive
from eventing.errors import NotRedrivable
from eventing.models import DeadLetter, RedriveRun
from eventing.publishing import Publisher, request_task
from eventing.queues import BrokerUnavailable
from eventing.transient import is_transient

TASK = "eventing.redrive"
FIELDS = ("status", "subscriber", "type", "error")
SEARCH = "q"
MAX_RATE = 200  # dead letters a second
STALLED_AFTER = timedelta(seconds=30)

logger = structlog.get_logger(__name__)

State = RedriveRun.State


def selection_of(parameters: Mapping[str, str]) -> dict[str, str]:
    """The selection that a list's address names: only open dead letters, unless it names another status."""
    chosen = {name: parameters.get(name) or parameters.get(f"{name}__exact", "") for name in FIELDS}
    chosen[SEARCH] = parameters.get(SEARCH, "").strip()
    return {"status": DeadLetter.Status.OPEN.value, **{name: value for name, value in chosen.items() if value}}


def selected(selection: Mapping[str, str]) -> QuerySet[DeadLetter]:
    """The dead letters with these values of FIELDS, and each word of SEARCH in type, message or stream id."""
    found = DeadLetter.objects.using(DATABASE).filter(
        **{name: value for name, value in selection.items() if name in FIELDS}
    )
    for word in selection.get(SEARCH, "").split():
        found = found.filter(Q(stream_id__icontains=word) | Q(type__icontains=word) | Q(message__icontains=word))
    return found


def start(selection: dict[str, str], rate: int, *, by: str) -> RedriveRun:
    """Begin to redrive all selected dead letters, `rate` a second; those that fail from now on are left out."""
    now = clocks.database_time()
    run = RedriveRun.objects.using(DATABASE).create(
        selection=selection,
        rate=max(1, min(rate, MAX_RATE)),
        total=selected(selection).count(),
        history=[history_entry(by, "started")],
        started_at=now,
        worked_at=now,
    )
    post(run.pk, run.step)
    return run


def cancel(run: RedriveRun, *, by: str) -> bool:
    """Stop after the current dead letter; False if the run is not running any more."""
    history = [*run.history, history_entry(by, "cancelled")]
    return _move(run, {State.RUNNING}, state=State.CANCELLED, finished_at=clocks.database_time(), history=history)


def resume(run: RedriveRun, *, by: str) -> bool:
    """Go on where the run stopped; False if it is done, or running and not stalled."""
    stopped = {State.CANCELLED, State.FAILED} | ({State.RUNNING} if is_stalled(run) else set())
    history = [*run.history, history_entry(by, "continued")]
    values = {"state": State.RUNNING, "finished_at": None, "error": "", "worked_at": clocks.database_time()}
    if not _move(run, stopped, history=history, **values):
        return False
    run.refresh_from_db()
    post(run.pk, run.step)
    return True


def is_stalled(run: RedriveRun) -> bool:
    return run.state == State.RUNNING and clocks.database_time() - run.worked_at > STALLED_AFTER


def resume_stalled() -> int:
    """Post the next step of stalled runs; returns how many."""
    now = clocks.database_time()
    stalled = RedriveRun.objects.using(DATABASE).filter(state=State.RUNNING, worked_at__lt=now - STALLED_AFTER)
    for run in (runs := list(stalled)):
        _move(run, {State.RUNNING}, worked_at=now)
        post(run.pk, run.step)
    return len(runs)


def post(run_id: int, step: int, *, countdown: int | None = None) -> None:
    """Request a step from a worker. Without a broker the run stalls, and is continued when it is back."""
    try:
        request_task(TASK, {"run_id": run_id, "step": step}, countdown=countdown)
    except BrokerUnavailable as error:
        _note_error(run_id, error)


def work(run_id: int, step: int, publisher: Publisher) -> int | None:
    """Do a step of a run; returns the number of the next one, or None if there is none or another worker does it."""
    rows = RedriveRun.objects.using(DATABASE).filter(pk=run_id)
    if not rows.filter(step=step, state=State.RUNNING).update(step=step + 1, worked_at=clocks.database_time()):
        return None
    run = rows.get()
    try:
        for dead_letter in _remaining(run)[: run.rate]:
            if not rows.filter(step=run.step, state=State.RUNNING).exists():
                return None
            _take(run, dead_letter, publisher)
            run.position = dead_letter.pk
    except publisher.errors as error:
        _note_error(run_id, error)
        return None
    except Exception as error:
        logger.exception("redrive.failed", run=run_id)
        if not is_transient(error):
            _move(run, {State.RUNNING}, state=State.FAILED, error=repr(error), finished_at=clocks.database_time())
        return None
    if _remaining(run).exists():
        return run.step
    rows.filter(step=run.step, state=State.RUNNING).update(state=State.DONE, finished_at=clocks.database_time())
    return None


def _remaining(run: RedriveRun) -> QuerySet[DeadLetter]:
    return selected(run.selection).filter(id__gt=run.position, failed_at__lte=run.started_at).order_by("id")


def _take(run: RedriveRun, dead_letter: DeadLetter, publisher: Publisher) -> None:
    counted: dict[str, Any]
    try:
        redrive(dead_letter, publisher, by=str(run.history[0]["by"]), note=str(run))
        counted = {"sent": F("sent") + 1}
    except NotRedrivable:
        counted = {"skipped": F("skipped") + 1}
    RedriveRun.objects.using(DATABASE).filter(pk=run.pk).update(
        **counted, position=dead_letter.pk, worked_at=clocks.database_time(), error=""
    )


def _move(run: RedriveRun, states: set[RedriveRun.State], **values: Any) -> bool:
    """Change a run that is in one of these states."""
    return bool(RedriveRun.objects.using(DATABASE).filter(pk=run.pk, state__in=states).update(**values))


def _note_error(run_id: int, error: BaseException) -> None:
    logger.warning("redrive.no_broker", run=run_id, error=repr(error))
    RedriveRun.objects.using(DATABASE).filter(pk=run_id).update(error=f"The broker does not answer: {error}")
