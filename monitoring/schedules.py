"""The schedules of periodic tasks for operators: which ones are late or cannot run, and when each runs next."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import DEFAULT_DB_ALIAS
from django.db.models.functions import Now
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask, PeriodicTasks

from eventing import clocks, periodic, schedules
from eventing.models import PeriodicRun
from eventing.schedules import CannotRun, Entry

SWEEP = "Cancel overdue orders"
RUNS_MISSED = 3
CLOCKS_LOOKED_AT = timedelta(minutes=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A schedule that does not run as it should, and why."""

    schedule: str
    why: str

    def __str__(self) -> str:
        return f"{self.schedule}: {self.why}"


def own() -> frozenset[str]:
    """Operators run them more or less often, but neither stop nor rename them: something would be lost unnoticed."""
    return frozenset(periodic.by_title())


def pause_sweep(*, paused: bool) -> bool:
    """Let the clock cancel overdue orders, or let them be; False if that is how it was already.

    What becomes due meanwhile is cancelled when the sweep goes on. Raises PeriodicTask.DoesNotExist.
    """
    task = PeriodicTask.objects.get(name=SWEEP)
    if task.enabled is not paused:
        return False
    PeriodicTask.objects.filter(pk=task.pk).update(enabled=not paused)
    PeriodicTasks.update_changed()
    return True


def sweep_is_paused() -> bool:
    return PeriodicTask.objects.filter(name=SWEEP, enabled=False).exists()


def problems() -> list[Problem]:
    """Rows that beat skips, schedules of the system that are switched off, and what `stalled_tasks` finds."""
    built, skipped = schedules.entries()
    found = [Problem(schedule=row.name, why=f"{row.field}: {row.why}") for row in skipped]
    found += [
        Problem(schedule=name, why="it is paused" if name == SWEEP else "it is switched off or missing")
        for name in sorted(own() - built.keys() - {row.name for row in skipped})
    ]
    return found + _stalled(built)


def stalled_tasks() -> list[Problem]:
    """Schedules whose last run that ended well is three intervals ago or more."""
    return _stalled(schedules.entries()[0])


def _stalled(built: dict[str, Entry]) -> list[Problem]:
    now = clocks.database_time()
    finished = dict(PeriodicRun.objects.using(DEFAULT_DB_ALIAS).values_list("name", "finished_at"))
    return [
        Problem(schedule=name, why=f"it has not run for {_span(now - since)}")
        for name, entry in built.items()
        if (since := _ran_at(entry, finished.get(name), now)) and _is_late(entry, since, now)
    ]


def _ran_at(entry: Entry, finished: datetime | None, now: datetime) -> datetime:
    """When its task last ended well. One that never did counts from when beat, or who saved it, wrote the row."""
    row: PeriodicTask = entry.model
    return min(now, max(moment for moment in (finished or entry.last_run_at, row.date_changed) if moment))


def _is_late(entry: Entry, since: datetime, now: datetime) -> bool:
    row: PeriodicTask = entry.model
    if row.one_off or row.clocked_id is not None or (row.start_time is not None and row.start_time > now):
        return False
    try:
        return schedules.following(entry.schedule, since, RUNS_MISSED) < now
    except (OverflowError, ValueError):  # beyond the calendar
        return False


def _span(seconds: timedelta) -> str:
    return str(timedelta(seconds=round(seconds.total_seconds())))


def clocks_ahead() -> dict[str, float]:
    """By how many seconds the clocks of beat and of the workers were ahead of the database's, lately, and that of this
    process is now: it is asked by `web`.
    """
    recent = PeriodicRun.objects.using(DEFAULT_DB_ALIAS).filter(finished_at__gt=Now() - CLOCKS_LOOKED_AT)
    found: dict[str, float] = {}
    for run in recent.order_by("finished_at"):
        if run.worker_ahead is not None:
            found[run.worker] = run.worker_ahead
        if run.beat_ahead is not None:
            found["beat"] = run.beat_ahead
    if (here := clocks.ahead()) is not None:
        found["web"] = here
        clocks.notice("web", here)
    return found


def clocks_off() -> list[str]:
    """The clocks that differ from the database's by more than a little, in words."""
    return [
        f"the clock of {process} is {abs(seconds):.1f} s {'ahead of' if seconds > 0 else 'behind'} the database's"
        for process, seconds in sorted(clocks_ahead().items())
        if abs(seconds) >= clocks.NOTICED_SECONDS
    ]


def next_run(task: PeriodicTask, now: datetime) -> datetime | None:
    """When the task is due, which may be in the past if no beat runs; None if never."""
    if not task.enabled:
        return None
    if task.clocked is not None:
        clocked: datetime = task.clocked.clocked_time
        return clocked
    last = min(task.last_run_at or task.date_changed or now, now)
    if task.start_time is not None and task.start_time > now:
        last = task.start_time
    try:
        return schedules.following(task.schedule, last)
    except Exception:  # a crontab that never comes, an interval beyond the calendar, the sun without its library
        return None


def refuse_for_users(schedule: IntervalSchedule | CrontabSchedule) -> None:
    """Raises CannotRun if a row that uses a schedule could not run once the schedule is as it is here, unsaved."""
    kind = "crontab" if isinstance(schedule, CrontabSchedule) else "interval"
    schedules.runnable(schedule, kind)
    for task in PeriodicTask.objects.filter(**{f"{kind}_id": schedule.pk}) if schedule.pk else ():
        setattr(task, kind, schedule)
        try:
            schedules.refuse_never(task)
        except CannotRun as error:
            raise CannotRun(error.field, f"“{task.name}” uses it. {error}") from error
