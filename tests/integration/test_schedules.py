"""Schedules in the back office: the shop's own ones stay, the sweep can be paused, mistakes are told."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import django_celery_beat.schedulers
import pytest
from celery import current_app
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client
from django.utils import timezone
from django_celery_beat.models import (
    ClockedSchedule,
    CrontabSchedule,
    IntervalSchedule,
    PeriodicTask,
    PeriodicTasks,
    SolarSchedule,
)

from backoffice.django_celery_beat import SWEEP, next_run, pause_sweep, sweep_is_paused
from eventing import clocks, periodic
from eventing import schedules as rows
from eventing.beat import LeaderScheduler
from eventing.locks import SessionLock
from eventing.models import PeriodicRun, ProcessClock
from monitoring import checks, schedules
from monitoring.health import Impaired
from tests.factories import EmployeeFactory, OperatorFactory
from tests.integration.browser_forms import opened

pytestmark = pytest.mark.django_db(databases="__all__")

LIST = "/admin/django_celery_beat/periodictask/"


@pytest.fixture(autouse=True)
def installed(db: None) -> None:
    """As beat does it at its start."""
    rows.install()


@pytest.fixture
def office(client: Client) -> Client:
    client.force_login(OperatorFactory.create())
    return client


@pytest.fixture
def sweep() -> PeriodicTask:
    return PeriodicTask.objects.get(name=SWEEP)


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
    assert set(PeriodicTask.objects.filter(enabled=True).values_list("name", flat=True)) >= periodic.by_title().keys()


def test_the_interval_of_a_schedule_of_the_shop_can_be_changed(office: Client, sweep: PeriodicTask) -> None:
    slower, _ = IntervalSchedule.objects.get_or_create(every=30, period="seconds")

    save(office, sweep, interval=slower.pk)

    sweep.refresh_from_db()
    assert (sweep.interval, sweep.enabled) == (slower, True)


@pytest.mark.parametrize(
    "changes",
    [
        {"enabled": None},
        {"name": "Another name"},
        {"task": "orders.tasks.prune_idempotency_keys"},
        {"one_off": "on"},
        {"expires_0": "2020-01-01", "expires_1": "00:00:00"},
        {"start_time_0": "2090-01-01", "start_time_1": "00:00:00"},
        {"args": "[1]"},
        {"kwargs": '{"a": 1}'},
        {"headers": "[]"},
        {"queue": "nowhere"},
        {"expire_seconds": "0"},
        {"priority": "999"},
    ],
    ids=str,
)
def test_of_a_schedule_of_the_system_nothing_but_when_it_runs_can_be_changed(
    office: Client, sweep: PeriodicTask, changes: dict[str, Any]
) -> None:
    before = PeriodicTask.objects.filter(pk=sweep.pk).values().get()

    save(office, sweep, **changes)

    after = PeriodicTask.objects.filter(pk=sweep.pk).values().get()
    assert after | {"date_changed": None} == before | {"date_changed": None}


BROKEN: list[tuple[dict[str, Any], str]] = [
    # What a row says, and the field that is to blame.
    ({"task": "eventing.deliver"}, "task"),
    ({"task": "eventing.redrive", "kwargs": '{"run_id": 1, "step": 0}'}, "task"),
    ({"task": "celery.backend_cleanup"}, "task"),
    ({"task": "no.such.task"}, "task"),
    ({"headers": "[]"}, "headers"),
    ({"headers": '"x"'}, "headers"),
    ({"headers": '{"task": "eventing.deliver"}'}, "headers"),
    ({"kwargs": "[]"}, "kwargs"),
    ({"kwargs": '{"batch": 0}'}, "kwargs"),
    ({"kwargs": '{"batch": "1"}'}, "kwargs"),
    ({"kwargs": '{"other": 1}'}, "kwargs"),
    ({"kwargs": "{"}, "kwargs"),
    ({"args": "{}"}, "args"),
    ({"args": '["x"]'}, "args"),
    ({"args": "[1, 2, 3]"}, "args"),
    ({"args": "[" * 20_000}, "args"),
    ({"queue": "nowhere"}, "queue"),
    ({"queue": "inventory"}, "queue"),
    ({"exchange": "nowhere"}, "exchange"),
    ({"routing_key": "nowhere"}, "routing_key"),
    ({"priority": 999}, "priority"),
    ({"expire_seconds": 0}, "expire_seconds"),
]
NEVER: list[tuple[dict[str, Any], str]] = [
    ({"expires": datetime(2020, 1, 1, tzinfo=UTC)}, "expires"),
    ({"start_time": datetime(9998, 1, 1, tzinfo=UTC)}, "start_time"),
]
INTERVALS = [
    (0, "seconds"),
    (-5, "seconds"),
    (10**9, "days"),
    (100_000, "days"),
    (1, "microseconds"),
    (1, "fortnights"),
]


def a_row(fields: dict[str, Any]) -> PeriodicTask:
    """A row as SQL writes it: past the form and past the model."""
    interval, _ = IntervalSchedule.objects.get_or_create(every=30, period="seconds")
    PeriodicTask.objects.bulk_create(
        [PeriodicTask(**{"name": "A row", "task": "eventing.prune_inbox", "interval": interval, **fields})]
    )
    return PeriodicTask.objects.get(name="A row")


@pytest.mark.parametrize("fields,field", [*BROKEN, *NEVER], ids=lambda given: str(given)[:60])
def test_the_form_refuses_what_could_not_run_and_names_the_field(
    office: Client, fields: dict[str, Any], field: str
) -> None:
    interval, _ = IntervalSchedule.objects.get_or_create(every=30, period="seconds")
    form = form_of(PeriodicTask(name="A row", task="eventing.prune_inbox", interval=interval), fields)
    for name in ("expires", "start_time"):
        if name in form:
            form |= {f"{name}_0": f"{form[name]:%Y-%m-%d}", f"{name}_1": "00:00:00"}

    response = office.post(f"{LIST}add/", form)

    assert response.status_code == 200
    assert field in response.context["adminform"].form.errors
    assert not PeriodicTask.objects.filter(name="A row").exists()


@pytest.mark.parametrize("fields,field", BROKEN, ids=lambda given: str(given)[:60])
def test_beat_skips_a_row_that_it_cannot_run_says_so_and_runs_the_others(fields: dict[str, Any], field: str) -> None:
    row = a_row(fields)

    running, skipped = rows.entries()

    assert set(running) == set(PeriodicTask.objects.exclude(pk=row.pk).values_list("name", flat=True))
    assert [(one.name, one.field) for one in skipped] == [("A row", field)]
    assert [problem.schedule for problem in schedules.problems() if problem.why.startswith(f"{field}: ")] == ["A row"]


@pytest.mark.parametrize("every,period", INTERVALS)
def test_an_interval_that_cannot_be_is_skipped_and_refused(office: Client, every: int, period: str) -> None:
    interval = IntervalSchedule.objects.create(every=every, period=period)
    a_row({"interval": interval})

    running, skipped = rows.entries()
    page = office.post("/admin/django_celery_beat/intervalschedule/add/", {"every": every, "period": period})

    if every == 100_000:  # it can be reckoned with, and never comes in a lifetime
        assert "A row" in running
        form = form_of(PeriodicTask(name="Another", task="eventing.prune_inbox", interval=interval), {})
        assert "interval" in office.post(f"{LIST}add/", form).context["adminform"].form.errors
    else:
        assert [(one.name, one.field) for one in skipped] == [("A row", "interval")]
        assert page.status_code == 200
        assert IntervalSchedule.objects.filter(every=every, period=period).count() == 1
    assert SWEEP in running


@pytest.mark.parametrize("zone,minute", [("Mars/Olympus", "0"), ("UTC", "61"), ("UTC", "*/0"), ("UTC", "")])
def test_a_crontab_that_cannot_be_read_costs_its_row_and_no_other(zone: str, minute: str) -> None:
    crontab = CrontabSchedule.objects.create(minute="0", timezone="UTC")
    a_row({"interval": None, "crontab": crontab})
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE django_celery_beat_crontabschedule SET timezone = %s, minute = %s WHERE id = %s",
            [zone, minute, crontab.pk],
        )

    running, skipped = rows.entries()

    assert set(running) == periodic.by_title().keys()
    assert [(one.name, one.field) for one in skipped] == [("A row", "crontab")]


def test_a_row_of_the_system_runs_as_declared_whatever_sql_has_made_of_it(sweep: PeriodicTask) -> None:
    years, _ = IntervalSchedule.objects.get_or_create(every=10**9, period="days")
    past = timezone.now() - timedelta(days=1)
    PeriodicTask.objects.filter(pk=sweep.pk).update(
        interval=years, args="[1]", kwargs="[]", headers="[]", queue="nowhere", priority=999, expires=past,
        one_off=True, total_run_count=7, task="eventing.deliver", start_time=timezone.now() + timedelta(days=900),
        expire_seconds=0,
    )  # fmt: skip

    running, skipped = rows.entries()
    entry = running[sweep.name]

    assert (entry.task, entry.args, entry.kwargs) == ("orders.tasks.cancel_overdue_orders", [], {})
    assert entry.schedule.run_every == timedelta(seconds=5)
    assert entry.send_options(timezone.now()) == {
        "headers": {"periodic_task_name": sweep.name},
        "expiration": 5.0,
    }
    assert entry.is_due() == entry.schedule.is_due(entry.last_run_at)
    assert [(one.name, one.field) for one in skipped] == [(sweep.name, "interval")]


def test_the_interval_of_the_sweep_cannot_be_made_so_long_that_it_stops(office: Client, sweep: PeriodicTask) -> None:
    weeks, _ = IntervalSchedule.objects.get_or_create(every=7, period="days")
    assert sweep.interval is not None

    page = save(office, sweep, interval=weeks.pk)
    address = f"/admin/django_celery_beat/intervalschedule/{sweep.interval.pk}/"
    changed = {"every": 7, "period": "days"} | opened(office, f"{address}change/")
    shared = office.post(f"{address}change/", changed).content.decode()
    office.post(f"{address}delete/", {"post": "yes"})

    assert "“Cancel overdue orders” has to run at least every 0:05:00." in page
    assert "“Cancel overdue orders” uses it." in shared
    sweep.refresh_from_db()
    assert (sweep.interval.every, sweep.interval.period) == (5, "seconds")


def test_a_schedule_of_the_system_that_was_deleted_comes_back(sweep: PeriodicTask) -> None:
    sweep.delete()
    assert f"{sweep.name}: it is paused" in map(str, schedules.problems())

    rows.install()

    assert rows.entries()[0][sweep.name].schedule.run_every == timedelta(seconds=5)


def test_a_last_run_in_the_future_counts_as_now(sweep: PeriodicTask) -> None:
    PeriodicTask.objects.filter(pk=sweep.pk).update(last_run_at=timezone.now() + timedelta(hours=37))

    entry = rows.entries()[0][sweep.name]

    assert entry.last_run_at <= timezone.now()
    assert entry.is_due().next <= 5


@pytest.mark.parametrize("hours_ago", [3, 11, 17, 23, 200])
def test_a_crontab_that_was_missed_is_due_once(hours_ago: int) -> None:
    missed = timezone.now() - timedelta(hours=hours_ago)
    nightly = CrontabSchedule.objects.create(minute=str(missed.minute), hour=str(missed.hour), timezone="UTC")
    a_row({"interval": None, "crontab": nightly, "last_run_at": missed - timedelta(hours=1)})

    entry = rows.entries()[0]["A row"]

    assert entry.is_due().is_due
    assert not next(entry).is_due().is_due


def test_a_schedule_that_has_not_run_for_three_intervals_is_told(sweep: PeriodicTask) -> None:
    def ran(seconds_ago: int) -> list[str]:
        now = clocks.database_time()
        PeriodicTask.objects.update(date_changed=now - timedelta(seconds=seconds_ago))
        PeriodicRun.objects.update_or_create(
            name=sweep.name, defaults={"finished_at": now - timedelta(seconds=seconds_ago), "worker": "w"}
        )
        return [str(problem) for problem in schedules.stalled_tasks() if problem.schedule == sweep.name]

    assert ran(14) == []
    assert ran(16) == ["Cancel overdue orders: it has not run for 0:00:16"]
    with pytest.raises(Impaired, match="Cancel overdue orders: it has not run for 0:00:16"):
        checks.periodic_tasks()


def test_clocks_that_differ_are_told(office: Client) -> None:
    now = clocks.database_time()
    ProcessClock.objects.create(process="celery@one", seconds_ahead=12.5, noted_at=now)
    ProcessClock.objects.create(process="beat", seconds_ahead=-300, noted_at=now)
    ProcessClock.objects.create(process="gone", seconds_ahead=99, noted_at=now - timedelta(minutes=11))

    assert schedules.clocks_off() == [
        "the clock of beat is 300.0 s behind the database's",
        "the clock of celery@one is 12.5 s ahead of the database's",
    ]
    metrics = office.get("/metrics").content.decode()
    assert 'wharf_clock_ahead_seconds{process="celery@one"} 12.5' in metrics
    assert 'wharf_clock_ahead_seconds{process="web"}' in metrics


def test_a_row_that_cannot_run_is_neither_enabled_nor_run_from_the_list(office: Client) -> None:
    row = a_row({"task": "eventing.deliver", "enabled": False})

    for action in ("enable_tasks", "run_tasks"):
        page = office.post(LIST, {"action": action, "_selected_action": [row.pk]}, follow=True).content.decode()
        assert "“A row” cannot run; task: “eventing.deliver” is no task that a schedule may start." in page
    assert not PeriodicTask.objects.get(pk=row.pk).enabled


def a_leader(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, list[str]]:
    """Beat within the test's transaction, and the names of the rows that it sends."""
    sent: list[str] = []
    # The test's transaction would be lost with its connection.
    monkeypatch.setattr(django_celery_beat.schedulers, "close_old_connections", lambda: None)
    monkeypatch.setattr(SessionLock, "hold", lambda lock: True)
    monkeypatch.setattr(LeaderScheduler, "apply_entry", lambda self, entry, producer=None: sent.append(entry.name))
    return LeaderScheduler(app=current_app, lazy=True), sent


def test_beat_reads_the_schedules_anew_when_its_clock_is_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler, _ = a_leader(monkeypatch)
    PeriodicTask.objects.exclude(name=SWEEP).update(enabled=False)
    ahead = timezone.now() + timedelta(hours=37)
    PeriodicTask.objects.update(last_run_at=ahead)
    scheduler.tick()
    scheduler._latest = ahead
    scheduler._heap = [(ahead.timestamp(), 5, scheduler.schedule[SWEEP])]

    assert scheduler.tick() <= 5
    assert scheduler._heap[0][0] < timezone.now().timestamp() + 6


def test_schedules_of_the_shop_are_neither_disabled_nor_deleted_from_the_list(
    office: Client, sweep: PeriodicTask
) -> None:
    interval, _ = IntervalSchedule.objects.get_or_create(every=5, period="seconds")
    other = PeriodicTask.objects.create(name="A task", task=sweep.task, interval=interval)
    both = [sweep.pk, other.pk]

    page = office.post(LIST, {"action": "disable_tasks", "_selected_action": both}, follow=True).content.decode()
    office.post(LIST, {"action": "delete_selected", "_selected_action": both, "post": "yes"})
    office.post(f"{LIST}{sweep.pk}/delete/", {"post": "yes"})

    assert f"“{sweep.name}” cannot be disabled: the system needs them." in page
    assert PeriodicTask.objects.filter(pk__in=both, enabled=True).count() == 2
    office.post(LIST, {"action": "disable_tasks", "_selected_action": [other.pk]})
    assert not PeriodicTask.objects.get(pk=other.pk).enabled


def test_the_sweep_is_paused_and_goes_on_and_both_are_recorded(office: Client, sweep: PeriodicTask) -> None:
    before = PeriodicTasks.last_change()
    assert "cancelled automatically" in office.get(LIST).content.decode()

    for paused, word in (("yes", "paused"), ("yes", "paused already"), ("no", "resumed"), ("no", "resumed already")):
        page = office.post(f"{LIST}pause-sweep/", {"paused": paused}, follow=True).content.decode()
        assert f"“{sweep.name}” was {word}." in page
        assert ("Overdue orders are not cancelled now" in page) == (paused == "yes")
        assert sweep_is_paused() == (paused == "yes")

    assert [entry.change_message for entry in LogEntry.objects.order_by("id")] == ["It was paused.", "It was resumed."]
    assert PeriodicTasks.last_change() != before  # which is how beat hears of it


def test_a_paused_sweep_can_still_be_given_another_interval(office: Client, sweep: PeriodicTask) -> None:
    pause_sweep(paused=True)
    slower, _ = IntervalSchedule.objects.get_or_create(every=30, period="seconds")

    save(office, sweep, interval=slower.pk, enabled=None)

    sweep.refresh_from_db()
    assert (sweep.interval, sweep.enabled) == (slower, False)


def test_only_who_may_change_schedules_pauses_the_sweep(client: Client) -> None:
    client.force_login(EmployeeFactory.create(username="vera"))

    assert client.post(f"{LIST}pause-sweep/", {"paused": "yes"}).status_code == 403
    assert not sweep_is_paused()


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
        return next_run(PeriodicTask(name="A task", task="a.task", **fields), now)

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


def clocked_at(moment: datetime) -> ClockedSchedule:
    return ClockedSchedule.objects.create(clocked_time=moment)


def a_solar(event: str, latitude: int) -> SolarSchedule:
    return SolarSchedule.objects.bulk_create([SolarSchedule(event=event, latitude=latitude, longitude=0)])[0]


PAST, NEVER_COMES = datetime(2000, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)
# How such a row is planted, and how often it is sent however often beat reads its schedules; None: it is skipped.
UNUSUAL: dict[str, tuple[Callable[[], dict[str, Any]], int | None]] = {
    "one-off": (lambda: {"one_off": True}, 1),
    "one-off that has run": (lambda: {"one_off": True, "total_run_count": 1}, 0),
    "clocked": (lambda: {"interval": None, "clocked": clocked_at(PAST), "one_off": True}, 1),
    "clocked for ever": (lambda: {"interval": None, "clocked": clocked_at(PAST)}, 1),
    "clocked never": (lambda: {"interval": None, "clocked": clocked_at(NEVER_COMES), "one_off": True}, 0),
    "clocked beside an interval": (lambda: {"clocked": clocked_at(PAST), "one_off": True}, None),
    "solar": (lambda: {"interval": None, "solar": a_solar("sunrise", 50)}, None),
    "solar beyond the pole": (lambda: {"interval": None, "solar": a_solar("sunrise", 200)}, None),
    "solar of an unknown event": (lambda: {"interval": None, "solar": a_solar("teatime", 50)}, None),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_rows_that_come_once_or_by_the_sun_neither_end_beat_nor_stop_the_sweep(
    office: Client, sweep: PeriodicTask, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    plant, times = UNUSUAL[name]
    row = a_row({"last_run_at": timezone.now() - timedelta(days=1), **plant()})
    PeriodicTask.objects.exclude(pk__in=[sweep.pk, row.pk]).update(enabled=False)
    scheduler, sent = a_leader(monkeypatch)

    for _ in range(3):
        PeriodicTask.objects.filter(pk=sweep.pk).update(last_run_at=timezone.now() - timedelta(minutes=1))
        scheduler._read_again()
        for _ in range(3):
            scheduler.tick()
        scheduler.sync()

    assert sent.count(sweep.name) == 3
    assert sent.count("A row") == (times or 0)
    assert [one.name for one in rows.entries()[1]] == ([] if times is not None else ["A row"])
    assert "A row" in office.get(LIST).content.decode()
    assert office.get(f"{LIST}{row.pk}/change/").status_code == 200


@pytest.mark.parametrize("name", [name for name, (_, times) in UNUSUAL.items() if times is None or "ever" in name])
def test_the_form_refuses_rows_that_come_once_or_by_the_sun_and_cannot_run(office: Client, name: str) -> None:
    interval, _ = IntervalSchedule.objects.get_or_create(every=30, period="seconds")
    fields = {"interval": interval, **UNUSUAL[name][0]()}
    given = {key: getattr(value, "pk", value) for key, value in fields.items() if key != "one_off"}
    if "one_off" in fields:
        given["one_off"] = "on"

    response = office.post(f"{LIST}add/", form_of(PeriodicTask(name="A row", task="eventing.prune_inbox"), given))

    assert response.status_code == 200
    assert response.context["adminform"].form.errors
    assert not PeriodicTask.objects.filter(name="A row").exists()


def test_the_form_refuses_the_name_of_a_schedule_that_is_no_text(office: Client) -> None:
    interval, _ = IntervalSchedule.objects.get_or_create(every=30, period="seconds")
    task = PeriodicTask(name="Night\u202egnul", task="eventing.prune_inbox", interval=interval)

    assert "name" in office.post(f"{LIST}add/", form_of(task, {})).context["adminform"].form.errors
    office.post(f"{LIST}add/", form_of(task, {"name": " Cafe\u0301\u00a0run "}))
    assert PeriodicTask.objects.filter(name="Café run").exists()
