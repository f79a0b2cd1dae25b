"""A small world of its own for tests of the backbone: an event and a subscriber that no app knows."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from celery import current_app
from django.db import connections, transaction

from eventing import queues, registry, store, subscribers, topology
from eventing.recorded import Metadata, NewEvents, Recorded
from eventing.subscribers import Subscriber
from sharding import shards
from tests.integration.installations import Installation, fresh


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    with fresh(tmp_path) as made:
        yield made


@pytest.fixture
def nothing_delayed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The delay queues are those of the whole broker: what tests that run side by side retry is nobody's here."""
    monkeypatch.setattr(queues, "delayed", lambda *, seconds: 0)


@pytest.fixture(scope="module")
def shared_databases(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """What a fixture of the module writes is there for each of its tests, as it was, and gone after the last one.

    The tests run inside of a transaction, so none of the module may be marked `transaction=True`.
    """
    with django_db_blocker.unblock(), ExitStack() as transactions:
        shards.refresh()
        for alias in connections:
            transactions.enter_context(_rolled_back(alias))
        yield


@contextmanager
def _rolled_back(alias: str) -> Iterator[None]:
    around = transaction.atomic(using=alias)
    around._from_testcase = True  # type: ignore[attr-defined]  # code that wants none around itself overlooks this one
    with around:
        yield
        transaction.set_rollback(True, using=alias)


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteWritten:
    TYPE: ClassVar[str] = "note.written"
    SCHEMA_VERSION: ClassVar[int] = 2

    text: str
    author: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteSentOut:
    """Handled by an effect outside the database."""

    TYPE: ClassVar[str] = "note.sent_out"
    SCHEMA_VERSION: ClassVar[int] = 1

    text: str


class Notes:
    """What the test's subscriber has seen, and how it is told to fail or to take its time."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.batches: list[int] = []
        self.effects: list[str] = []
        self.fail_on: dict[str, Exception] = {}
        self.wait_for: dict[str, threading.Event] = {}

    def write(self, stream_id: int, *texts: str, after: int = 0) -> list[Recorded[Any]]:
        events = [NoteWritten(text=text, author="ann") for text in texts]
        return self.append(stream_id, events, after=after)

    def append(self, stream_id: int, events: Sequence[Any], *, after: int = 0) -> list[Recorded[Any]]:
        new = NewEvents(
            stream_id=stream_id, expected_version=after, events=events, metadata=Metadata(correlation_id="test")
        )
        with transaction.atomic(using="default"):
            return store.append("note", [new], using="default")


@pytest.fixture
def notes() -> Iterator[Notes]:
    """Registers the events and a subscriber named `notes`, and takes both away again."""
    notes = Notes()
    classes, upcasters = dict(registry._classes), dict(registry._upcasters)
    known = dict(subscribers._subscribers)
    registry.register(NoteWritten)
    registry.register(NoteSentOut)
    registry.upcaster("note.written", 1)(lambda data: {**data, "author": "unknown"})
    subscriber = Subscriber("notes", database=lambda recorded: "default")

    @subscriber.on(NoteWritten)
    def see(batch: Sequence[Recorded[NoteWritten]]) -> None:
        notes.batches.append(len(batch))
        for recorded in batch:
            if error := notes.fail_on.get(recorded.event.text):
                raise error
            if event := notes.wait_for.get(recorded.event.text):
                event.wait(60)
        notes.seen += [recorded.event.text for recorded in batch]

    @subscriber.effect(NoteSentOut)
    def send_out(recorded: Recorded[NoteSentOut]) -> Any:
        if error := notes.fail_on.get(recorded.event.text):
            raise error
        notes.effects.append(recorded.event.text)
        return lambda: notes.seen.append(recorded.event.text)

    yield notes
    for registered, before in (
        (registry._classes, classes),
        (registry._upcasters, upcasters),
        (subscribers._subscribers, known),
    ):
        registered.clear()
        registered.update(before)  # type: ignore[arg-type]


@pytest.fixture
def broker(notes: Notes) -> Iterator[None]:
    """The queues of this test run on the real broker."""
    with current_app.connection_for_write() as connection:
        topology.install(current_app)
        topology.declare(connection)
        yield
        topology.delete(connection)
        topology.install(current_app)
