"""Several databases are queried at the same time, each with a deadline that the server keeps, too."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.db import OperationalError, connections, transaction

from eventing import fan_out
from eventing.databases import time_limit
from sharding import shards
from tests.integration.locked import locked

services = pytest.mark.services


@pytest.fixture(autouse=True)
def databases(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """Without a transaction, and nothing to clean up afterwards, because nothing is written."""
    with django_db_blocker.unblock():
        yield
        connections.close_all()


def first_order(alias: str) -> str:
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT id FROM orders_order LIMIT 1")
    return alias


def thread_of(alias: str) -> threading.Thread:
    first_order(alias)
    return threading.current_thread()


def threads_of_queries(*aliases: str) -> list[threading.Thread]:
    return list(fan_out.query(aliases, thread_of, seconds=10).values.values())


def test_answers_come_in_the_order_of_the_databases() -> None:
    backwards = tuple(reversed(shards.aliases()))

    answers = fan_out.query(backwards, lambda alias: alias.upper(), seconds=10)

    assert list(answers.values.items()) == [(alias, alias.upper()) for alias in backwards]
    assert answers.unavailable == {}
    assert fan_out.query((), thread_of, seconds=10).values == {}


@services
def test_several_databases_are_asked_in_a_thread_each_and_one_alone_in_none() -> None:
    here = threading.current_thread()
    together = threading.Barrier(len(shards.aliases()))

    def meet(alias: str) -> threading.Thread:
        together.wait(timeout=10)  # a thread that has answered would be used again
        return thread_of(alias)

    several = fan_out.query(shards.aliases(), meet, seconds=20).values.values()

    assert len({here, *several}) == 1 + len(shards.aliases())
    assert threads_of_queries("orders_0") == [here]


def test_within_a_transaction_its_own_connection_is_asked() -> None:
    with transaction.atomic(using="orders_0"), transaction.atomic(using="orders_1"):
        assert threads_of_queries("orders_0", "orders_1") == [threading.current_thread()] * 2


@services
def test_databases_that_hang_cost_one_deadline_together_and_are_named() -> None:
    first, *others = shards.aliases()
    with locked(*others):
        started = time.monotonic()
        answers = fan_out.query(shards.aliases(), first_order, seconds=1)
        took = time.monotonic() - started

    assert answers.values == {first: first}
    assert [*answers.unavailable] == others
    assert 1 <= took < len(others)


@services
def test_the_server_breaks_late_statements_off_so_that_no_connection_is_lost() -> None:
    hangs, *_ = shards.aliases()
    with locked(hangs):  # which waits until nobody waits there
        for _ in range(2 * settings.DATABASE_POOL_SIZE):
            assert [*fan_out.query(shards.aliases(), first_order, seconds=0.5).unavailable] == [hangs]

    assert fan_out.query(shards.aliases(), first_order, seconds=10).unavailable == {}


@services
def test_a_database_that_is_asked_alone_has_its_deadline_too() -> None:
    with locked("orders_0"):
        assert [*fan_out.query(["orders_0"], first_order, seconds=0.2).unavailable] == ["orders_0"]


def take(seconds: float) -> None:
    """Let a statement run for so long."""
    with connections["orders_0"].cursor() as cursor:
        cursor.execute("SELECT pg_sleep(%s)", [seconds])


@services
def test_a_statement_is_broken_off_at_the_limit_and_none_after_the_block() -> None:
    with pytest.raises(OperationalError, match="cancel"), time_limit(connections["orders_0"], 0.1):
        take(60)
    with time_limit(connections["orders_0"], 0.1):
        pass
    take(0.3)


@services
def test_what_begins_after_the_limit_is_broken_off_too() -> None:
    with time_limit(connections["orders_0"], 0.1):
        with pytest.raises(OperationalError, match="cancel"):
            take(60)
        with pytest.raises(OperationalError, match="cancel"):
            take(60)


@services
def test_a_transaction_has_no_limit() -> None:
    with transaction.atomic(using="orders_0"), time_limit(connections["orders_0"], 0.1):
        take(0.3)


@services
def test_threads_give_their_connections_back_and_need_no_more_than_one_of_a_database() -> None:
    first_order("orders_0")  # this thread has one now, which the other would have to wait for
    connections["orders_0"].pool.resize(0, 1)
    try:
        for _ in range(3):
            assert fan_out.query(shards.aliases(), first_order, seconds=10).unavailable == {}
        assert connections["orders_0"].connection is None
    finally:
        connections["orders_0"].pool.resize(0, settings.DATABASE_POOL_SIZE)


def test_a_database_that_is_away_is_unavailable_and_a_mistake_is_not_taken_for_it() -> None:
    def away(alias: str) -> str:
        if alias == "orders_0":
            raise OperationalError("connection refused")
        return alias

    def wrong(alias: str) -> str:
        raise KeyError(alias)

    assert [*fan_out.query(["orders_0", "orders_1"], away, seconds=10).unavailable] == ["orders_0"]
    with pytest.raises(KeyError):
        fan_out.query(["orders_0", "orders_1"], wrong, seconds=10)
