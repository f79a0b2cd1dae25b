"""Relays as processes: one dies and another takes over, one is told to stop and leaves nothing half done."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from celery import current_app
from django.conf import settings
from django.db import connections, transaction

from eventing import outbox, store, topology
from eventing.models import OutboxMessage
from eventing.recorded import Metadata, NewEvents
from tests.integration.conftest import Notes, NoteWritten, broker, notes  # noqa: F401  (fixtures)
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.faults,
    pytest.mark.services,
    pytest.mark.django_db(databases="__all__", transaction=True),
]

TAKEOVER_SECONDS = 5
STOP_SECONDS = 30  # below the relay's stop_grace_period; usually a fraction of a second
EVENTS = 20_000

Start = Callable[[], subprocess.Popen[str]]


@pytest.fixture
def start_relay() -> Iterator[Start]:
    """Starts `manage.py run relay` on the test's databases and queues."""
    server = urlsplit(os.environ["DATABASE_URL"])
    url = {alias: server._replace(path=f"/{known['NAME']}").geturl() for alias, known in settings.DATABASES.items()}
    env = {
        **os.environ,
        "DATABASE_URL": url.pop("default"),
        "ORDER_SHARD_URLS": ",".join(url.values()),
        "DEBUG": "1",
    }
    started: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "run", "relay"],
            cwd=settings.BASE_DIR,
            env=env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def all_are_led() -> bool:
    return all(outbox.is_led(alias) for alias in settings.DATABASES)


def leaders() -> set[int]:
    """The backends that hold the relays' locks, in all databases."""
    found = set()
    for alias in settings.DATABASES:
        with connections[alias].cursor() as cursor:
            cursor.execute(
                "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted"
                " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            )
            found |= {pid for (pid,) in cursor.fetchall()}
    return found


def test_another_relay_takes_all_databases_over_within_five_seconds(
    start_relay: Start,
    broker: None,  # noqa: F811
    notes: Notes,  # noqa: F811
) -> None:
    first = start_relay()
    wait_until(all_are_led, seconds=60)
    of_first = leaders()
    second = start_relay()
    assert second.stdout is not None
    assert second.stdout.readline().startswith("relay:")  # it is running, and stands by
    assert leaders() == of_first

    first.kill()
    wait_until(lambda: not (leaders() & of_first) and all_are_led(), seconds=TAKEOVER_SECONDS)

    notes.write(1, "after the death of the first")
    wait_until(lambda: not OutboxMessage.objects.exists(), seconds=20)
    second.terminate()
    assert second.wait(timeout=STOP_SECONDS) == 0


def test_a_relay_that_is_told_to_stop_finishes_its_batch(
    start_relay: Start,
    broker: None,  # noqa: F811
    notes: Notes,  # noqa: F811
) -> None:
    for first in range(0, EVENTS, 1_000):
        writes = [
            NewEvents(
                stream_id=stream_id,
                expected_version=0,
                events=[NoteWritten(text="x" * 200, author="ann")],
                metadata=Metadata(correlation_id="test"),
            )
            for stream_id in range(first + 1, first + 1_001)
        ]
        with transaction.atomic(using="default"):
            store.append("note", writes, using="default")
    relay_process = start_relay()
    wait_until(lambda: OutboxMessage.objects.count() < EVENTS, seconds=60)

    relay_process.terminate()
    assert relay_process.wait(timeout=STOP_SECONDS) == 0

    waiting = set(OutboxMessage.objects.values_list("stream_id", flat=True))
    published = published_notes()
    assert waiting, "it was stopped in the middle"
    assert len(published) == len(set(published)), "nothing was published twice"
    assert set(published).isdisjoint(waiting), "everything that was published was deleted"
    assert set(published) | waiting == set(range(1, EVENTS + 1)), "and nothing was deleted that was not"
    assert not any(outbox.is_led(alias) for alias in settings.DATABASES)


def published_notes() -> list[int]:
    """The streams of the notes in the queue of `integration`, which wants every event."""
    found: list[Any] = []
    with current_app.connection_for_read() as connection:
        queue = topology.work_queue("integration")(connection.default_channel)
        while (message := queue.get(no_ack=True)) is not None:
            found += [event["stream_id"] for event in message.payload[1]["events"] if event["category"] == "note"]
    return found
