"""Each event's hash covers its content and its predecessor's hash, and is the same on both databases."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from eventing import chain, store
from eventing.models import Event
from eventing.recorded import Metadata, NewEvents
from tests.integration.conftest import Notes, NoteWritten

pytestmark = pytest.mark.django_db(databases="__all__")

SINCE = datetime(2026, 1, 1, tzinfo=UTC)
TEXTS = ("plain", 'with "quotes", \\, / and\ttabs', "ශ්‍රී نرگس‌خاتون 🐚", "é", "")


def rows(stream_id: int = 7) -> list[tuple[Any, ...]]:
    with connections["default"].cursor() as cursor:
        cursor.execute(f"SELECT {store.COLUMNS} FROM eventing_event WHERE stream_id = %s ORDER BY version", [stream_id])
        return list(cursor.fetchall())


def first_broken(stream_id: int = 7, since: datetime = SINCE) -> int | None:
    row = chain.first_broken(rows(stream_id), since)
    return None if row is None else int(row[2])


def test_what_is_read_back_has_the_hash_of_what_was_written(notes: Notes) -> None:
    notes.write(7, *TEXTS[:2])
    notes.write(7, *TEXTS[2:], after=2)

    assert first_broken() is None
    assert len({bytes(row[8]) for row in rows()}) == 5


def test_the_hash_is_that_of_the_documented_text(notes: Notes) -> None:
    [written] = notes.write(7, "one")

    text = (
        '[7,"note",1,"note.written",2,{"author":"ann","text":"one"},'
        '{"actor":"system","causation_id":null,"correlation_id":"test","traceparent":null},'
        f'"{written.recorded_at:%Y-%m-%dT%H:%M:%S.%f}Z"]'
    )
    assert bytes(rows()[0][8]) == sha256(bytes(32) + text.encode()).digest()


CHANGES: dict[str, Callable[[Event], dict[str, Any]]] = {
    "data": lambda event: {"data": {**event.data, "text": "changed"}},
    "actor": lambda event: {"metadata": {**event.metadata, "actor": "somebody else"}},
    "type": lambda event: {"type": "note.sent_out"},
    "schema version": lambda event: {"schema_version": 1},
    "time": lambda event: {"recorded_at": event.recorded_at + timedelta(microseconds=1)},
    "version": lambda event: {"version": 5},
    "hash": lambda event: {"hash": bytes(32)},
    "no hash": lambda event: {"hash": None},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_of_any_column_is_found(notes: Notes, change: Callable[[Event], dict[str, Any]]) -> None:
    notes.write(7, "one", "two", "three")
    event = Event.objects.get(stream_id=7, version=2)

    Event.objects.filter(pk=event.pk).update(**change(event))

    # Where the second was is now the third, or it is itself what does not fit.
    assert first_broken() == {5: 3}.get(change(event).get("version", 2), 2)


def test_an_event_that_was_taken_out_breaks_the_next(notes: Notes) -> None:
    notes.write(7, "one", "two", "three")

    Event.objects.filter(stream_id=7, version=2).delete()

    assert first_broken() == 3


def test_events_of_the_time_before_hashes_may_only_come_first(notes: Notes) -> None:
    notes.write(7, "one", "two")
    Event.objects.filter(stream_id=7).update(hash=None)
    tomorrow = datetime.now(UTC) + timedelta(days=1)

    notes.write(7, "three", after=2)

    assert first_broken(since=tomorrow) is None
    assert first_broken() == 1  # they are younger than the first version with hashes
    Event.objects.filter(stream_id=7, version=1).update(hash=bytes(32))
    assert first_broken(since=tomorrow) == 1


def test_an_older_schema_version_keeps_its_hash(notes: Notes) -> None:
    notes.write(7, "one")
    event = Event.objects.get(stream_id=7)
    content = (*event.pk, event.type, 1, '{"text":"old"}', chain.canonical(event.metadata), event.recorded_at)
    old = {"schema_version": 1, "data": {"text": "old"}, "hash": chain.digest(None, content)}
    Event.objects.filter(stream_id=7).update(**old)

    notes.write(7, "two", after=1)

    assert store.load("note", 7, using="default")[0].event == NoteWritten(text="old", author="unknown")
    assert first_broken() is None


def test_only_streams_that_are_there_already_have_their_last_hash_looked_up(notes: Notes) -> None:
    metadata = Metadata(correlation_id="test")

    def write(*writes: tuple[int, int, bytes | None]) -> int:
        event = NoteWritten(text="x", author="ann")
        new = [
            NewEvents(stream_id=stream, expected_version=at, events=[event], metadata=metadata, previous=previous)
            for stream, at, previous in writes
        ]
        with CaptureQueriesContext(connections["default"]) as queries:
            store.append("note", new, using="default")
        return sum(query["sql"].startswith("SELECT stream_id, category, hash") for query in queries)

    assert write((1, 0, None), (2, 0, None), (3, 0, None), (3, 1, None)) == 0
    assert write((1, 1, None), (2, 1, None)) == 1
    assert write((1, 2, store.load("note", 1, using="default")[-1].hash), (4, 0, None)) == 0
    assert [first_broken(stream) for stream in (1, 2, 3, 4)] == [None] * 4
