"""Back-pressure: full queues hold events back, outboxes that are too old hold customers back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta

import pytest
from celery import current_app
from django.contrib.auth.models import User
from django.db import connections
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from eventing import pressure, topology
from eventing.confirms import NotConfirmed
from eventing.errors import Overloaded
from eventing.locks import release_session_lock
from eventing.models import Event, OutboxMessage
from eventing.outbox import LOCK
from eventing.pressure import BACKLOG_MESSAGES, Load, Remembered
from eventing.publishing import Publisher
from eventing.relay import HELD_SECONDS, Relay
from eventing.testing import Collector, drain
from orders.models import Order
from sharding import numbers, shards
from tests.integration.conftest import Notes, NoteSentOut
from tests.integration.shop_api import Api, assert_problem, rows, stock_the_shop
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db(databases="__all__")


passed: list[float] = []  # seconds of the monotonic clock that a test lets pass


@pytest.fixture(autouse=True)
def limits(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The limits of the services profile, on both; what was measured in one test is nothing to the next."""
    settings.EVENTING_MAX_LAG_SECONDS = 30.0
    settings.EVENTING_QUEUE_HIGH_WATER = 2
    monkeypatch.setattr(pressure, "monotonic", lambda: time.monotonic() + sum(passed))
    pressure.reset()
    yield
    pressure.reset()
    passed.clear()


# --- The relay -------------------------------------------------------------------------------------------------------


def test_events_of_a_full_queue_wait_and_others_go_past_them(notes: Notes, settings: Settings) -> None:
    settings.EVENTING_RELAY_BATCH = 2
    notes.write(1, "a", "b", "c")
    notes.append(2, [NoteSentOut(text="outside")])
    full = {"notes"}
    collector = Collector()
    relay = Relay("default", sender=collector, durable=True, full=lambda: frozenset(full))

    assert relay.publish_once() == 0, "the subscriber wants both types, so both wait"
    assert OutboxMessage.objects.count() == 4
    try:
        assert relay._turn(0) == HELD_SECONDS
    finally:
        release_session_lock(connections["default"], LOCK)

    full.clear()
    assert [relay.publish_once(), relay.publish_once(), relay.publish_once()] == [2, 2, 0]
    assert not OutboxMessage.objects.exists()


def test_only_types_that_the_full_queue_wants_are_held_back(notes: Notes) -> None:
    notes.write(1, "a")
    stock_the_shop()
    others = OutboxMessage.objects.exclude(category="note").count()
    assert others
    collector = Collector()
    relay = Relay("default", sender=collector, durable=True, full=lambda: frozenset({"notes"}))

    assert relay.publish_once() == others

    assert OutboxMessage.objects.get().category == "note"
    assert not [message for message in collector.messages if message.subscriber == "notes"]


def test_a_full_queue_that_wants_every_event_holds_everything_back(notes: Notes) -> None:
    notes.write(1, "a")
    collector = Collector()
    relay = Relay("default", sender=collector, durable=True, full=lambda: frozenset({"integration"}))

    assert relay.publish_once() == 0
    assert (collector.messages, OutboxMessage.objects.count()) == ([], 1)


def test_an_answer_is_asked_for_once_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    remembered = Remembered(lambda: asked.append(1) or len(asked), 0)
    assert [remembered.get() for _ in range(100)] == [1] * 100

    monkeypatch.setattr(pressure, "REFRESH_SECONDS", 0.0)
    assert [remembered.get(), remembered.get()] == [2, 3]


def test_a_question_that_fails_is_not_repeated_at_once_either() -> None:
    asked = []

    def ask() -> int:
        asked.append(1)
        raise LookupError

    remembered = Remembered(ask, 7)
    with pytest.raises(LookupError):
        remembered.get()
    assert (remembered.get(), len(asked)) == (7, 1)


@pytest.mark.services
def test_messages_that_wait_for_workers_are_noticed(
    broker: None, notes: Notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pressure, "REFRESH_SECONDS", 0.0)
    load, relay = Load(), Relay("default")
    try:
        for version in range(BACKLOG_MESSAGES):
            assert not load.has_backlog()
            notes.write(1, "a", after=version)
            assert relay.publish_once() == 1
        wait_until(load.has_backlog)
    finally:
        relay.sender.close()
        load.close()


@pytest.mark.services
def test_a_queue_above_the_mark_gets_nothing_until_it_has_been_emptied(
    broker: None, notes: Notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = Load()
    relay = Relay("default", full=load.full)
    try:
        for version in range(2):
            notes.write(1, "a", after=version)
            assert relay.publish_once() == 1
        wait_until(lambda: "notes" in load.full())
        notes.write(1, "late", after=2)
        assert relay.publish_once() == 0
        assert OutboxMessage.objects.count() == 1

        with current_app.connection_for_write() as connection:
            for name in ("notes", "integration"):
                topology.work_queue(name)(connection.default_channel).purge()
        wait_until(lambda: relay.publish_once() == 1)
        assert not OutboxMessage.objects.exists()
    finally:
        relay.sender.close()
        load.close()


@pytest.mark.services
def test_a_broker_that_does_not_answer_leaves_the_last_answer_standing(
    broker: None, notes: Notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pressure, "REFRESH_SECONDS", 0.0)
    load = Load()
    with Publisher() as publisher:
        notes.write(1, "a")
        collector = Collector()
        Relay("default", sender=collector, durable=True).publish_once()
        [message] = [message for message in collector.messages if message.subscriber == "notes"]
        for _ in range(2):
            publisher.send(message)
    wait_until(lambda: load.full() == {"notes"})
    load.close()
    with monkeypatch.context() as broken:
        broken.setattr(current_app.conf, "broker_write_url", "amqp://guest:guest@127.0.0.1:1//")
        assert load.full() == {"notes"}


@pytest.mark.services
def test_a_queue_that_refuses_keeps_the_events_in_the_outbox(broker: None, notes: Notes) -> None:
    queue = topology.work_queue("notes")
    with current_app.connection_for_write() as connection:
        queue(connection.default_channel).delete()
        queue.queue_arguments |= {"x-max-length": 1}
        queue(connection.default_channel).declare()
    relay = Relay("default")

    def publish_until_refused() -> None:
        for version in range(50):  # quorum queues refuse a little later than they say
            notes.write(1, str(version), after=version)
            relay.publish_once()

    with pytest.raises(relay.sender.errors) as refused:
        publish_until_refused()
    assert isinstance(refused.value, NotConfirmed)
    waiting = OutboxMessage.objects.count()
    assert waiting == 1

    arrived: set[int] = set()
    with current_app.connection_for_read() as connection:
        bound = queue(connection.default_channel)

        def empty() -> bool:
            while (message := bound.get(no_ack=True)) is not None:
                arrived.update(event["version"] for event in message.payload[1]["events"])
            return bool(arrived)

        wait_until(empty)
        assert relay.publish_once() == waiting
        wait_until(lambda: empty() and len(arrived) == Event.objects.filter(category="note").count())
    relay.sender.close()


# --- The edge --------------------------------------------------------------------------------------------------------


@pytest.fixture
def api() -> Api:
    stock_the_shop()
    drain()
    return Api.of("ann", id=1)


def grow_old(alias: str, seconds: float) -> None:
    """Nobody publishes what is in this outbox, and this process sees it wait."""
    assert OutboxMessage.objects.using(alias).exists()
    passed.append(pressure.REFRESH_SECONDS)
    with suppress(Overloaded):
        pressure.admit(alias)
    passed.append(seconds)


ORDER = {"lines": [{"sku": "BOOK", "quantity": 1}]}


def test_orders_are_refused_while_the_outbox_is_old_and_welcome_when_it_is_not(api: Api) -> None:
    assert api.order(ORDER).status_code == 202
    alias = shards.alias_of_bucket(numbers.bucket_of_customer(1))
    grow_old(alias, 31)
    before = rows()

    refused = api.order(ORDER, key="again")

    assert_problem(refused, 503, "overloaded")
    assert refused.headers["Retry-After"] == "5"
    assert rows() == before
    drain()
    pressure.reset()
    assert api.order(ORDER, key="again").status_code == 202


def test_customers_of_other_databases_do_not_notice(api: Api) -> None:
    assert api.order(ORDER).status_code == 202
    alias = shards.alias_of_bucket(numbers.bucket_of_customer(1))
    grow_old(alias, 300)
    other = next(one for one in range(2, 130) if shards.alias_of_bucket(numbers.bucket_of_customer(one)) != alias)

    assert Api.of("bob", id=other).order(ORDER).status_code == 202
    assert_problem(api.order(ORDER), 503, "overloaded")


@pytest.mark.parametrize("hours", [-37, 37])
def test_clocks_of_those_who_wrote_events_do_not_say_how_long_they_wait(api: Api, hours: int) -> None:
    assert api.order(ORDER).status_code == 202
    alias = shards.alias_of_bucket(numbers.bucket_of_customer(1))
    Event.objects.using(alias).update(recorded_at=timezone.now() + timedelta(hours=hours))
    grow_old(alias, 29)
    assert api.order(ORDER).status_code == 202
    passed.append(2)
    assert_problem(api.order(ORDER), 503, "overloaded")


def test_an_outbox_that_moves_on_is_as_old_as_its_oldest_event(notes: Notes) -> None:
    waiting = pressure.Waiting("default")
    found = []
    for version in range(8):  # an event a second comes, and the relay is three behind
        notes.write(1, "a", after=version)
        if version >= 3:
            Relay("default", sender=Collector(), durable=True)._delete([OutboxMessage.objects.earliest("id").pk])
        found.append(round(waiting.seconds()))
        passed.append(1)

    assert found == [0, 1, 2, 2, 2, 2, 2, 2]
    OutboxMessage.objects.all().delete()
    assert waiting.seconds() == 0


def test_a_lag_below_the_limit_or_no_limit_refuses_nobody(api: Api, settings: Settings) -> None:
    assert api.order(ORDER).status_code == 202
    alias = shards.alias_of_bucket(numbers.bucket_of_customer(1))
    grow_old(alias, 20)
    assert api.order(ORDER).status_code == 202
    grow_old(alias, 3_000)
    settings.EVENTING_MAX_LAG_SECONDS = 0
    assert api.order(ORDER).status_code == 202


def test_reading_paying_and_cancelling_go_on(api: Api) -> None:
    number = api.place(("BOOK", 1))
    drain()
    api.place(("BOOK", 1))
    grow_old(shards.alias_of_bucket(numbers.bucket_of_customer(1)), 300)

    assert api.get(f"/orders/{number}").status_code == 200
    assert api.post(f"/orders/{number}/pay", {"payment_token": "tok_ok"}).status_code == 202
    other = api.get("/orders").json()["items"][0]["number"]
    assert api.post(f"/orders/{other}/cancel", {}).status_code == 200


def test_checkout_says_so_and_keeps_the_cart(api: Api) -> None:
    api.place(("BOOK", 1))
    alias = shards.alias_of_bucket(numbers.bucket_of_customer(1))
    grow_old(alias, 300)
    browser = Client()
    browser.force_login(User.objects.get(pk=1))
    browser.post("/products/PEN/add/", {"quantity": "2"})
    page = browser.get("/checkout/").content.decode()
    key, prices = (page.partition(f'name="{name}" value="')[2].partition('"')[0] for name in ("key", "prices"))
    form = {"name": "Ann", "street": "Quay 1", "postal_code": "20457", "city": "Hamburg", "country": "DE"}
    form |= {"key": key, "prices": prices, "action": "place"}

    refused = browser.post("/checkout/", form)

    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
    assert "Your cart is as it was" in refused.content.decode()
    assert Order.objects.using(alias).count() == 1
    drain()
    pressure.reset()
    assert browser.post("/checkout/", form).status_code == 302
    assert Order.objects.using(alias).count() == 2
