"""What becomes of the events of a message: handled once, tried again, or dead, each on its own."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from celery.exceptions import SoftTimeLimitExceeded
from django.db import OperationalError, connections

from eventing import delivery, subscribers, tasks
from eventing.conf import conf
from eventing.delivery import Delivery, Outcome, backoff_seconds
from eventing.errors import Transient
from eventing.models import DeadLetter, InboxEntry
from eventing.testing import publish_all
from eventing.wire import Envelope
from tests.integration.conftest import Notes, NoteSentOut

pytestmark = pytest.mark.django_db(databases="__all__")

MAY = "2026-05-01T00:00:00Z"


def envelopes() -> list[Envelope]:
    """Everything that the relay would now send to the test's subscriber."""
    return [envelope for message in publish_all() if message.subscriber == "notes" for envelope in message.events]


def deliver(batch: Sequence[Envelope], *, attempt: int = 1) -> Outcome:
    published_at = datetime(2026, 5, 1, tzinfo=UTC)
    return delivery.deliver(
        batch, Delivery(subscriber=subscribers.get("notes"), attempt=attempt, published_at=published_at)
    )


def test_a_batch_is_handed_over_whole_and_marked_as_handled(notes: Notes) -> None:
    notes.write(1, "a", "b", "c")

    outcome = deliver(envelopes(), attempt=3)

    assert notes.seen == ["a", "b", "c"]
    assert notes.batches == [3]
    assert outcome == Outcome(handled=3)
    entry = InboxEntry.objects.get(version=2)
    assert (entry.event_id, entry.subscriber, entry.attempts) == ("note-0000000000001@2", "notes", 3)
    assert entry.published_at == datetime(2026, 5, 1, tzinfo=UTC)


def test_what_arrives_again_has_no_second_effect(notes: Notes) -> None:
    notes.write(1, "a", "b")
    batch = envelopes()
    deliver(batch[:1])

    outcome = deliver([*batch, *batch])

    assert notes.seen == ["a", "b"]
    assert outcome.handled == 1
    assert deliver(batch) == Outcome(repeated=2)


def test_a_bad_event_stops_only_itself(notes: Notes) -> None:
    notes.write(1, "good", "bad", "also good")
    notes.fail_on["bad"] = ValueError("cannot read this")

    outcome = deliver(envelopes())

    assert notes.seen == ["good", "also good"]
    assert outcome == Outcome(handled=2, dead=1)
    letter = DeadLetter.objects.get()
    assert (letter.event_id, letter.subscriber, letter.error) == ("note-0000000000001@2", "notes", "ValueError")
    assert letter.message == "cannot read this"
    assert "raise error" in letter.traceback
    assert letter.data == {"text": "bad", "author": "ann"}
    assert not InboxEntry.objects.filter(version=2).exists()


@pytest.mark.parametrize("error", [Transient("not yet"), OperationalError("deadlock detected")])
def test_what_may_get_better_is_tried_again_alone(notes: Notes, error: Exception) -> None:
    notes.write(1, "good", "early")
    notes.fail_on["early"] = error

    outcome = deliver(envelopes())

    assert notes.seen == ["good"]
    assert [envelope.version for envelope in outcome.retry] == [2]
    assert not DeadLetter.objects.exists()
    notes.fail_on.clear()
    assert deliver(outcome.retry, attempt=2) == Outcome(handled=1)


def test_what_was_tried_too_often_is_dead(notes: Notes) -> None:
    notes.write(1, "early")
    notes.fail_on["early"] = Transient("not yet")

    outcome = deliver(envelopes(), attempt=conf.EVENTING_MAX_ATTEMPTS)

    assert outcome == Outcome(dead=1)
    assert DeadLetter.objects.get().attempts == conf.EVENTING_MAX_ATTEMPTS


def test_an_event_that_nobody_can_read_is_dead_at_once(notes: Notes) -> None:
    notes.write(1, "good", "odd")
    good, odd = envelopes()
    unknown = Envelope(**{**{name: getattr(odd, name) for name in odd.__struct_fields__}, "type": "note.forgotten"})

    assert deliver([unknown, good]) == Outcome(handled=1, dead=1)
    assert DeadLetter.objects.get().error == "UnknownEventType"


def test_a_letter_that_fails_again_is_opened_again(notes: Notes) -> None:
    notes.write(1, "bad")
    notes.fail_on["bad"] = ValueError("first")
    batch = envelopes()
    deliver(batch)
    DeadLetter.objects.update(status=DeadLetter.Status.REDRIVEN)
    notes.fail_on["bad"] = ValueError("second")

    deliver(batch)

    letter = DeadLetter.objects.get()
    assert (letter.status, letter.message) == (DeadLetter.Status.OPEN, "second")


def test_attempts_go_on_counting_after_a_redrive(notes: Notes) -> None:
    notes.write(1, "bad")
    notes.fail_on["bad"] = ValueError("a bug")
    batch = envelopes()
    deliver(batch, attempt=3)
    deliver(batch, attempt=2)  # the same failure, reported twice
    assert DeadLetter.objects.get().attempts == 3
    DeadLetter.objects.update(status=DeadLetter.Status.REDRIVEN)

    deliver(batch, attempt=2)

    assert DeadLetter.objects.get().attempts == 5


@pytest.fixture
def without_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """The database of the subscriber refuses everything; that of the dead letters is there."""

    def refuse(*args: object) -> None:
        raise OperationalError("connection refused")

    monkeypatch.setattr(delivery, "_claim", refuse)
    monkeypatch.setattr(connections["default"], "is_usable", lambda: False)


@pytest.mark.usefixtures("without_database")
def test_a_batch_whose_database_is_away_is_tried_again_as_a_batch(notes: Notes) -> None:
    notes.write(1, "a", "b", "c")
    batch = envelopes()

    outcome = deliver(batch)

    assert outcome == Outcome(retry_batches=[batch])
    assert outcome.messages == [batch]


@pytest.mark.usefixtures("without_database")
def test_a_batch_whose_database_stays_away_ends_as_dead_letters(notes: Notes) -> None:
    notes.write(1, "a", "b")

    assert deliver(envelopes(), attempt=conf.EVENTING_MAX_ATTEMPTS) == Outcome(dead=2)
    assert DeadLetter.objects.count() == 2


def test_an_event_whose_letter_cannot_be_written_goes_round_and_stops_nobody(
    notes: Notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*args: object, **kwargs: object) -> None:
        raise OperationalError("connection refused")

    notes.write(1, "good", "bad")
    notes.fail_on["bad"] = ValueError("a bug")
    batch = envelopes()
    monkeypatch.setattr("eventing.deadletters.park", away)

    assert deliver(batch) == Outcome(handled=1, retry=[batch[1]])


@pytest.mark.parametrize(
    "change, error",
    [
        ({"type": "note.forgotten"}, "UnknownEventType"),
        ({"schema_version": 9}, "UnknownSchemaVersion"),
        ({"schema_version": 0}, "UnknownSchemaVersion"),
        ({"data": {"texts": []}}, "ValidationError"),
        ({"data": ["a list"]}, "ValidationError"),
        ({"metadata": {}}, "ValidationError"),
    ],
)
def test_a_poison_event_in_the_middle_of_a_message_stops_only_itself(
    notes: Notes, change: dict[str, Any], error: str
) -> None:
    notes.write(1, "first", "poison", "last")
    messages = message_of(envelopes())
    messages[1] |= change

    tasks.deliver_message(subscriber="notes", events=messages, published_at=MAY, attempt=1)

    assert notes.seen == ["first", "last"]
    letter = DeadLetter.objects.get()
    assert (letter.event_id, letter.error, letter.status) == ("note-0000000000001@2", error, "open")


@pytest.mark.parametrize("odd", ["nonsense", {"stream_id": "one"}, None, {}])
def test_what_is_no_event_at_all_stops_only_itself(notes: Notes, odd: Any) -> None:
    notes.write(1, "first", "last")
    first, last = message_of(envelopes())

    tasks.deliver_message(subscriber="notes", events=[first, odd, last], published_at=MAY, attempt=4)

    assert notes.seen == ["first", "last"]
    letter = DeadLetter.objects.get()
    assert (letter.category, letter.subscriber, letter.error) == ("unreadable", "notes", "WrongShape")
    assert (json.loads(letter.data["body"]), letter.attempts) == (odd, 4)


def test_events_for_a_subscriber_that_is_not_there_any_more_are_kept(notes: Notes) -> None:
    notes.write(1, "a", "b")
    messages = message_of(envelopes())

    tasks.deliver_message(subscriber="gone", events=messages, published_at=MAY, attempt=1)

    assert [(one.event_id, one.subscriber) for one in DeadLetter.objects.order_by("version")] == [
        ("note-0000000000001@1", "gone"),
        ("note-0000000000001@2", "gone"),
    ]
    assert "no subscriber 'gone'" in DeadLetter.objects.order_by("version")[0].message


def test_deliveries_that_the_broker_counts_are_counted_as_attempts(notes: Notes) -> None:
    notes.write(1, "a")
    tasks.deliver_message.push_request(**{"x-delivery-count": 2, "delivery_info": {"redelivered": True}})
    try:
        tasks.deliver_message.run(subscriber="notes", events=message_of(envelopes()), published_at=MAY, attempt=3)
    finally:
        tasks.deliver_message.pop_request()

    assert InboxEntry.objects.get().attempts == 5


def message_of(batch: Sequence[Envelope]) -> list[dict[str, Any]]:
    """The events as they stand in a message."""
    return [msgspec.to_builtins(envelope) for envelope in batch]


def test_an_effect_is_written_down_with_the_inbox_row(notes: Notes) -> None:
    notes.append(1, [NoteSentOut(text="letter")])
    batch = envelopes()

    assert deliver(batch) == Outcome(handled=1)
    assert deliver(batch) == Outcome(repeated=1)

    assert notes.effects == ["letter"]
    assert notes.seen == ["letter"]


def test_an_effect_that_fails_is_tried_again_and_not_marked(notes: Notes) -> None:
    notes.append(1, [NoteSentOut(text="letter")])
    notes.fail_on["letter"] = Transient("gateway away")

    outcome = deliver(envelopes())

    assert [envelope.version for envelope in outcome.retry] == [1]
    assert not InboxEntry.objects.exists()


def test_the_pause_doubles_up_to_a_maximum_and_is_at_least_a_second() -> None:
    for attempt in range(1, 20):
        nominal = min(2 ** (attempt - 1), conf.EVENTING_MAX_BACKOFF_SECONDS)
        for _ in range(50):
            pause = backoff_seconds(attempt)
            assert isinstance(pause, int)
            assert max(1, nominal * 0.5 - 1) <= pause <= max(1, nominal * 1.5 + 1)


@pytest.mark.services
@pytest.mark.django_db(databases="__all__", transaction=True)
def test_workers_with_the_same_events_have_one_effect(notes: Notes) -> None:
    notes.write(1, *"abcdefgh")
    batch = envelopes()
    start = threading.Barrier(6)

    def work(order: Sequence[Envelope]) -> None:
        start.wait(timeout=10)
        try:
            deliver(order)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work, args=[batch if i % 2 else batch[::-1]]) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)

    assert sorted(notes.seen) == list("abcdefgh")
    assert not DeadLetter.objects.exists()


def test_when_time_is_up_what_is_left_is_handed_back_and_nothing_is_dead(notes: Notes) -> None:
    notes.append(1, [NoteSentOut(text=text) for text in ("a", "b", "c")])
    notes.write(2, "d", "e")
    notes.fail_on["b"] = SoftTimeLimitExceeded()
    batch = envelopes()

    outcome = deliver(batch)

    assert (outcome.handled, outcome.dead) == (3, 0)
    assert [envelope.open().event.text for envelope in outcome.retry] == ["b", "c"]
    notes.fail_on.clear()
    again = deliver(batch, attempt=2)
    assert (again.handled, again.repeated, again.retry) == (2, 3, [])
    assert notes.effects == ["a", "b", "c"]


def test_a_batch_for_which_there_is_no_time_is_rolled_back_and_not_handled_singly(notes: Notes) -> None:
    notes.write(1, "a", "b")
    notes.append(2, [NoteSentOut(text="c")])
    notes.fail_on["b"] = SoftTimeLimitExceeded()

    outcome = deliver(envelopes())

    assert (outcome.handled, outcome.dead, len(outcome.retry)) == (0, 0, 3)
    assert (notes.seen, notes.effects, notes.batches) == ([], [], [2])
