"""Schedules in the back office: the shop's own ones stay, the sweep can be paused, mistakes are told."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from celery import current_app
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask, PeriodicTasks

from config.beat import LeaderScheduler
from eventing.databases import SessionLock
from monitoring import schedules
from tests.integration.browser_forms import opened

pytestmark = pytest.mark.django_db

LIST = "/admin/django_celery_beat/periodictask/"


@pytest.fixture
def office(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("olga"))
    return client


@pytest.fixture
def sweep() -> PeriodicTask:
    return PeriodicTask.objects.get(name=schedules.SWEEP)


def form_of(task: PeriodicTask, changes: dict[str, Any]) -> dict[str, Any]:
    values = {
        "name": task.name,
        "task": task.task,
        "regtask": "",
        "interval": task.interval_id,
        "enabled": "on",
        "args": "[]",
        "kwargs": "{}",
        "headers": "{}",
        **changes,
    }
    return {key: value for key, value in values.items() if value is not None}


def save(office: Client, saved: PeriodicTask, /, **changes: Any) -> str:
    path = f"{LIST}{saved.pk}/change/"
    response = office.post(path, form_of(saved, changes) | opened(office, path), follow=True)
    return response.content.decode()


def test_the_schedules_that_the_shop_needs_are_installed() -> None:
    assert set(PeriodicTask.objects.filter(enabled=True).values_list("name", flat=True)) >= schedules.OWN


def test_the_interval_of_a_schedule_of_the_shop_can_be_changed(office: Client, sweep: PeriodicTask) -> None:
    slower, _ = IntervalSchedule.objects.get_or_create(every=30, period="seconds")

    save(office, sweep, interval=slower.pk)

    sweep.refresh_from_db()
    assert (sweep.interval, sweep.enabled) == (slower, True)


@pytest.mark.parametrize(
    "changes,said",
    [
        ({"enabled": None}, "it cannot be disabled."),
        ({"name": "Another name"}, "it keeps its name."),
        ({"task": "orders.tasks.prune_idempotency_keys"}, "it keeps its task."),
        ({"one_off": "on"}, "it must go on running."),
    ],
)
def test_a_schedule_of_the_shop_stays_as_it_is(
    office: Client, sweep: PeriodicTask, changes: dict[str, Any], said: str
) -> None:
    assert f"The shop cannot do without “{sweep.name}”: {said}" in save(office, sweep, **changes)

    assert PeriodicTask.objects.filter(name=sweep.name, task=sweep.task, enabled=True, one_off=False).exists()


def test_schedules_of_the_shop_are_neither_disabled_nor_deleted_from_the_list(
    office: Client, sweep: PeriodicTask
) -> None:
    interval, _ = IntervalSchedule.objects.get_or_create(every=5, period="seconds")
    other = PeriodicTask.objects.create(name="A task", task=sweep.task, interval=interval)
    both = [sweep.pk, other.pk]

    page = office.post(LIST, {"action": "disable_tasks", "_selected_action": both}, follow=True).content.decode()
    office.post(LIST, {"action": "delete_selected", "_selected_action": both, "post": "yes"})
    office.post(f"{LIST}{sweep.pk}/delete/", {"post": "yes"})

    assert f"The shop cannot do without “{sweep.name}”: nothing was disabled." in page
    assert PeriodicTask.objects.filter(pk__in=both, enabled=True).count() == 2
    office.post(LIST, {"action": "disable_tasks", "_selected_action": [other.pk]})
    assert not PeriodicTask.objects.get(pk=other.pk).enabled


def test_the_sweep_is_paused_and_goes_on_and_both_are_recorded(office: Client, sweep: PeriodicTask) -> None:
    before = PeriodicTasks.last_change()
    assert "cancelled by the clock" in office.get(LIST).content.decode()

    for paused, word in (("yes", "paused"), ("yes", "paused already"), ("no", "resumed"), ("no", "resumed already")):
        page = office.post(f"{LIST}pause-sweep/", {"paused": paused}, follow=True).content.decode()
        assert f"“{sweep.name}” was {word}." in page
        assert ("No order is cancelled now" in page) == (paused == "yes")
        assert schedules.sweep_is_paused() == (paused == "yes")

    assert [entry.change_message for entry in LogEntry.objects.order_by("id")] == ["It was paused.", "It was resumed."]
    assert PeriodicTasks.last_change() != before  # which is how beat hears of it


def test_a_paused_sweep_can_still_be_given_another_interval(office: Client, sweep: PeriodicTask) -> None:
    schedules.pause_sweep(paused=True)
    slower, _ = IntervalSchedule.objects.get_or_create(every=30, period="seconds")

    save(office, sweep, interval=slower.pk, enabled=None)

    sweep.refresh_from_db()
    assert (sweep.interval, sweep.enabled) == (slower, False)


def test_only_who_may_change_schedules_pauses_the_sweep(client: Client) -> None:
    client.force_login(User.objects.create_user("vera", is_staff=True))

    assert client.post(f"{LIST}pause-sweep/", {"paused": "yes"}).status_code == 403
    assert not schedules.sweep_is_paused()


@pytest.mark.parametrize(
    "fields,said",
    [
        ({"minute": "61"}, "not in 0-59"),
        ({"hour": "soon"}, "soon"),
        ({"day_of_month": "31", "month_of_year": "2"}, "This never comes."),
    ],
)
def test_a_crontab_that_cannot_be_is_refused(office: Client, fields: dict[str, str], said: str) -> None:
    every = dict.fromkeys(("minute", "hour", "day_of_month", "month_of_year", "day_of_week"), "*")
    before = CrontabSchedule.objects.count()

    page = office.post(
        "/admin/django_celery_beat/crontabschedule/add/", {**every, "timezone": "UTC", **fields}
    ).content.decode()

    assert said in page
    assert CrontabSchedule.objects.count() == before


def test_the_list_says_when_each_task_runs_next() -> None:
    now = timezone.now()
    minute, _ = IntervalSchedule.objects.get_or_create(every=60, period="seconds")
    night = CrontabSchedule.objects.create(minute="15", hour="3", timezone="UTC")
    never = CrontabSchedule.objects.create(minute="0", hour="0", day_of_month="31", month_of_year="2", timezone="UTC")
    clocked = ClockedSchedule.objects.create(clocked_time=now + timedelta(hours=1))

    def due(**fields: Any) -> Any:
        return schedules.next_run(PeriodicTask(name="A task", task="a.task", **fields), now)

    assert abs(due(interval=minute, last_run_at=now) - (now + timedelta(minutes=1))) < timedelta(seconds=2)
    at_night = due(crontab=night, last_run_at=now)
    assert now < at_night <= now + timedelta(days=1)
    assert (at_night + timedelta(seconds=1)).replace(second=0, microsecond=0).strftime("%H:%M") == "03:15"
    assert due(clocked=clocked, one_off=True) == clocked.clocked_time
    assert due(crontab=never) is None
    assert due(interval=minute, enabled=False) is None


def test_beat_that_is_told_to_stop_in_the_middle_of_a_tick_tidies_up_after_it(
    monkeypatch: pytest.MonkeyPatch, django_assert_num_queries: Any
) -> None:
    """A statement that was interrupted keeps its connection locked: another one would wait for itself."""
    scheduler = LeaderScheduler(app=current_app, lazy=True)
    released: list[SessionLock] = []

    def handle_signal(lock: SessionLock) -> bool:
        with django_assert_num_queries(0):
            scheduler.close()  # as Celery's handler does
        raise SystemExit

    monkeypatch.setattr(SessionLock, "hold", handle_signal)
    monkeypatch.setattr(SessionLock, "release", lambda lock: released.append(lock))
    with pytest.raises(SystemExit):
        scheduler.tick()
    assert released == []

    scheduler.close()
    assert len(released) == 1
