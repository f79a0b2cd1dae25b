"""What a relay has published is in the queues, whoever else published at the same time and whatever went wrong."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import pytest
from celery import current_app
from django.utils import timezone
from kombu import Queue

from eventing import confirms, publishing
from eventing.confirms import ConfirmedProducer, NotConfirmed
from eventing.publishing import Publisher, SharedPublisher, Wanted
from eventing.wire import Envelope
from tests.waiting import wait_until

NOON = timezone.now()


def events(*versions: int) -> list[Envelope]:
    return [
        Envelope(
            stream_id=1,
            category="note",
            version=version,
            type="note.written",
            schema_version=1,
            data={},
            metadata={},
            recorded_at=NOON,
        )
        for version in versions
    ]


class Slow(Publisher):
    """Takes what it is given when it is let, or fails."""

    errors = (ConnectionError,)

    def __init__(self, failure: Exception | None = None) -> None:
        self.may_go = threading.Event()
        self.taken: list[dict[str, list[int]]] = []
        self.times: list[float] = []
        self.failure = failure

    def send_all(self, wanted: Wanted, *, published_at: datetime) -> None:
        self.taken.append({name: [one.version for one in envelopes] for name, envelopes in wanted.items()})
        self.times.append(time.monotonic())
        assert self.may_go.wait(10)
        if self.failure is not None:
            raise self.failure


@contextmanager
def in_threads(*calls: Callable[[], None]) -> Iterator[list[str]]:
    """Run each call in a thread; yields what has become of them so far, and is left when all have ended."""
    ended: list[str] = []

    def run(call: Callable[[], None]) -> None:
        try:
            call()
            ended.append("sent")
        except Exception as error:
            ended.append(repr(error))

    threads = [threading.Thread(target=run, args=[call]) for call in calls]
    for thread in threads:
        thread.start()
    try:
        yield ended
    finally:
        for thread in threads:
            thread.join(10)


def send(shared: SharedPublisher, **wanted: list[Envelope]) -> Callable[[], None]:
    return lambda: shared.send_all(wanted, published_at=NOON)


def test_what_waits_while_somebody_publishes_travels_together() -> None:
    slow = Slow()
    shared = SharedPublisher(publisher=slow)
    with in_threads(send(shared, orders=events(1))) as first:
        wait_until(lambda: bool(slow.taken))
        with in_threads(
            send(shared, orders=events(2), coupons=events(2)),
            send(shared, orders=events(3)),
            send(shared, orders=events(4)),
        ) as others:
            wait_until(lambda: len(shared._waiting) == 3)
            assert (first, others) == ([], []), "nobody goes on before the broker has confirmed"
            slow.may_go.set()
    assert (first, others) == (["sent"], ["sent"] * 3)
    assert [sorted(taken) for taken in slow.taken] == [["orders"], ["coupons", "orders"]]
    assert sorted(slow.taken[1]["orders"]) == [2, 3, 4]


@pytest.mark.parametrize("failure", [ConnectionError("gone"), AssertionError("a bug")])
def test_a_failure_is_told_to_all_whose_events_were_in_it(failure: Exception) -> None:
    slow = Slow(failure)
    shared = SharedPublisher(publisher=slow)
    with in_threads(send(shared, orders=events(1))) as first:
        wait_until(lambda: bool(slow.taken))
        with in_threads(send(shared, orders=events(2)), send(shared, orders=events(3))) as others:
            wait_until(lambda: len(shared._waiting) == 2)
            slow.may_go.set()
    assert (first, others) == ([repr(failure)], [repr(failure)] * 2)
    slow.failure = None
    shared.send_all({"orders": events(4)}, published_at=NOON)
    assert slow.taken[-1] == {"orders": [4]}


def test_events_are_gathered_while_workers_are_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "GATHER_SECONDS", 0.4)
    slow = Slow()
    slow.may_go.set()
    behind = {"workers"}
    shared = SharedPublisher(publisher=slow, has_backlog=lambda: bool(behind))
    send(shared, orders=events(1))()
    with in_threads(*(send(shared, orders=events(version)) for version in (2, 3, 4))):
        """They wait, and then leave together."""
    assert [len(taken["orders"]) for taken in slow.taken] == [1, 3]
    assert slow.times[1] - slow.times[0] >= 0.9 * 0.4  # waiting ends a little early at times

    monkeypatch.setattr(publishing, "GATHER_SECONDS", 60.0)
    send(shared, orders=events(*range(5, 205)))()  # as many as go into a message
    assert [len(taken["orders"]) for taken in slow.taken] == [1, 3, 200]


def test_events_are_gathered_the_longer_the_more_of_them_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "GATHER_SECONDS", 0.4)
    monkeypatch.setattr(publishing, "BUSY_RATE", 50)
    slow = Slow()
    slow.may_go.set()
    shared = SharedPublisher(publisher=slow)
    pauses = []
    for first in range(0, 1_000, 100):
        send(shared, orders=events(*range(first, first + 100)))()
        pauses.append(slow.times[-1] - slow.times[max(0, len(slow.times) - 2)])
    assert pauses[0] < 0.2, "who comes alone does not wait"
    assert pauses[-1] >= 0.9 * 0.4


def test_relays_rest_until_shortly_before_the_next_message_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "GATHER_SECONDS", 60.0)
    slow = Slow()
    slow.may_go.set()
    behind = {"workers"}
    shared = SharedPublisher(publisher=slow, has_backlog=lambda: bool(behind))
    send(shared, orders=events(*range(200)))()
    assert 0 < 48.0 - shared.rest() < 10

    behind.clear()
    shared._rate = 0.0
    assert shared.rest() == 0.0


@pytest.fixture
def confirmed(broker: None) -> Iterator[ConfirmedProducer]:
    producer = ConfirmedProducer()
    yield producer
    producer.close()


def publish(confirmed: ConfirmedProducer, name: str, messages: int) -> None:
    for number in range(messages):
        confirmed.producer.publish(b"%d" % number, routing_key=name, exchange="", mandatory=True)
        confirmed.published()


@contextmanager
def queue(**arguments: Any) -> Iterator[SimpleNamespace]:
    """A queue of the test's own: its name, and how many messages it has."""
    with current_app.connection_for_write() as connection:
        name = f"test-{time.monotonic_ns()}"
        bound = Queue(name, durable=True, queue_arguments={"x-queue-type": "quorum", **arguments})(
            connection.default_channel
        )
        bound.declare()
        try:
            yield SimpleNamespace(name=name, messages=lambda: bound.queue_declare(passive=True).message_count)
        finally:
            bound.delete()


@pytest.mark.services
@pytest.mark.django_db
def test_confirmed_messages_are_in_the_queue(confirmed: ConfirmedProducer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confirms, "UNANSWERED", 100)
    with queue() as own:
        publish(confirmed, own.name, 250)
        assert len(confirmed._open) < 100, "it does not run away from the broker"
        confirmed.confirm()
        assert own.messages() == 250
        confirmed.confirm()  # nothing new


@pytest.mark.services
@pytest.mark.django_db
def test_a_message_that_goes_nowhere_or_is_refused_is_not_confirmed(confirmed: ConfirmedProducer) -> None:
    publish(confirmed, "there is no such queue", 1)
    with pytest.raises(confirmed.errors, match="NO_ROUTE"):
        confirmed.confirm()
    confirmed.close()

    with queue(**{"x-max-length": 1, "x-overflow": "reject-publish"}) as own:

        def publish_until_refused() -> None:
            for _ in range(50):  # quorum queues refuse a little later than they say
                publish(confirmed, own.name, 2)
                confirmed.confirm()

        with pytest.raises(NotConfirmed, match="refused"):
            publish_until_refused()
        confirmed.close()
    with queue() as own:
        publish(confirmed, own.name, 2)
        confirmed.confirm()
        assert own.messages() == 2


@pytest.mark.services
@pytest.mark.django_db
def test_a_broker_that_does_not_answer_in_time_has_not_confirmed(
    confirmed: ConfirmedProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confirmed, "_seconds", 0.0)
    with queue() as own:
        publish(confirmed, own.name, 1)
        with pytest.raises(NotConfirmed, match="not confirmed within"):
            confirmed.confirm()
