"""Whatever grows is pruned by a task, or somebody has declared that it stays."""

from __future__ import annotations

import os
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest
from django.apps import apps
from django.contrib.sessions.models import Session
from django.utils import timezone
from pytest_django.fixtures import Settings

from eventing import periodic, retention
from eventing.models import DeadLetter
from eventing.tasks import prune
from notifications.models import Message
from notifications.tasks import prune_mail_files

pytestmark = pytest.mark.django_db(databases="__all__")

NOW = timezone.now()


def test_every_table_is_declared_once() -> None:
    tables = Counter(model._meta.label for model in apps.get_models(include_auto_created=True))
    declared = Counter(one.model for one in retention.declared() if "(" not in one.model)
    assert declared == tables, "a table that nothing prunes, and that nobody has declared permanent"


def test_every_task_that_prunes_is_a_periodic_one() -> None:
    named = {one.task for one in retention.declared() if one.task}
    assert named - {"the relay"} <= set(periodic.by_title())
    for one in retention.declared():
        if one.column:
            apps.get_model(one.model)._meta.get_field(one.column)


def test_the_table_of_the_docs_is_that_of_the_declarations() -> None:
    page = Path(__file__).parents[2] / "docs" / "reference" / "retention.md"
    assert retention.as_markdown() in page.read_text(), f"write eventing.retention.as_markdown() into {page}"


def a_message(days_ago: int, status: str) -> Message:
    return Message.objects.create(
        customer_id=1, channel="inbox", about="order", event_id=f"e{days_ago}{status}", correlation_id="c",
        subject="s", body="b", status=status, created_at=NOW - timedelta(days=days_ago),
    )  # fmt: skip


def a_dead_letter(version: int, days_ago: int, status: str) -> DeadLetter:
    return DeadLetter.objects.create(
        stream_id=1, category="note", version=version, subscriber="notes", type="note.written", schema_version=1,
        data={}, metadata={}, recorded_at=NOW, error="E", message="", traceback="", attempts=1, status=status,
        failed_at=NOW - timedelta(days=days_ago), settled_at=NOW - timedelta(days=days_ago),
    )  # fmt: skip


@pytest.mark.parametrize("batch", [1, 1000])
def test_what_is_old_goes_and_what_is_not_stays(batch: int) -> None:
    sessions = {
        name: Session.objects.create(session_key=name, session_data="", expire_date=NOW + timedelta(seconds=seconds))
        for name, seconds in (("expired", -60), ("another", -5), ("good", 3600))
    }
    messages = [a_message(366, "sent"), a_message(364, "sent"), a_message(400, "pending")]
    letters = [a_dead_letter(1, 91, "archived"), a_dead_letter(2, 89, "handled"), a_dead_letter(3, 900, "open")]

    prune(batch)

    assert set(Session.objects.values_list("session_key", flat=True)) & set(sessions) == {"good"}
    assert set(Message.objects.all()) == set(messages[1:])
    assert set(DeadLetter.objects.all()) == set(letters[1:])


def test_old_mail_files_are_deleted(tmp_path: Path, settings: Settings) -> None:
    settings.EMAIL_FILE_PATH = tmp_path
    for name, days in (("old.log", 31), ("new.log", 29)):
        (tmp_path / name).touch()
        moment = (NOW - timedelta(days=days)).timestamp()
        os.utime(tmp_path / name, (moment, moment))

    assert prune_mail_files() == 1
    assert [file.name for file in tmp_path.iterdir()] == ["new.log"]
