"""The periodic tasks: what a schedule may start, with which parameters, and when each schedule last did its work.

A periodic task finds what there is to do in databases and queues. What one run cannot do is done by the next.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, get_type_hints

import msgspec
import structlog
from celery import current_app, current_task, shared_task
from django.db import DEFAULT_DB_ALIAS
from django.db.models.functions import Now

from eventing.models import PeriodicRun
from eventing.transient import is_transient

SCHEDULE_HEADER = "periodic_task_name"  # django-celery-beat's
# An operator may make the system's own schedules rarer, but not so rare that they are as good as stopped.
RARER = 60
RAREST_NIGHTLY = timedelta(days=8)

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Periodic:
    """A task that the clock may start, and its own schedule: every so many seconds, or daily at `at` (UTC)."""

    title: str
    task: str
    work: Callable[..., int]
    every: int
    at: tuple[int, int] | None

    @property
    def longest_gap(self) -> timedelta:
        """How far two runs of its own schedule may be apart."""
        return RAREST_NIGHTLY if self.at else timedelta(seconds=RARER * self.every)

    def check(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Raises ValueError or TypeError, with a message for people, if the task does not take these parameters."""
        given = inspect.signature(self.work).bind(*args, **kwargs)
        wanted = get_type_hints(self.work, include_extras=True)
        for name, value in given.arguments.items():
            try:
                msgspec.convert(value, wanted[name])
            except msgspec.ValidationError as error:
                raise ValueError(f"{name}: {error}") from None


_by_task: dict[str, Periodic] = {}


def periodic(
    title: str, *, every: int = 0, at: tuple[int, int] | None = None, name: str | None = None, **options: Any
) -> Callable[[Callable[..., int]], Any]:
    """Decorate a function to be a Celery task that schedules may start; `title` is the name of its own schedule.

    The annotations of its parameters are what a schedule may pass. When a database or the broker is lost in the middle
    the task returns 0 and counts as not run: a task that fails would become a dead letter.
    """

    def register(work: Callable[..., int]) -> Any:
        @functools.wraps(work)
        def run(*args: Any, **kwargs: Any) -> int:
            try:
                done = work(*args, **kwargs)
                _note_finished()
            except Exception as error:
                if not is_transient(error):
                    raise
                logger.warning("task.skipped", task=work.__name__, error=str(error))
                return 0
            return done

        task = shared_task(run, name=name or f"{work.__module__}.{work.__name__}", **options)
        _by_task[task.name] = Periodic(title=title, task=task.name, work=work, every=every, at=at)
        return task

    return register


def by_task() -> Mapping[str, Periodic]:
    """Every periodic task by the name of its Celery task."""
    _load()
    return _by_task


@functools.cache
def _load() -> None:
    current_app.loader.import_default_modules()


def by_title() -> dict[str, Periodic]:
    """The system's own schedules by their names."""
    return {one.title: one for one in by_task().values()}


def _note_finished() -> None:
    """Write down that a schedule's run is done, by the database's clock."""
    request: Any = current_task.request if current_task else {}
    schedule = request.get(SCHEDULE_HEADER)
    if not isinstance(schedule, str):
        return  # no schedule has started it
    values = {"finished_at": Now(), "worker": str(request.hostname or "")[:200]}
    PeriodicRun.objects.using(DEFAULT_DB_ALIAS).update_or_create(name=schedule[:200], defaults=values)
