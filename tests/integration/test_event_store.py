"""The event store on a real database: streams, expected versions, upcasting."""

from __future__ import annotations

import pytest
from django.db import connections, transaction

from eventing import store
from eventing.errors import (
    EventingError,
    TransactionRequired,
    UnknownEventType,
    UnknownSchemaVersion,
    WrongExpectedVersion,
)
from eventing.models import Event, OutboxMessage
from eventing.recorded import Metadata, NewEvents
from tests.integration.conftest import Notes, NoteWritten

pytestmark = pytest.mark.django_db(databases="__all__")


def test_a_stream_is_read_as_it_was_written(notes: Notes) -> None:
    written = notes.write(7, "first", "second")
    written += notes.write(7, "third", after=2)

    read = store.load("note", 7, using="default")

    assert [item.event for item in read] == [item.event for item in written]
    assert [item.version for item in read] == [1, 2, 3]
    assert read[2].id == "note-0000000000007@3"
    assert read[0].metadata == Metadata(correlation_id="test")
    assert abs(read[0].recorded_at - written[0].recorded_at).total_seconds() < 0.001


def test_every_event_gets_an_outbox_row(notes: Notes) -> None:
    notes.write(7, "first", "second")

    assert list(OutboxMessage.objects.values_list("stream_id", "category", "version").order_by("id")) == [
        (7, "note", 1),
        (7, "note", 2),
    ]


def test_a_writer_with_an_old_version_is_refused_and_writes_nothing(notes: Notes) -> None:
    notes.write(7, "first", "second", "third")

    with pytest.raises(WrongExpectedVersion, match="expected version 1, stream note-0000000000007 is at 3"):
        notes.write(7, "late", after=1)

    assert [item.event.text for item in store.load("note", 7, using="default")] == ["first", "second", "third"]
    assert OutboxMessage.objects.count() == 3


def test_one_conflict_in_a_batch_of_streams_writes_none_of_them(notes: Notes) -> None:
    notes.write(7, "first")
    metadata = Metadata(correlation_id="other")
    event = NoteWritten(text="batch", author="bob")

    with pytest.raises(WrongExpectedVersion, match="note-0000000000007"), transaction.atomic(using="default"):
        store.append(
            "note",
            [
                NewEvents(stream_id=6, expected_version=0, events=[event], metadata=metadata),
                NewEvents(stream_id=7, expected_version=0, events=[event], metadata=metadata),
            ],
            using="default",
        )

    assert Event.objects.count() == 1


def test_several_streams_are_read_in_one_query(notes: Notes, django_assert_num_queries: object) -> None:
    notes.write(1, "one")
    notes.write(2, "two", "three")

    with django_assert_num_queries(1):  # type: ignore[operator]
        streams = store.load_many("note", [1, 2, 3], using="default")

    assert {key: [item.event.text for item in value] for key, value in streams.items()} == {
        1: ["one"],
        2: ["two", "three"],
    }
    assert streams[3] == []


@pytest.mark.django_db(databases="__all__", transaction=True)
def test_appending_outside_a_transaction_is_refused(notes: Notes) -> None:
    new = NewEvents(stream_id=7, expected_version=0, events=[], metadata=Metadata(correlation_id="test"))
    with pytest.raises(TransactionRequired):
        store.append("note", [new], using="default")


def test_an_old_schema_version_is_upcast_on_reading(notes: Notes) -> None:
    notes.write(7, "first")
    Event.objects.filter(stream_id=7).update(schema_version=1, data={"text": "old"})

    assert store.load("note", 7, using="default")[0].event == NoteWritten(text="old", author="unknown")


@pytest.mark.parametrize(
    "stored_as, error",
    [
        ({"type": "note.forgotten"}, UnknownEventType),
        ({"schema_version": 3}, UnknownSchemaVersion),
        ({"schema_version": 0}, UnknownSchemaVersion),
    ],
)
def test_what_nobody_understands_is_named(
    notes: Notes, stored_as: dict[str, object], error: type[EventingError]
) -> None:
    notes.write(7, "first")
    Event.objects.filter(stream_id=7).update(**stored_as)

    with pytest.raises(error, match=r"note\."):
        store.load("note", 7, using="default")


def test_the_key_of_the_table_refuses_a_second_event_of_a_version(notes: Notes) -> None:
    notes.write(7, "first")
    with connections["default"].cursor() as cursor:
        cursor.execute(
            f"INSERT INTO eventing_event ({store.COLUMNS}) SELECT {store.COLUMNS} FROM eventing_event"
            " WHERE true ON CONFLICT DO NOTHING"
        )
        assert cursor.rowcount == 0
