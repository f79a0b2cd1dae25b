"""How workers share a queue, and what becomes of a connection to the broker that is dead without being closed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from celery import current_app
from django.conf import settings

from eventing import topology
from eventing.publishing import Publisher
from eventing.wire import Message
from lab.harness.proxy import Proxy
from tests.integration.conftest import Notes
from tests.integration.test_delivery import envelopes
from tests.integration.workers import working
from tests.live import proxy_of, through
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.django_db(databases="__all__", transaction=True),
    pytest.mark.services,
]

HEARTBEAT = 1  # second: less than any other limit, so that nothing else notices before it
NOTICED_SECONDS = 2 * HEARTBEAT + 2  # and what a busy machine adds


@pytest.fixture
def proxy(broker: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """Between this process and the broker."""
    with proxy_of("CELERY_BROKER_URL") as proxy:
        for url in ("broker_url", "broker_read_url", "broker_write_url"):
            monkeypatch.setattr(current_app.conf, url, through(proxy, "CELERY_BROKER_URL"))
        yield proxy


@pytest.fixture
def short_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(current_app.conf, "broker_heartbeat", HEARTBEAT)


def send(publisher: Publisher, stream: int, notes: Notes, text: str) -> None:
    """A note in a message of its own."""
    notes.write(stream, text)
    publisher.send(Message(subscriber="notes", events=envelopes(), published_at=datetime.now(UTC)))


def connection_of(publisher: Publisher) -> Any:
    return publisher.producer.channel.connection


def test_a_worker_that_is_slow_keeps_no_message_from_one_that_is_fast(broker: None, notes: Notes) -> None:
    released = notes.wait_for["slow"] = threading.Event()
    quick = [f"quick {number}" for number in range(20)]
    with Publisher() as publisher:
        for number, text in enumerate(["slow", *quick], start=1):
            send(publisher, number, notes, text)
    with working("notes"):
        try:
            wait_until(lambda: notes.batches == [1])  # it has the slow one in hand, and what it was given beside it
            with current_app.connection_for_read() as connection:  # the fast worker
                queue = topology.work_queue("notes")(connection.default_channel)
                taken: list[str] = []

                def take() -> bool:
                    while (message := queue.get(no_ack=True)) is not None:
                        taken.extend(event["data"]["text"] for event in message.payload[1]["events"])
                    return taken == quick

                wait_until(take)
        finally:
            released.set()
        wait_until(lambda: notes.seen == ["slow"])


def test_connections_that_consume_and_that_publish_have_a_heartbeat_of_at_most_a_minute(
    broker: None, notes: Notes
) -> None:
    assert 1 <= settings.CELERY_BROKER_HEARTBEAT <= 60
    with working("notes") as worker, Publisher() as publisher:
        send(publisher, 1, notes, "a")
        wait_until(lambda: notes.seen == ["a"])
        negotiated = {
            "consumer": worker.consumer.connection.get_heartbeat_interval(),
            "publisher": connection_of(publisher).heartbeat,
        }
    assert negotiated == dict.fromkeys(("consumer", "publisher"), settings.CELERY_BROKER_HEARTBEAT)


def test_a_worker_notices_that_its_connection_is_dead_and_goes_on_with_another(
    proxy: Proxy, short_heartbeat: None, notes: Notes
) -> None:
    with working("notes"), Publisher() as publisher:
        send(publisher, 1, notes, "before")
        wait_until(lambda: notes.seen == ["before"])

        proxy.fall_silent()

        publisher.close()  # that of the test has died, too
        send(publisher, 2, notes, "after")
        wait_until(lambda: notes.seen == ["before", "after"], seconds=NOTICED_SECONDS)


def test_a_publisher_notices_that_its_connection_is_dead_while_it_waits_for_the_broker(
    proxy: Proxy, short_heartbeat: None, notes: Notes
) -> None:
    with Publisher() as publisher:
        send(publisher, 1, notes, "before")

        proxy.fall_silent()

        began = time.monotonic()
        with pytest.raises(publisher.errors):
            send(publisher, 2, notes, "lost")
        assert time.monotonic() - began < NOTICED_SECONDS
        send(publisher, 3, notes, "after")


def test_an_idle_publisher_notices_that_its_connection_is_dead_before_it_is_needed(
    proxy: Proxy, short_heartbeat: None, notes: Notes, caplog: pytest.LogCaptureFixture
) -> None:
    with Publisher() as publisher:
        send(publisher, 1, notes, "before")

        proxy.fall_silent()

        wait_until(lambda: "publisher.connection_lost" in caplog.text, seconds=NOTICED_SECONDS)
        send(publisher, 2, notes, "after")


def test_an_idle_publisher_keeps_its_connection(broker: None, short_heartbeat: None, notes: Notes) -> None:
    with Publisher() as publisher:
        send(publisher, 1, notes, "a")
        connection = connection_of(publisher)
        heard = connection.bytes_recv  # frames, whatever its name says

        wait_until(lambda: connection.bytes_recv >= heard + 8)  # heartbeats: RabbitMQ sends two in the time of one

        send(publisher, 2, notes, "b")
        assert connection_of(publisher) is connection
