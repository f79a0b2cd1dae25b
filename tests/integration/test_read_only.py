"""A database that only lets itself be read: a standby after a failover, a server that protects itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import current_app
from django.conf import settings
from django.contrib.auth.models import User
from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.test import Client
from django.urls import reverse

from eventing import outbox, queues, topology
from eventing import tasks as tasks_of_the_backbone
from eventing.databases import is_postgresql
from eventing.delivery import Outcome
from eventing.fan_out import on_each
from eventing.models import DeadLetter, OutboxMessage
from eventing.publishing import Publisher
from eventing.relay import Relay
from eventing.transient import SQLSTATES, is_transient
from eventing.wire import Message
from orders import tasks
from orders.models import Order
from sharding import shards
from tests.factories import OperatorFactory
from tests.integration.conftest import Notes
from tests.integration.shop_api import PASSWORD, Api, assert_problem, stock_the_shop
from tests.integration.test_delivery import deliver, envelopes
from tests.integration.test_relay import Collector
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db(databases="__all__", transaction=True)


@contextmanager
def read_only(*aliases: str) -> Iterator[None]:
    """As the server does it to whoever connects from now on."""
    try:
        for alias in aliases:
            _set(alias, "on")
        yield
    finally:
        for alias in aliases:
            _set(alias, "off")


def _set(alias: str, value: str) -> None:
    connection = connections[alias]
    with connection.cursor() as cursor:
        if not is_postgresql(connection):
            cursor.execute(f"PRAGMA query_only = {value}")
            return
        cursor.execute("SET default_transaction_read_only = off")
        name = connection.ops.quote_name(connection.settings_dict["NAME"])
        cursor.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = {value}")
    connection.close()
    connection.close_pool()  # type: ignore[attr-defined]


def assert_sorry(response: Any, what: str) -> None:
    assert (response.status_code, response.headers.get("Retry-After")) == (503, "5"), what


def test_every_door_says_when_to_come_back() -> None:
    stock_the_shop()
    ann = Api.of("ann", id=1)
    ann.set_password()
    number = ann.place(("BOOK", 1))
    OperatorFactory.create(username="root", id=2, password=PASSWORD)
    visitor, shopper, operator = (Client(raise_request_exception=False) for _ in range(3))
    shopper.force_login(ann.customer)
    operator.force_login(User.objects.get(username="root"))
    assert shopper.post("/products/PEN/add/", {"quantity": 1}).status_code == 302

    with read_only(*settings.DATABASES):
        assert visitor.get("/products/BOOK/").status_code == 200
        assert shopper.get(f"/orders/{number}/").status_code == 200
        assert ann.get(f"/orders/{number}").status_code == 200
        posts = [
            (visitor, reverse("storefront:login"), {"username": "ann", "password": PASSWORD}),
            (visitor, reverse("admin:login"), {"username": "root", "password": PASSWORD}),
            (visitor, reverse("storefront:register"), registration()),
            (visitor, "/products/PEN/add/", {"quantity": 1}),  # only its session is written, by a middleware
            (shopper, f"/orders/{number}/cancel/", {}),
            (operator, reverse("admin:auth_group_add"), {"name": "helpers"}),
        ]
        for client, path, data in posts:
            assert_sorry(client.post(path, data), path)
        assert_problem(ann.order({"lines": [{"sku": "PEN", "quantity": 1}]}), 503, "unavailable")
        refused = ann.post(f"/orders/{number}/cancel")
        assert_problem(refused, 503, "unavailable")
        assert_sorry(refused, "the API")
        token = {"username": "ann", "password": PASSWORD}
        answer = visitor.post("/api/v1/token", json.dumps(token), content_type="application/json")
        assert answer.status_code in (200, 503)

    assert Order.objects.using(shards.alias_of_bucket(1)).get().status == "placed"
    assert ann.post(f"/orders/{number}/cancel").status_code == 200


def registration() -> dict[str, str]:
    return {"username": "zoe", "email": "zoe@example.org", "password1": PASSWORD, "password2": PASSWORD}


def test_a_sweep_goes_past_a_shard_that_cannot_be_written(settings: Any) -> None:
    first, second = shards.aliases()[:2]
    stock_the_shop()
    settings.ORDER_PAYMENT_TIMEOUT = timedelta(milliseconds=1)
    for alias in (first, second):
        Api.of(f"of_{alias}", id=shards.buckets_of(alias)[1]).place(("BOOK", 1))

    with read_only(first):
        assert tasks.cancel_overdue_orders() == 1
        assert Order.objects.using(second).get().status == "cancelled"

    assert Order.objects.using(first).get().status == "placed"
    assert tasks.cancel_overdue_orders() == 1


def test_a_delivery_waits_for_its_database_with_the_whole_batch(notes: Notes) -> None:
    notes.write(1, "a", "b")
    batch = envelopes()

    with read_only(DEFAULT_DB_ALIAS):
        outcome = deliver(batch)
        again = deliver(batch, attempt=settings.EVENTING_MAX_ATTEMPTS)

    assert outcome == Outcome(retry_batches=[batch])
    assert again.retry == batch, "the dead letters cannot be written either"
    assert deliver(batch, attempt=2) == Outcome(handled=2)
    assert not DeadLetter.objects.exists()


@pytest.mark.services
def test_dead_letters_of_the_broker_wait_there_untouched(notes: Notes, broker: None) -> None:
    notes.write(1, "a")
    with Publisher() as publisher, current_app.connection_for_read() as connection:
        publisher.send(Message(subscriber="notes", events=envelopes(), published_at=datetime.now(UTC)))
        topology.work_queue("notes")(connection.default_channel).get(no_ack=False).reject(requeue=False)
        wait_until(lambda: waiting("dead-letters") == 1)

        with read_only(DEFAULT_DB_ALIAS):
            assert tasks_of_the_backbone.collect_dead_letters() == 0

        message = topology.dead_letter_queue()(connection.default_channel).get(no_ack=False)
        assert not message.delivery_info["redelivered"], "it was taken out and put back"
        message.reject(requeue=True)
        wait_until(lambda: tasks_of_the_backbone.collect_dead_letters() == 1)
    assert DeadLetter.objects.count() == 1


def waiting(queue: str) -> int | None:
    return {depth.name: depth.messages for depth in queues.depths(seconds=5)}[queue]


def test_a_relay_publishes_once_what_it_cannot_delete(notes: Notes) -> None:
    notes.write(1, "a")
    collector = Collector()
    turn = Relay(DEFAULT_DB_ALIAS, sender=collector, durable=True)

    with read_only(DEFAULT_DB_ALIAS):
        for _ in range(3):
            with pytest.raises(Exception, match=r"read.?only"):
                turn.publish_once()
    assert outbox.lag(DEFAULT_DB_ALIAS).waiting == 1
    notes.write(2, "b")
    turn.publish_once()

    sent = [envelope.stream_id for message in collector.messages for envelope in message.events]
    assert sorted(set(sent)) == [1, 2]
    assert len(sent) == len(set(sent)) * len({message.subscriber for message in collector.messages})
    assert not OutboxMessage.objects.exists()


@pytest.mark.services
@pytest.mark.parametrize(("sqlstate", "passes"), [*((s.ljust(5, "0"), True) for s in SQLSTATES), ("P0001", False)])
def test_django_hands_the_servers_own_code_through(sqlstate: str, passes: bool) -> None:
    with pytest.raises(Exception) as raised, transaction.atomic(), connections["default"].cursor() as cursor:  # noqa: PT011
        cursor.execute(f"DO $$ BEGIN RAISE EXCEPTION 'said the server' USING ERRCODE = '{sqlstate}'; END $$")
    assert is_transient(raised.value) is passes


@pytest.mark.services
@pytest.mark.parametrize(
    "statement",
    [
        "SET LOCAL statement_timeout = 1; SELECT pg_sleep(1)",
        "SET TRANSACTION READ ONLY; DELETE FROM eventing_outbox",
        "SELECT pg_terminate_backend(pg_backend_pid())",
    ],
)
def test_what_a_server_really_does_passes(statement: str) -> None:
    with pytest.raises(Exception) as raised, transaction.atomic(), connections["default"].cursor() as cursor:  # noqa: PT011
        cursor.execute(statement)
    assert is_transient(raised.value)


def test_a_loop_over_databases_ends_at_none_of_them() -> None:
    asked: list[str] = []

    def work(alias: str) -> int:
        asked.append(alias)
        if alias == "one":
            raise ValueError("a bug")
        if alias == "two":
            raise ConnectionError("away")
        return 1

    with pytest.raises(ValueError, match="a bug"):
        on_each(["one", "two", "three"], work, task="test")
    assert asked == ["one", "two", "three"]
    assert on_each(["two", "three"], work, task="test").values == {"three": 1}
