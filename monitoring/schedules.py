"""The schedules of periodic tasks: which ones the shop cannot do without, and when each runs next."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.utils import timezone
from django_celery_beat.models import CrontabSchedule, PeriodicTask, PeriodicTasks

SWEEP = "Cancel overdue orders"

# Operators may run them more or less often, but neither stop nor rename them: something would be lost without a word.
OWN = frozenset(
    {
        SWEEP,
        "Send pending messages",
        "Prune idempotency keys",
        "Collect dead letters of the broker",
        "Prune inboxes",
        "Audit",
        "Report stuck orders",
        "Summarise sales",
        "Finish interrupted moves",
    }
)


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


def next_run(task: PeriodicTask, now: datetime) -> datetime | None:
    """When the task is due, which may be in the past if no beat runs; None if never."""
    if not task.enabled:
        return None
    if task.clocked is not None:
        clocked: datetime = task.clocked.clocked_time
        return clocked
    last = task.last_run_at or task.date_changed or now
    if task.start_time is not None and task.start_time > now:
        last = task.start_time
    try:
        remaining: timedelta = task.schedule.remaining_estimate(last)
    except ValueError:  # a crontab that never comes
        return None
    return timezone.now() + remaining


def why_never(crontab: CrontabSchedule) -> str:
    """Why the crontab never comes, such as every 31 February; empty if it does."""
    try:
        crontab.schedule.remaining_estimate(timezone.now())
    except ValueError as error:
        return str(error)
    return ""
