"""Beat runs twice, is killed, or does not run at all; every schedule fires once each time it is due."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from socket import gethostname
from typing import Any

import kombu
import pytest

from tests import programs
from tests.live import Live
from tests.waiting import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.services]

BEAT = ("manage.py", "run", "beat")
TASK = "eventing.collect_dead_letters"
TAKE_OVER_SECONDS = 10


class Fired:
    """What beats send to the queue of tasks, by the limit that the schedule under test gives along."""

    def __init__(self, channel: Any, namespace: str) -> None:
        exchange = kombu.Exchange(f"{namespace}_domain.events", type="topic", durable=True)
        queue = kombu.Queue(exchange=exchange, routing_key=f"{namespace}_tasks", exclusive=True, auto_delete=True)
        self._queue = queue(channel)
        self._queue.declare()
        self.at: dict[int, list[float]] = {}

    def times(self, limit: int) -> list[float]:
        """When messages with this limit were seen to arrive."""
        while (message := self._queue.get(no_ack=True)) is not None:
            if message.headers.get("task") == TASK:
                # Only the broker measures how long it lives: an expiry of Celery's is compared with the worker's clock.
                assert (message.headers["expires"], message.headers["eta"]) == (None, None)
                assert float(message.properties["expiration"]) >= 1000
                arguments = message.decode()[1]
                self.at.setdefault(arguments.get("limit", 0), []).append(time.monotonic())
        return self.at.get(limit, [])


@contextmanager
def listening(live: Live) -> Iterator[Fired]:
    with kombu.Connection(os.environ["CELERY_BROKER_URL"]) as connection:
        yield Fired(connection.default_channel, live.env["EVENTING_NAMESPACE"])


def schedule(live: Live, limit: int, *, every: int, ran_minutes_ago: int = 0) -> None:
    """Have the task run with this limit."""
    live.call(programs.schedule, TASK, limit, every, ran_minutes_ago)


def test_of_two_beats_one_fires_and_the_other_takes_over_when_it_dies(live: Live) -> None:
    with listening(live) as fired:
        second = live.spawn(*BEAT)
        try:
            schedule(live, 11, every=1)
            wait_until(lambda: len(fired.times(11)) >= 7, seconds=30)
            first, *_, last = fired.times(11)[:7]
            # Two that fire would need half the time; the first may come with the change of the schedule.
            assert last - first > 4.5

            live.processes.kill("beat")
            before = len(fired.times(11))
            killed_at = time.monotonic()
            wait_until(lambda: len(fired.times(11)) > before, seconds=TAKE_OVER_SECONDS)
            assert fired.times(11)[before] - killed_at < TAKE_OVER_SECONDS
        finally:
            second.terminate()
            second.wait(timeout=30)
            live.processes.restart("beat")


def test_what_was_missed_while_no_beat_ran_is_caught_up_at_once_and_once(live: Live) -> None:
    live.processes.kill("beat")
    try:
        schedule(live, 12, every=60, ran_minutes_ago=5)
        with listening(live) as fired:
            live.processes.restart("beat")
            wait_until(lambda: bool(fired.times(12)), seconds=30)
            schedule(live, 13, every=1)  # it comes after what was already due
            wait_until(lambda: len(fired.times(13)) >= 2, seconds=30)
            assert len(fired.times(12)) == 1
    finally:
        live.processes.restart("beat")


def test_a_run_that_ended_well_is_written_down_and_how_far_the_clocks_are_from_the_databases(live: Live) -> None:
    wait_until(lambda: bool(live.call(programs.worker_of_the_sweep)), seconds=60)
    worker = live.call(programs.worker_of_the_sweep)
    processes = {"beat", f"relay@{gethostname()}", worker}
    wait_until(lambda: processes <= live.call(programs.clocks_ahead).keys(), seconds=60)
    ahead = live.call(programs.clocks_ahead)
    assert [process for process in processes if abs(ahead[process]) >= 1] == []
