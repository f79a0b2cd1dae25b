"""The schedules of periodic tasks for operators: which ones are late or cannot run."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import DEFAULT_DB_ALIAS
from django.db.models.functions import Now
from django_celery_beat.models import PeriodicTask

from eventing import clocks, periodic, schedules
from eventing.models import PeriodicRun, ProcessClock
from eventing.schedules import Entry

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


def problems() -> list[Problem]:
    """Rows that beat skips, schedules of the system that are switched off, and what `stalled_tasks` finds."""
    built, skipped = schedules.entries()
    found = [Problem(schedule=row.name, why=f"{row.field}: {row.why}") for row in skipped]
    found += [
        Problem(schedule=name, why="it is paused" if name == SWEEP else "it is switched off or missing")
        for name in sorted(periodic.by_title().keys() - built.keys() - {row.name for row in skipped})
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
    """By how many seconds the clocks of relays, beat and workers were ahead of the database's, lately, and that of this
    process is now: it is asked by `web`.
    """
    noted = ProcessClock.objects.using(DEFAULT_DB_ALIAS).filter(noted_at__gt=Now() - CLOCKS_LOOKED_AT)
    found = dict(noted.values_list("process", "seconds_ahead"))
    if (here := clocks.ahead()) is not None:
        found["web"] = here
        clocks.warn("web", here)
    return found


def clocks_off() -> list[str]:
    """The clocks that differ from the database's by more than a little, in words."""
    return [
        f"the clock of {process} is {abs(seconds):.1f} s {'ahead of' if seconds > 0 else 'behind'} the database's"
        for process, seconds in sorted(clocks_ahead().items())
        if abs(seconds) >= clocks.NOTICED_SECONDS
    ]
