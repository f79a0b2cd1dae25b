"""Audits in the background, and their page in the back office."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from celery import current_app
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.utils import timezone
from kombu.exceptions import OperationalError

from monitoring import audit_runs, tasks
from monitoring.audit import CHECKS
from monitoring.models import AuditRun
from tests.integration.shop_api import stock_the_shop
from tests.integration.test_admin import client_of, staff, text

pytestmark = pytest.mark.django_db(databases="__all__")

PAGE = "/admin/monitoring/audit/"


@pytest.fixture
def office(db: None) -> Client:
    return client_of(User.objects.create_superuser("olga", "olga@example.org"))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the worker was asked for."""
    sent: list[dict[str, Any]] = []
    monkeypatch.setattr(current_app, "send_task", lambda name, kwargs, **options: sent.append({name: kwargs}))
    return sent


def finished(clean: bool = True) -> AuditRun:
    run = AuditRun.objects.create(started_at=timezone.now(), by="ann", settle_seconds=60)
    audit_runs.perform(run.pk)
    run.refresh_from_db()
    assert run.was_clean is clean
    return run


def test_before_the_first_audit_the_page_says_so(office: Client) -> None:
    assert "There has been no audit yet." in text(office.get(PAGE))


def test_the_button_asks_a_worker_and_the_page_shows_its_progress(office: Client, asked: list[Any]) -> None:
    response = office.post(PAGE, follow=True)

    run = AuditRun.objects.get()
    assert asked == [{audit_runs.TASK: {"run_id": run.pk}}]
    assert run.by == "olga"
    assert LogEntry.objects.get().get_edited_object() == run
    assert "waiting for a worker" in text(response)
    assert f'hx-get="{PAGE}{run.pk}/" hx-trigger="every 1s"' in response.content.decode()


def test_when_the_worker_is_done_the_page_shows_the_result_and_asks_no_more(office: Client, asked: list[Any]) -> None:
    office.post(PAGE)
    run = AuditRun.objects.get()

    tasks.run_audit(run_id=run.pk)

    part = office.get(f"{PAGE}{run.pk}/", headers={"HX-Request": "true"})
    assert "hx-trigger" not in part.content.decode()
    assert "Clean" in text(part)
    assert all(check.name in text(part) for check in CHECKS)


def test_violations_come_first_with_their_offenders_and_what_to_do(office: Client) -> None:
    stock_the_shop()
    with connection.cursor() as cursor:
        cursor.execute("UPDATE inventory_stock SET on_hand = on_hand + 1, available = available + 1")
    finished(clean=False)

    page = text(office.get(PAGE))

    assert "3 violations" in page
    assert page.index("BOOK LAMP PEN") < page.index("No stock is negative")
    assert "Compare the product's stock movements" in page


def test_one_audit_at_a_time(office: Client, asked: list[Any]) -> None:
    office.post(PAGE)
    response = office.post(PAGE, follow=True)

    assert "running already" in text(response)
    assert len(asked) == 1


def test_an_audit_whose_worker_died_stands_in_nobodys_way(office: Client, asked: list[Any]) -> None:
    AuditRun.objects.create(started_at=timezone.now() - timedelta(hours=2), settle_seconds=60)
    assert "did not finish" in text(office.get(PAGE))

    office.post(PAGE)

    assert len(asked) == 1


def test_without_a_broker_the_operator_is_told(office: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise OperationalError("refused")

    monkeypatch.setattr(current_app, "send_task", refuse)

    response = office.post(PAGE, follow=True)

    assert "The broker does not answer" in text(response)
    assert not AuditRun.objects.exists()


def test_the_task_runs_by_the_clock_too_and_a_repeated_message_changes_nothing() -> None:
    tasks.run_audit()
    run = AuditRun.objects.get()
    assert (run.by, run.was_clean) == ("", True)

    tasks.run_audit(run_id=run.pk)

    assert AuditRun.objects.get().finished_at == run.finished_at


def test_an_audit_that_fails_says_so(office: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**options: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr(audit_runs, "audit", fail)
    with pytest.raises(RuntimeError):
        tasks.run_audit()

    assert "did not finish: RuntimeError" in text(office.get(PAGE))


def test_the_last_audits_are_kept(office: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_runs, "KEPT", 2)
    runs = [finished() for _ in range(3)]

    assert list(AuditRun.objects.values_list("pk", flat=True)) == [runs[2].pk, runs[1].pk]
    assert office.get(f"{PAGE}{runs[1].pk}/").status_code == 200
    assert office.get(f"{PAGE}{runs[0].pk}/").status_code == 404


def test_who_may_look_may_not_run(asked: list[Any]) -> None:
    viewer = staff("view_auditrun")

    assert "Run the audit now" not in text(viewer.get(PAGE))
    assert viewer.post(PAGE).status_code == 403
    assert staff("view_order").get(PAGE).status_code == 403
    assert "Run the audit now" in text(staff("view_auditrun", "add_auditrun").get(PAGE))
    assert not asked
