"""Exchanges and queues that the broker has lost, all or one of them, come back by themselves."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from celery import current_app
from django.conf import settings
from django.test import Client
from django_celery_beat.models import IntervalSchedule, PeriodicTask
from kombu.connection import Connection
from kombu.entity import Exchange

from eventing import integration, queues, schedules, topology
from eventing.beat import LeaderScheduler
from eventing.delivery import Delivery, deliver
from eventing.publishing import Publisher
from eventing.tasks import collect_dead_letters
from eventing.wire import Message
from lab.harness import ROOT
from lab.harness.instances import start_rabbitmq, stop
from tests.integration.conftest import Notes
from tests.integration.test_delivery import envelopes
from tests.waiting import wait_until

# The delayed-delivery exchanges are common to all who share a broker, so the tests of this module have their own.
pytestmark = [pytest.mark.django_db(databases="__all__"), pytest.mark.services, pytest.mark.once]

PARTS = [
    "exchange domain.events",
    "exchange domain.dead",
    "exchange integration.events",
    "exchange celery_delayed_27",
    "exchange celery_delayed_9",
    "exchange celery_delayed_delivery",
    "queue dead-letters",
    "queue notes",
    "queue tasks",
    "queue celery_delayed_0",
]


@pytest.fixture(scope="module")
def private_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory: Path = tmp_path_factory.mktemp("rabbitmq")
    instance = start_rabbitmq(directory)
    yield instance.url
    stop(instance)


@pytest.fixture
def connection(private_broker: str, notes: Notes, monkeypatch: pytest.MonkeyPatch) -> Iterator[Connection]:
    """A broker that has everything."""
    for url in ("broker_url", "broker_read_url", "broker_write_url"):
        monkeypatch.setattr(current_app.conf, url, private_broker)
    with current_app.connection_for_write() as connection:
        topology.install(current_app)
        topology.declare(connection)
        yield connection
        topology.delete(connection)
    topology.install(current_app)


def remove(connection: Connection, part: str) -> None:
    kind, _, name = part.partition(" ")
    full = name if name.startswith("celery") else topology.qualified(name)
    channel = connection.default_channel
    channel.queue_delete(full) if kind == "queue" else channel.exchange_delete(full)
    assert missing() == [part]


def remove_everything(connection: Connection) -> None:
    for name in topology.queue_names():
        connection.default_channel.queue_delete(name)
    for name in topology.exchange_names():
        connection.default_channel.exchange_delete(name)


def missing() -> list[str]:
    return queues.missing_topology(seconds=5)


def send(publisher: Publisher, *, countdown: int | None = None) -> None:
    message = Message(subscriber="notes", events=envelopes(), published_at=datetime.now(UTC))
    publisher.send(message, countdown=countdown)


def depth(name: str) -> int | None:
    return {depth.name: depth.messages for depth in queues.depths(seconds=5)}[name]


@pytest.mark.parametrize("part", PARTS)
def test_whatever_is_missing_is_named_and_declared_by_the_next_periodic_run(part: str, connection: Connection) -> None:
    remove(connection, part)

    assert collect_dead_letters() == 0

    assert missing() == []


def test_what_was_declared_again_takes_messages_all_the_way(connection: Connection, notes: Notes) -> None:
    """Without their bindings, queues and exchanges would be there and nothing would pass."""
    notes.write(1, "a")
    for part in PARTS:
        remove(connection, part)
        collect_dead_letters()
    with Publisher() as publisher:
        send(publisher, countdown=1)
    queue = topology.work_queue("notes")(connection.default_channel)
    wait_until(lambda: depth("notes") == 1)
    queue.get(no_ack=False).reject(requeue=False)
    wait_until(lambda: depth("dead-letters") == 1)


@pytest.mark.parametrize("part", ["exchange domain.events", "exchange celery_delayed_27", "queue notes"])
def test_a_publisher_whose_connection_lives_declares_what_is_missing_and_publishes(
    part: str, connection: Connection, notes: Notes
) -> None:
    notes.write(1, "a")
    with Publisher() as publisher:
        countdown = 1 if "delayed" in part else None
        send(publisher, countdown=countdown)
        remove(connection, part)

        send(publisher, countdown=countdown)

        assert missing() == []
        # The first message went with its queue.
        wait_until(lambda: depth("notes") == (1 if part == "queue notes" else 2))


def test_a_publisher_meets_a_broker_that_has_lost_everything(connection: Connection, notes: Notes) -> None:
    notes.write(1, "a")
    remove_everything(connection)
    with Publisher() as publisher:
        send(publisher)
    assert (missing(), depth("notes")) == ([], 1)


def test_events_for_other_programs_are_published_when_their_exchange_was_deleted(
    connection: Connection, notes: Notes
) -> None:
    notes.write(1, "a")

    def publish() -> int:
        subscriber = integration.integration
        delivery = Delivery(subscriber=subscriber, attempt=1, published_at=datetime.now(UTC))
        return deliver(envelopes(), delivery).handled

    remove(connection, "exchange integration.events")
    integration._connections.confirmed.close()
    integration._connections.__init__()  # type: ignore[misc]  # it knows the address of another broker
    assert publish() == 1
    assert missing() == []
    integration._connections.confirmed.close()
    integration._connections.__init__()  # type: ignore[misc]


@pytest.mark.parametrize("part", ["exchange domain.events", "queue tasks"])
def test_beat_declares_what_it_needs_and_misses_no_run(part: str, connection: Connection) -> None:
    beat = LeaderScheduler(app=current_app, lazy=True)
    every = IntervalSchedule.objects.create(every=30, period="seconds")
    task = PeriodicTask.objects.create(name="collect", task="eventing.collect_dead_letters", interval=every)
    entry = schedules.Entry(task)
    beat.apply_async(entry, producer=beat.producer, advance=False)
    remove(connection, part)

    beat.apply_async(entry, producer=beat.producer, advance=False)

    assert missing() == []
    assert depth("tasks") == (1 if part == "queue tasks" else 2)
    beat.connection.release()


def test_readiness_names_what_is_missing_and_metrics_do_not_count_what_they_cannot_know(
    connection: Connection, client: Client
) -> None:
    assert client.get("/readyz").json()["dependencies"]["topology"]["detail"] == "complete"
    assert "wharf_dead_letters_open 0.0" in client.get("/metrics").content.decode()

    connection.default_channel.exchange_delete(topology.dead_exchange().name)
    connection.default_channel.queue_delete(topology.dead_letter_queue().name)

    assert client.get("/readyz").json()["impaired"]["topology"] == {
        "ok": False,
        "detail": "the broker has no exchange domain.dead, no queue dead-letters",
        "still_works": "orders are accepted and go on later",
    }
    metrics = client.get("/metrics").content.decode()
    assert 'wharf_check_ok{check="topology"} 0.0' in metrics
    assert "\nwharf_dead_letters_open" not in metrics


def test_a_worker_whose_queue_is_deleted_declares_everything_and_goes_on(
    private_broker: str, connection: Connection
) -> None:
    """The broker does not tell who consumes from a quorum queue that it was deleted."""
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "PROFILE": "services",
        "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nowhere",
        "CELERY_BROKER_URL": private_broker,
        "EVENTING_NAMESPACE": settings.EVENTING_NAMESPACE,
        "SECRET_KEY": secrets.token_urlsafe(50),
        "DEBUG": "1",
        "WORKER_CONCURRENCY": "1",
    }
    command = [sys.executable, "manage.py", "run", "worker", "inventory"]

    def consumers() -> int | None:
        return {depth.name: depth.consumers for depth in queues.depths(seconds=5)}["inventory"]

    worker = subprocess.Popen(command, cwd=ROOT, env=environment)
    try:
        wait_until(lambda: consumers() == 1, seconds=60)
        connection.default_channel.exchange_delete(topology.dead_exchange().name)
        connection.default_channel.queue_delete(topology.qualified("inventory"))

        wait_until(lambda: missing() == [] and consumers() == 1, seconds=60)
    finally:
        worker.terminate()
        worker.wait(timeout=60)


def test_an_exchange_of_another_kind_is_not_taken_for_ours(connection: Connection) -> None:
    connection.default_channel.exchange_delete(topology.dead_exchange().name)
    Exchange(topology.dead_exchange().name, type="fanout", durable=True)(connection.default_channel).declare()

    assert collect_dead_letters() == 0

    connection.default_channel.exchange_delete(topology.dead_exchange().name)
