"""The rows of django-celery-beat as beat runs them: what cannot run is named, and of the system's own rows only the
schedule counts.

Beat, the forms of the back office and the probes all build a row here, so what a form accepts is what beat can run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

from celery import current_app, schedules
from django.db import DatabaseError
from django.utils import timezone
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask
from django_celery_beat.schedulers import ModelEntry

from eventing import periodic, topology
from eventing.periodic import SCHEDULE_HEADER, Periodic

KINDS = ("interval", "crontab", "solar", "clocked")
SHORTEST = timedelta(seconds=1)  # beat looks no more often
FARTHEST = timedelta(days=3_660)  # what comes later counts as never
LONGEST_TTL = timedelta(days=28)  # RabbitMQ counts milliseconds in 32 bits
LOOKED_AT = 5  # runs of a schedule of which the longest gap is measured
ROUTING = ("queue", "exchange", "routing_key")


class CannotRun(Exception):
    """Beat cannot run a row; `field` is the one to blame."""

    def __init__(self, field: str, why: object) -> None:
        super().__init__(str(why))
        self.field = field


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A row that beat does not run, or not as it is written."""

    name: str
    field: str
    why: str


class Entry(ModelEntry):  # type: ignore[misc]  # django-celery-beat has no types
    """A row as beat runs it. Raises CannotRun if it cannot.

    Of a row of the system's own only the interval or crontab counts; the rest is as it was declared. If that schedule
    cannot run either, or is rarer than the declaration allows, the declared one is used, and `blamed` says why.
    """

    def __init__(self, model: PeriodicTask, app: Any = None) -> None:
        self.app = app or current_app._get_current_object()
        self.model = model
        self.name = model.name
        self.total_run_count = model.total_run_count
        self.options: dict[str, Any] = {}
        self.args: list[Any] = []
        self.kwargs: dict[str, Any] = {}
        self.blamed: CannotRun | None = None
        own = periodic.by_title().get(model.name)
        now = self._default_now()
        if own is not None:
            model.start_time = model.expires = model.expire_seconds = None
            model.one_off = False
            self.task = own.task
            self.schedule = self._own_schedule(own, now)
        else:
            model.one_off = model.one_off or model.clocked_id is not None  # or it would run at each reading
            self.task = model.task
            self.schedule = _schedule_of(model)
            self.args, self.kwargs = _parameters(model)
            self.options = _options(model)
        # A time to come was written by a clock that has been set right meanwhile, or is that of another machine.
        last = model.last_run_at or model.date_changed or now
        if model.last_run_at is None and model.start_time is not None:
            last -= timedelta(days=365 * 30)  # as django-celery-beat does: so that it runs at that time
        self.last_run_at = model.last_run_at = min(last, now)
        if own is None:
            self.first = self._first(now)

    def _own_schedule(self, own: Periodic, now: datetime) -> schedules.BaseSchedule:
        try:
            schedule = _schedule_of(self.model)
            gap = _longest_gap(schedule, now)
            if gap > own.longest_gap:
                raise CannotRun(_kind(self.model), f"“{own.title}” has to run at least every {own.longest_gap}.")
        except CannotRun as error:
            self.blamed = error
            return declared_schedule(own).schedule
        return schedule

    def _first(self, now: datetime) -> datetime:
        """When it runs next. Raises CannotRun if that is never."""
        field = _kind(self.model)
        try:
            first = max(_following(self.schedule, self.last_run_at), now)
            if self.model.start_time is not None and self.model.start_time > now:
                field = "start_time"
                first = self.model.due_start_time(now.tzinfo)
        except Exception as error:  # whatever it is, the author of the row sees it
            raise CannotRun(field, _words(error)) from error
        return first

    def send_options(self, now: datetime) -> dict[str, Any]:
        """How its message is sent: with a time to live that the broker measures, until the next run is due.

        An expiry that Celery puts into the message would be compared with the clock of the worker.
        """
        headers = {SCHEDULE_HEADER: self.name}
        seconds = (_following(self.schedule, now) - now).total_seconds() if not self._comes_once() else 0
        lives = min(limit for limit in (seconds, self.model.expire_seconds, LONGEST_TTL.total_seconds()) if limit)
        return {**self.options, "headers": headers, "expiration": max(lives, SHORTEST.total_seconds())}

    def _comes_once(self) -> bool:
        return bool(self.model.one_off)

    def _disable(self, model: PeriodicTask) -> None:
        model.enabled = False
        PeriodicTask.objects.filter(pk=model.pk).update(enabled=False, last_run_at=None)

    def save(self) -> None:
        """Without the checks of the model, which a row may fail that was not written by a form."""
        counted = {"last_run_at": self.model.last_run_at, "total_run_count": self.model.total_run_count}
        PeriodicTask.objects.filter(pk=self.model.pk).update(**counted)


def refuse_never(model: PeriodicTask) -> Entry:
    """The row as beat would run it. Raises CannotRun as `Entry` does, and if it would never run as it is written."""
    entry = Entry(model)
    if entry.blamed is not None:
        raise entry.blamed
    if model.name in periodic.by_title() or not model.enabled:
        return entry
    if model.expires is not None and model.expires <= max(timezone.now(), entry.first):
        raise CannotRun("expires", "It would expire before it runs for the first time.")
    if entry.first - timezone.now() > FARTHEST:
        late = model.start_time is not None and model.start_time - timezone.now() > FARTHEST
        raise CannotRun("start_time" if late else _kind(model), "It would not run in the next ten years.")
    return entry


def entries(app: Any = None) -> tuple[dict[str, Entry], list[Skipped]]:
    """The enabled rows by name as beat runs them, and those that it does not run, or not as they are written."""
    built: dict[str, Entry] = {}
    skipped = []
    for row in _enabled():
        if isinstance(row, Skipped):
            skipped.append(row)
            continue
        try:
            entry = built[row.name] = Entry(row, app)
        except CannotRun as error:
            skipped.append(Skipped(name=row.name, field=error.field, why=str(error)))
        else:
            if entry.blamed is not None:
                why = f"{entry.blamed}; it runs as it was declared"
                skipped.append(Skipped(name=row.name, field=entry.blamed.field, why=why))
    return built, skipped


def _enabled() -> Iterator[PeriodicTask | Skipped]:
    """All enabled rows. Beat's own query leaves out crontabs of other hours, and so those that were missed."""
    rows = PeriodicTask.objects.filter(enabled=True).order_by("name")
    try:
        yield from list(rows.select_related(*KINDS))
    except DatabaseError:
        raise
    except Exception:  # one of them cannot even be read, because of an unknown time zone for example
        for pk, name in rows.values_list("pk", "name"):
            try:
                yield PeriodicTask.objects.get(pk=pk)
            except DatabaseError:
                raise
            except Exception as error:  # reported, as the others are
                yield Skipped(name=name, field="name", why=_words(error))


def install() -> None:
    """Write the system's own schedules that are not there; what operators have changed stays."""
    present = set(PeriodicTask.objects.values_list("name", flat=True))
    for own in periodic.by_title().values():
        if own.title not in present:
            schedule = declared_schedule(own)
            fields = {field.name: getattr(schedule, field.name) for field in schedule._meta.fields[1:]}
            known = type(schedule).objects.filter(**fields).first()
            if known is None:
                schedule.save()
            kind = "crontab" if own.at else "interval"
            PeriodicTask.objects.get_or_create(name=own.title, defaults={"task": own.task, kind: known or schedule})


def declared_schedule(own: Periodic) -> IntervalSchedule | CrontabSchedule:
    """The schedule that the task was declared with, not saved."""
    if own.at:
        hour, minute = own.at
        return CrontabSchedule(minute=str(minute), hour=str(hour), timezone=ZoneInfo("UTC"))
    return IntervalSchedule(every=own.every, period=IntervalSchedule.SECONDS)


def following(schedule: Any, after: datetime, runs: int = 1) -> datetime:
    """When a schedule has come `runs` times after a moment. Raises what the schedule raises if it never comes."""
    for _ in range(runs):
        after = _following(schedule, after)
    return after


def _following(schedule: Any, after: datetime) -> datetime:
    following: datetime
    if isinstance(schedule, schedules.crontab):
        local, delta, _ = schedule.remaining_delta(after.astimezone(schedule.tz))
        following = local + delta
    elif isinstance(schedule, schedules.schedule):
        following = after + schedule.run_every
    else:
        following = timezone.now() + schedule.remaining_estimate(after)
    return following


def _longest_gap(schedule: Any, now: datetime) -> timedelta:
    """Between the next few runs; `timedelta.max` if they cannot be computed."""
    times = [now]
    try:
        for _ in range(LOOKED_AT):
            times.append(_following(schedule, times[-1]))
    except (OverflowError, ValueError):
        return timedelta.max
    return max(later - sooner for sooner, later in pairwise(times))


def _kind(model: PeriodicTask) -> str:
    return next((kind for kind in KINDS if getattr(model, f"{kind}_id") is not None), "interval")


def _schedule_of(model: PeriodicTask) -> Any:
    field = _kind(model)
    try:
        given = [kind for kind in KINDS if getattr(model, kind) is not None]
    except DatabaseError:
        raise
    except Exception as error:  # the schedule cannot even be read, which is reported as in `runnable`
        raise CannotRun(field, _words(error)) from error
    if len(given) != 1:
        raise CannotRun(field, "It needs one schedule: an interval, a crontab, a solar event or a time.")
    return runnable(model.scheduler, field)


def runnable(row: Any, field: str) -> Any:
    """The Celery schedule of a row such as an IntervalSchedule. Raises CannotRun if it never comes, or too often."""
    try:
        schedule = row.schedule
        _following(schedule, timezone.now())
    except Exception as error:  # whatever it is, its author sees it
        raise CannotRun(field, f"This never comes. {_words(error)}") from error
    if isinstance(schedule, schedules.schedule) and schedule.run_every < SHORTEST:
        raise CannotRun(field, f"It would run every {schedule.run_every}; once a second is the most.")
    return schedule


def _parameters(model: PeriodicTask) -> tuple[list[Any], dict[str, Any]]:
    task = periodic.by_task().get(model.task)
    if task is None:
        raise CannotRun("task", f"“{model.task}” is no task that a schedule may start.")
    args, kwargs = _json(model, "args", list), _json(model, "kwargs", dict)
    for field, named in (("args", {}), ("kwargs", kwargs)):
        try:
            task.check(args, named)
        except (TypeError, ValueError) as error:
            raise CannotRun(field, f"{model.task}: {error}") from error
    return args, kwargs


def _json(model: PeriodicTask, field: str, kind: type) -> Any:
    try:
        value = json.loads(getattr(model, field) or json.dumps(kind()))
    except (ValueError, RecursionError) as error:
        raise CannotRun(field, f"This is not JSON: {_words(error)}") from error
    if not isinstance(value, kind):
        raise CannotRun(field, f"This has to be {'an object, {…}' if kind is dict else 'a list, […]'}.")
    return value


def _options(model: PeriodicTask) -> dict[str, Any]:
    """The options of its message. A header could turn it into that of any other task, so it has none of its own."""
    if _json(model, "headers", dict):
        raise CannotRun("headers", "A periodic task has no headers of its own.")
    queue = topology.work_queue(topology.TASKS)
    usual = {"queue": queue.name, "exchange": queue.exchange.name, "routing_key": queue.routing_key}
    for field in ROUTING:
        if getattr(model, field) not in (None, "", usual[field]):
            raise CannotRun(field, f"No worker waits there for periodic tasks; leave it empty, or {usual[field]}.")
    if model.expire_seconds == 0:
        raise CannotRun("expire_seconds", "It would expire before a worker has it.")
    if model.priority is None:
        return {}
    if not 0 <= model.priority <= 255:
        raise CannotRun("priority", "A message has a byte for its priority: 0 to 255.")
    return {"priority": model.priority}


def _words(error: Exception) -> str:
    return f"{error}" or type(error).__name__
