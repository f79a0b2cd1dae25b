"""A version that is given again, as by a restored database, is another event: its hash says so to inbox and letters."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime
from io import StringIO

import msgspec
import psycopg
import pytest
from django.core.management import call_command
from django.db import connections
from django.utils import timezone
from pytest_django import Settings

from eventing import deadletters, delivery, subscribers
from eventing.browser import journey
from eventing.delivery import Delivery, Outcome
from eventing.inline import DirectSender, over_the_wire
from eventing.integration import cloud_event
from eventing.models import DeadLetter, Event, InboxEntry
from eventing.recorded import short_hash
from eventing.relay import Relay
from eventing.testing import Collector, drain, publish_all
from eventing.wire import Envelope, Message
from tests.integration.conftest import Notes, NoteSentOut
from tests.integration.installations import Installation
from tests.integration.parallel import at_once

pytestmark = pytest.mark.django_db(databases="__all__")


def envelopes() -> list[Envelope]:
    """Everything that the relay would now send to the test's subscriber."""
    return [envelope for message in publish_all() if message.subscriber == "notes" for envelope in message.events]


def arrived(*batch: Envelope) -> Message[Envelope]:
    return over_the_wire(Message(subscriber="notes", events=batch, published_at=datetime(2026, 5, 1, tzinfo=UTC)))


def deliver(*batch: Envelope) -> Outcome:
    """Deliver events as they arrive in a message."""
    message = arrived(*batch)
    return delivery.deliver(message.events, Delivery.of(message))


def twice_at_one_key(notes: Notes) -> tuple[Envelope, Envelope]:
    """Two events that had the same key in turn; the database has the second."""
    notes.write(1, "first")
    [first] = envelopes()
    Event.objects.filter(category="note").delete()
    notes.write(1, "second")
    [second] = envelopes()
    assert first.id == second.id
    return first, second


def of_a_version_before(envelope: Envelope) -> Envelope:
    """A message of a program that knows no hashes."""
    return msgspec.structs.replace(envelope, hash=None)


def test_second_event_of_a_key_is_handled_and_each_of_them_once(notes: Notes) -> None:
    first, second = twice_at_one_key(notes)
    assert (deliver(first), deliver(second)) == (Outcome(handled=1), Outcome(handled=1))

    for late in (first, second, second, first):
        assert deliver(late) == Outcome(repeated=1)

    assert notes.seen == ["first", "second"]
    assert InboxEntry.objects.get().hashes == f"{short_hash(first.hash)} {short_hash(second.hash)}"


def test_both_events_of_a_key_are_handled_when_they_arrive_together(notes: Notes) -> None:
    first, second = twice_at_one_key(notes)

    assert deliver(first, second, first) == Outcome(handled=2, repeated=1)

    assert sorted(notes.seen) == ["first", "second"]
    assert deliver(second, first) == Outcome(repeated=2)


def test_effect_outside_happens_for_each_event_of_a_key_once(notes: Notes) -> None:
    notes.append(1, [NoteSentOut(text="first")])
    [first] = envelopes()
    deliver(first)
    Event.objects.filter(category="note").delete()
    notes.append(1, [NoteSentOut(text="second")])
    [second] = envelopes()

    for arriving in (second, first, second):
        deliver(arriving)

    assert notes.effects == ["first", "second"]


@pytest.mark.parametrize("order", ["old first", "new first", "only old"])
def test_message_of_a_version_without_hashes_counts_as_the_event_of_its_key(notes: Notes, order: str) -> None:
    notes.write(1, "a")
    [new] = envelopes()
    old = of_a_version_before(new)
    arriving = {"old first": [old, new], "new first": [new, old], "only old": [old, old]}[order]

    assert [deliver(one) for one in arriving] == [Outcome(handled=1), Outcome(repeated=1)]
    assert notes.seen == ["a"]


def test_message_as_versions_before_have_written_it_is_read(notes: Notes) -> None:
    notes.write(1, "a")
    [new] = envelopes()
    body = msgspec.to_builtins(new)
    del body["hash"]

    assert deliver(deadletters.received(body)) == Outcome(handled=1)


def test_event_that_was_stored_without_a_hash_is_handled_once(notes: Notes) -> None:
    notes.write(1, "a")
    Event.objects.filter(category="note").update(hash=None)
    [envelope] = envelopes()

    assert (deliver(envelope), deliver(envelope)) == (Outcome(handled=1), Outcome(repeated=1))


def test_row_that_was_written_by_a_version_without_hashes_counts(notes: Notes) -> None:
    """Such a worker may still be there while its successors start."""
    notes.write(1, "a")
    [envelope] = envelopes()
    with connections["default"].cursor() as cursor:
        cursor.execute(
            "INSERT INTO eventing_inbox (stream_id, category, version, subscriber, attempts, published_at, handled_at)"
            " VALUES (1, 'note', 1, 'notes', 1, %s, %s) ON CONFLICT DO NOTHING",
            [timezone.now(), timezone.now()],
        )

    assert deliver(envelope) == Outcome(repeated=1)


@pytest.mark.services
@pytest.mark.django_db(databases="__all__", transaction=True)
def test_workers_with_old_and_new_messages_of_an_event_have_one_effect(notes: Notes) -> None:
    notes.write(1, *"abcdefgh")
    new = envelopes()
    old = [of_a_version_before(envelope) for envelope in new]

    assert at_once([lambda batch=batch: deliver(*batch) for batch in (new, old) * 3], using="default") == []

    assert sorted(notes.seen) == list("abcdefgh")


def test_replay_that_forgets_has_the_stored_event_handled_again_and_no_other(notes: Notes, settings: Settings) -> None:
    settings.EVENTING_DURABLE_BROKER = False
    first, second = twice_at_one_key(notes)
    deliver(first, second)
    notes.seen.clear()

    call_command(
        "replay", "--subscriber=notes", "--type=note.written", "--forget", stdout=StringIO(), stderr=StringIO()
    )

    assert notes.seen == ["second"]
    assert deliver(first, second) == Outcome(repeated=2)


def test_each_event_of_a_key_has_a_dead_letter_that_is_redriven_as_it_is(notes: Notes) -> None:
    first, second = twice_at_one_key(notes)
    for text in ("first", "second"):
        notes.fail_on[text] = ValueError(text)
    for arriving in (first, second, first):
        deliver(arriving)
    letters = list(DeadLetter.objects.order_by("id"))
    assert [(letter.message, letter.data["text"]) for letter in letters] == [("first", "first"), ("second", "second")]
    notes.fail_on.clear()

    sender = DirectSender()
    for letter in letters:
        deadletters.redrive(letter, sender, by="ann")  # type: ignore[arg-type]  # it needs no more of a publisher

    assert notes.seen == ["first", "second"]
    assert deadletters.note_handled() == 2


def test_letter_is_not_taken_for_handled_because_another_event_of_its_key_was(notes: Notes) -> None:
    first, second = twice_at_one_key(notes)
    notes.fail_on["second"] = ValueError("second")
    deliver(first)
    deliver(second)
    DeadLetter.objects.update(status=DeadLetter.Status.REDRIVEN)

    assert deadletters.note_handled() == 0


def test_edited_letter_stays_that_of_the_stored_event(notes: Notes) -> None:
    notes.write(1, "bad")
    [envelope] = envelopes()
    notes.fail_on["bad"] = ValueError("bad")
    deliver(envelope)
    letter = DeadLetter.objects.get()
    content = {name: getattr(letter, name) for name in deadletters.CONTENT}
    deadletters.edit(letter, content | {"data": {**letter.data, "text": "good"}}, by="ann")

    deadletters.redrive(DeadLetter.objects.get(), DirectSender(), by="ann")  # type: ignore[arg-type]

    assert notes.seen == ["good"]
    assert deliver(envelope) == Outcome(repeated=1)


def test_letter_of_a_version_without_hashes_is_opened_again_by_its_event(notes: Notes) -> None:
    notes.write(1, "bad")
    [envelope] = envelopes()
    notes.fail_on["bad"] = ValueError("bad")
    deliver(of_a_version_before(envelope))
    DeadLetter.objects.update(status=DeadLetter.Status.REDRIVEN)

    deliver(envelope)

    assert DeadLetter.objects.get().status == DeadLetter.Status.OPEN


def test_relay_of_a_broker_that_forgets_waits_for_the_event_itself(notes: Notes) -> None:
    """Only its own delivery settles it, not that of the event that had its key before."""
    notes.write(1, "first")
    [first] = envelopes()
    deliver(first)
    Event.objects.filter(category="note").delete()
    notes.write(1, "second")
    relay = Relay("default", sender=Collector(), durable=False)
    relay.publish_once()
    [sent] = relay.sent.values()
    sent.waiting, sent.at = [subscribers.get("notes")], datetime(2026, 5, 1, tzinfo=UTC)

    relay.settle()
    assert relay.sent
    deliver(sent.envelope)
    sent.at = datetime(2026, 5, 1, tzinfo=UTC)
    relay.settle()
    assert not relay.sent


def test_page_of_an_event_shows_what_became_of_it_and_not_of_another(notes: Notes) -> None:
    def settled() -> Sequence[str]:
        seen = journey("note", 1, 1)
        assert seen is not None
        return [one.subscriber for one in seen.deliveries if one.entry or one.dead_letter]

    first, second = twice_at_one_key(notes)
    notes.fail_on["first"] = ValueError("first")
    deliver(first)
    assert settled() == []
    deliver(second)
    assert settled() == ["notes"]


def test_programs_outside_can_tell_the_events_of_one_id_apart(notes: Notes) -> None:
    one, other = (cloud_event(envelope.open()) for envelope in arrived(*twice_at_one_key(notes)).events)

    assert one["id"] == other["id"] == "note-0000000000001@1"
    assert other["hash"] == bytes(Event.objects.get(category="note").hash or b"").hex()
    assert one["hash"] != other["hash"]


def test_drained_events_are_known_by_their_hashes(notes: Notes) -> None:
    notes.write(1, "a")

    drain()

    stored = Event.objects.get(category="note")
    assert [entry.hashes for entry in InboxEntry.objects.all()] == [short_hash(stored.hash)]


LETTER = (
    "INSERT INTO eventing_dead_letter (stream_id, category, version, subscriber, type, schema_version, data, metadata,"
    " recorded_at, error, message, traceback, attempts, status, failed_at, history{columns}) VALUES (1, 'note', 1,"
    " 'notes', 't', 1, '{{}}', '{{}}', '2026-05-01', 'e', '', '', 1, 'open', '2026-05-01', '[]'{values})"
)
MESSAGE = (
    "INSERT INTO notifications_message (customer_id, channel, about, event_id, correlation_id, recipient, subject,"
    " body, html, status, attempts, version, last_error, created_at{columns}) VALUES (1, 'inbox', 'a', 'note-1@1', '',"
    " '', '', '', '', 'sent', 0, 0, '', '2026-05-01'{values})"
)


@pytest.mark.slow
def test_what_a_version_without_hashes_has_written_stays_and_counts(installation: Installation) -> None:
    assert installation.manage("migrate_all").returncode == 0
    for app, before in (("eventing", "0009"), ("notifications", "0002")):
        back = installation.manage("migrate", app, before, "--database=default", "--skip-checks")
        assert back.returncode == 0, back.stderr
    installation.execute(
        "default",
        "INSERT INTO eventing_inbox (stream_id, category, version, subscriber, attempts, published_at, handled_at)"
        " VALUES (1, 'note', 1, 'notes', 1, '2026-05-01', '2026-05-01')",
    )
    for statement in (LETTER, MESSAGE):
        installation.execute("default", statement.format(columns="", values=""))

    forward = installation.manage("migrate_all")

    assert forward.returncode == 0, forward.stderr
    # Of this row nothing is known: it refuses to be of any event.
    installation.execute("default", "UPDATE eventing_inbox SET attempts = NULL WHERE hashes IS NOT NULL")
    for statement in (LETTER, MESSAGE):
        with pytest.raises((psycopg.IntegrityError, sqlite3.IntegrityError)):
            installation.execute("default", statement.format(columns="", values=""))
        installation.execute("default", statement.format(columns=", event_hash", values=", 'abc'"))
