"""The relay: from outbox to broker, with a broker that works, fails, or forgets."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

import pytest
from celery import current_app
from django.db import connections
from django.utils import timezone
from pytest_django import Settings

from eventing import outbox, subscribers, topology
from eventing.delivery import Delivery, deliver
from eventing.models import OutboxMessage
from eventing.publishing import Publisher, batches
from eventing.relay import Relay
from eventing.testing import Collector
from eventing.wire import Envelope, Message
from tests.integration.conftest import Notes
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db(databases="__all__")


class BrokerIsAway(Exception):
    pass


class FailingSender(Collector):
    """Takes `good` messages, then none."""

    def __init__(self, good: int) -> None:
        super().__init__(errors=(BrokerIsAway,))
        self.good = good

    def send(self, message: Message[Envelope]) -> None:
        if len(self.messages) >= self.good:
            raise BrokerIsAway
        super().send(message)


def to_notes(collector: Collector) -> list[list[str]]:
    return [
        [envelope.data["text"] for envelope in message.events]
        for message in collector.messages
        if message.subscriber == "notes"
    ]


def test_events_leave_in_one_message_for_each_subscriber_that_wants_them(notes: Notes) -> None:
    notes.write(1, "a", "b")
    notes.write(2, "c")
    collector = Collector()

    assert Relay("default", sender=collector, durable=True).publish_once() == 3

    assert to_notes(collector) == [["a", "b", "c"]]
    assert {message.subscriber for message in collector.messages} == {"notes", "integration"}
    assert not OutboxMessage.objects.exists()


def test_messages_are_bounded_in_number_and_size(notes: Notes, settings: object) -> None:
    settings.EVENTING_MESSAGE_EVENTS = 3  # type: ignore[attr-defined]
    settings.EVENTING_MESSAGE_BYTES = 2_000  # type: ignore[attr-defined]
    notes.write(1, "a", "b", "c", "d", "x" * 3_000, "e")
    collector = Collector()

    Relay("default", sender=collector, durable=True).publish_once()

    assert [[len(text) for text in batch] for batch in to_notes(collector)] == [[1, 1, 1], [1], [3_000], [1]]
    assert list(batches([])) == []


def test_rows_stay_until_every_subscriber_has_its_message(notes: Notes) -> None:
    notes.write(1, "a")
    failing = FailingSender(good=1)

    with pytest.raises(BrokerIsAway):
        Relay("default", sender=failing, durable=True).publish_once()

    assert OutboxMessage.objects.count() == 1
    collector = Collector()
    Relay("default", sender=collector, durable=True).publish_once()
    assert to_notes(collector) == [["a"]]


def test_a_broker_that_forgets_is_given_the_event_again_after_a_restart(notes: Notes) -> None:
    notes.write(1, "a")
    collector = Collector()
    first_life = Relay("default", sender=collector, durable=False)
    first_life.publish_once()
    assert first_life.publish_once() == 0, "an event in flight is published once"
    assert OutboxMessage.objects.count() == 1

    second_life = Relay("default", sender=collector, durable=False)
    assert second_life.publish_once() == 1
    for message in collector.messages:
        for sent in second_life.sent.values():
            sent.waiting = [one for one in sent.waiting if one.name == "notes"]
            sent.at = timezone.now() - timedelta(seconds=1)
        if message.subscriber == "notes":
            deliver(
                message.events,
                Delivery(subscriber=subscribers.get("notes"), attempt=1, published_at=message.published_at),
            )
    second_life.settle()

    assert not OutboxMessage.objects.exists()
    assert second_life.sent == {}


def test_an_emptied_outbox_is_looked_into_again_after_a_rest_and_a_full_one_at_once(
    notes: Notes, settings: Settings
) -> None:
    settings.EVENTING_RELAY_BATCH = 2
    turn = Relay("default", sender=Collector(), durable=True, rest=lambda: 7.0)
    notes.write(1, "a", "b", "c")

    try:
        assert turn._turn(0.0) == 0.0
        assert turn._turn(0.0) == 7.0
        assert 0 < turn._turn(0.0) < 1, "nothing was there"
    finally:
        turn._start_over()


def test_lag_is_the_age_of_the_oldest_unpublished_event(notes: Notes) -> None:
    empty = outbox.lag("default")
    assert (empty.waiting, empty.seconds) == (0, 0.0)
    notes.write(1, "a", "b")

    lag = outbox.lag("default")

    assert lag.waiting == 2
    assert 0 <= lag.seconds < 60


@pytest.mark.services
def test_a_confirmed_message_is_in_the_subscribers_queue(broker: None, notes: Notes) -> None:
    notes.write(1, "a", "b")
    turn = Relay("default")

    assert turn.publish_once() == 2

    with current_app.connection_for_read() as connection:
        queue = topology.work_queue("notes")(connection.default_channel)
        message = queue.get(no_ack=True)
        assert message is not None, "the confirm came before the message was in the queue"
        assert [event["data"]["text"] for event in message.payload[1]["events"]] == ["a", "b"]
    turn.sender.close()


@pytest.mark.services
def test_a_message_whose_queue_was_deleted_gets_another_one(broker: None, notes: Notes) -> None:
    notes.write(1, "a")
    with current_app.connection_for_write() as connection:
        queue = topology.work_queue("notes")(connection.default_channel)
        queue.delete()
        turn = Relay("default")

        assert turn.publish_once() == 1

        assert queue.get(no_ack=True) is not None
    assert not OutboxMessage.objects.exists()
    turn.sender.close()


@pytest.mark.services
def test_a_countdown_arrives_later_through_the_delay_queues(broker: None, notes: Notes) -> None:
    notes.write(1, "a")
    collector = Collector()
    Relay("default", sender=collector, durable=True).publish_once()
    [message] = [message for message in collector.messages if message.subscriber == "notes"]
    started = time.monotonic()
    with Publisher() as publisher:
        publisher.send(message.again(message.events), countdown=1)

    with current_app.connection_for_read() as connection:
        queue = topology.work_queue("notes")(connection.default_channel)
        assert queue.get(no_ack=True) is None
        arrived = []
        wait_until(lambda: bool(arrived.append(got) if (got := queue.get(no_ack=True)) else arrived) or bool(arrived))
    assert time.monotonic() - started > 0.8
    assert arrived[0].payload[1]["attempt"] == 2


@pytest.mark.services
@pytest.mark.django_db(databases="__all__", transaction=True)
def test_one_relay_works_on_a_database_and_another_takes_over() -> None:
    def start() -> tuple[Relay, threading.Event, threading.Thread]:
        turn, stop = Relay("default", sender=Collector()), threading.Event()
        thread = threading.Thread(target=turn.run, args=[stop])
        thread.start()
        return turn, stop, thread

    first, stop_first, first_thread = start()
    wait_until(lambda: first.leading)
    second, stop_second, second_thread = start()
    try:
        assert first.leading
        assert not second.leading
        with connections["default"].cursor() as cursor:  # what a crash of its machine looks like to PostgreSQL
            cursor.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_locks JOIN pg_database ON pg_database.oid = database"
                " WHERE locktype = 'advisory' AND datname = current_database()"
            )
        wait_until(lambda: first.leading != second.leading)
        stop_first.set()
        first_thread.join(timeout=10)
        wait_until(lambda: second.leading, seconds=5)
    finally:
        stop_first.set()
        stop_second.set()
        first_thread.join(timeout=10)
        second_thread.join(timeout=10)
    assert not second_thread.is_alive()


@pytest.mark.services
@pytest.mark.django_db(databases="__all__", transaction=True)
def test_relay_waits_for_a_broker_that_refuses_connections(
    notes: Notes, broker: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes.write(1, "a")
    with monkeypatch.context() as broken:
        broken.setattr(current_app.conf, "broker_write_url", "amqp://guest:guest@127.0.0.1:1//")
        turn = Relay("default")
    stop = threading.Event()
    thread = threading.Thread(target=turn.run, args=[stop])
    thread.start()
    try:
        wait_until(lambda: outbox.lag("default").seconds > 0.5)
        assert thread.is_alive()
        turn.sender = Publisher()  # the broker is back
        wait_until(lambda: not OutboxMessage.objects.exists(), seconds=20)
    finally:
        stop.set()
        thread.join(timeout=10)
