"""Dead letters: what the broker has given up on arrives in the table, and redriving sends an event once more."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest
from celery import current_app
from django.utils import timezone
from kombu.connection import Connection
from kombu.messaging import Producer

from eventing import deadletters, topology
from eventing.models import DeadLetter
from eventing.publishing import Publisher
from eventing.tasks import collect_dead_letters
from eventing.wire import Envelope, Message
from tests.integration.conftest import Notes
from tests.integration.test_delivery import deliver, envelopes
from tests.live import proxy_of, through
from tests.waiting import wait_until

pytestmark = [pytest.mark.django_db(databases="__all__"), pytest.mark.services]


@pytest.fixture
def connection(broker: None) -> Iterator[Connection]:
    with current_app.connection_for_read() as connection:
        yield connection


def give_up(connection: Connection) -> None:
    """Do what a worker that cannot run a task does: reject it, so that the broker dead-letters it."""
    message = topology.work_queue("notes")(connection.default_channel).get(no_ack=False)
    message.reject(requeue=False)


def collect(connection: Connection) -> None:
    """Dead-lettering is asynchronous on the broker's side, so ask until something is there."""
    wait_until(lambda: deadletters.collect(connection, 10) > 0)


def test_events_of_a_message_that_was_given_up_become_dead_letters(connection: Connection, notes: Notes) -> None:
    notes.write(1, "a", "b")
    with Publisher() as publisher:
        publisher.send(Message(subscriber="notes", events=envelopes(), published_at=timezone.now(), attempt=3))
    give_up(connection)

    collect(connection)

    letters = DeadLetter.objects.order_by("version")
    assert [(letter.event_id, letter.subscriber, letter.attempts) for letter in letters] == [
        ("note-0000000000001@1", "notes", 3),
        ("note-0000000000001@2", "notes", 3),
    ]
    assert letters[0].error == "GivenUpByBroker"
    assert letters[0].data == {"text": "a", "author": "ann"}
    assert deadletters.collect(connection, 10) == 0


def test_collecting_is_left_to_the_next_run_while_the_broker_is_lost(
    connection: Connection, notes: Notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes.write(1, "a")
    with Publisher() as publisher:
        publisher.send(Message(subscriber="notes", events=envelopes(), published_at=timezone.now()))
    give_up(connection)
    with proxy_of("CELERY_BROKER_URL") as proxy:
        monkeypatch.setattr(current_app.conf, "broker_read_url", through(proxy, "CELERY_BROKER_URL"))
        proxy.cut()
        assert collect_dead_letters() == 0, "a task that fails would become a dead letter itself"
        proxy.mend()
        wait_until(lambda: collect_dead_letters() > 0)

    assert DeadLetter.objects.get().subscriber == "notes"


@pytest.mark.parametrize("body", [b"not json", b"[[], {}, {}]", b"\xff\x00"])
def test_what_nobody_can_read_is_kept_as_it_came(connection: Connection, body: bytes) -> None:
    Producer(connection).publish(
        body,
        exchange=topology.domain_exchange(),
        routing_key=topology.qualified("notes"),
        content_type="application/x-msgspec-json",
        content_encoding="utf-8",
    )
    give_up(connection)

    collect(connection)

    letter = DeadLetter.objects.get()
    assert letter.category == "unreadable"
    assert letter.data["body"][:3] == body.decode(errors="replace").replace("\x00", "\N{REPLACEMENT CHARACTER}")[:3]


def test_a_malformed_event_that_the_broker_gave_up_leaves_the_others_readable(connection: Connection) -> None:
    good = {
        "stream_id": 1,
        "category": "note",
        "version": 1,
        "type": "note.written",
        "schema_version": 2,
        "data": {"text": "a"},
        "metadata": {"correlation_id": "test"},
        "recorded_at": "2026-05-01T00:00:00Z",
    }
    too_large = good | {"version": 2, "stream_id": 2**70}
    odd_text = good | {"version": 3, "data": {"text": "a\x00b"}}
    arguments = {"subscriber": "notes", "events": [good, "nonsense", too_large, odd_text], "attempt": 2}
    Producer(connection).publish(
        msgspec.json.encode([[], arguments | {"published_at": "2026-05-01T00:00:00Z"}, {}]),
        exchange=topology.domain_exchange(),
        routing_key=topology.qualified("notes"),
        content_type="application/x-msgspec-json",
        content_encoding="utf-8",
    )
    give_up(connection)

    collect(connection)

    letters = list(DeadLetter.objects.order_by("id"))
    assert [(letter.category, letter.subscriber, letter.attempts) for letter in letters] == [
        ("note", "notes", 2),
        *[("unreadable", "notes", 2)] * 3,
    ]
    assert letters[1].data == {"body": '"nonsense"'}
    assert deadletters.collect(connection, 10) == 0


def test_a_redriven_letter_is_handled_once(connection: Connection, notes: Notes) -> None:
    notes.write(1, "bad")
    notes.fail_on["bad"] = ValueError("a bug")
    deliver(envelopes())
    letter = DeadLetter.objects.get()
    notes.fail_on.clear()

    with Publisher() as publisher:
        deadletters.redrive(letter, publisher, by="ann")
        deadletters.redrive(letter, publisher, by="bob")

    queue = topology.work_queue("notes")(connection.default_channel)
    for _ in range(2):
        message = queue.get(no_ack=True)
        deliver(msgspec.convert(message.payload[1]["events"], list[Envelope]))
    assert notes.seen == ["bad"]
    letter.refresh_from_db()
    assert letter.status == DeadLetter.Status.REDRIVEN


def test_a_periodic_task_that_expired_without_a_worker_is_no_dead_letter(connection: Connection) -> None:
    queue = topology.work_queue(topology.TASKS)
    producer = Producer(connection.default_channel)
    producer.publish("{}", exchange=queue.exchange, routing_key=queue.routing_key, expiration=0.001)

    collect(connection)

    assert not DeadLetter.objects.exists()
