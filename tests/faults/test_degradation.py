"""Too much at once, too slow, or told to stop: what is accepted is kept, what is not is told to come back."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from lab.client import Client
from tests import programs
from tests.faults.test_faults import is_open
from tests.live import Live
from tests.waiting import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.services]


def waits_for_a_lock(observer: psycopg.Connection[tuple[int]]) -> bool:
    waiting = observer.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    ).fetchone()
    return waiting != (0,)


@contextmanager
def restarted_with(live: Live, service: str, **environment: str) -> Iterator[None]:
    """Run a service with other settings for a while."""
    before = live.processes.env
    try:
        live.processes.env = {**before, **environment}
        restart(live, service)
        yield
    finally:
        live.processes.env = before
        restart(live, service)


def restart(live: Live, service: str) -> None:
    live.processes.restart(service)
    visitor = Client(live.url)
    wait_until(lambda: is_open(visitor), seconds=90)
    visitor.close()


def shard_of(live: Live, number: str) -> str:
    """The URL of the database that an order is in."""
    return live.database(f"_{live.call(programs.shard_of, number)}")


def answer(client: Client, sku: str, quantity: int, key: str) -> str:
    """How the shop answers this order now; the order's number does not matter."""
    body = {"lines": [{"sku": sku, "quantity": quantity}]}
    status, found = client.request("POST", "orders", body, headers={"Idempotency-Key": key})
    return f"{status} {found.get('code', '')}".strip()


def test_orders_are_shed_while_nobody_publishes_and_the_client_that_waits_succeeds(live: Live) -> None:
    live.product("SHED", 10)
    with restarted_with(live, "web", EVENTING_MAX_LAG_SECONDS="1"):
        client = live.client()
        live.processes.stop_service("relay")
        try:
            first = client.place(("SHED", 1))
            wait_until(lambda: answer(client, "SHED", 1, "the-one") == "503 overloaded", seconds=30)
            assert client.order(first)["status"] == "placed", "reading goes on"
        finally:
            live.processes.start_service("relay")
        wait_until(lambda: answer(client, "SHED", 1, "the-one") == "202", seconds=30)
        number = client.place(("SHED", 1), key="the-one")
        for one in (first, number):
            client.wait_for(one, "confirmed", seconds=30)


def test_a_worker_that_is_told_to_stop_finishes_what_it_has_in_hand(live: Live) -> None:
    live.product("STOP", 10)
    client = live.client()
    with psycopg.connect(live.database()) as blocker, psycopg.connect(live.database(), autocommit=True) as observer:
        blocker.execute("SELECT 1 FROM inventory_stock WHERE sku = 'STOP' FOR UPDATE")
        number = client.place(("STOP", 1))
        wait_until(lambda: waits_for_a_lock(observer), seconds=20)
        worker = live.processes.running["worker-inventory"]
        worker.ask_to_end()
        wait_until(lambda: "Warm shutdown" in live.processes.tail("worker-inventory"), seconds=20)
        assert worker.is_running, "it waits for the transaction that it has begun"
        later = client.place(("STOP", 1))
        blocker.rollback()
    try:
        wait_until(lambda: not worker.is_running, seconds=20)
        assert worker.code == 0
        client.wait_for(number, "confirmed")  # and there is no other worker that could have done it
        assert client.order(later)["status"] == "placed"
    finally:
        live.processes.restart("worker-inventory")
    client.wait_for(later, "confirmed", seconds=30)
    assert live.stock("STOP") == (10, 2, 8)


def test_a_batch_that_takes_too_long_is_cut_into_single_events_and_none_is_lost(live: Live) -> None:
    live.product("SLOW", 10)
    client = live.client()
    numbers = [client.place(("SLOW", 1)) for _ in range(6)]
    for number in numbers:
        client.wait_for(number, "confirmed", seconds=30)
    with restarted_with(live, "worker-payments", TASK_SOFT_TIME_LIMIT="2", SANDBOX_SLOW_SECONDS="0.8"):
        live.processes.stop_service("relay")
        for number in numbers:
            client.pay(number, "tok_slow")
        live.processes.start_service("relay")
        for number in numbers:
            client.wait_for(number, "paid", seconds=60)
        assert "time limit" in live.processes.tail("worker-payments", lines=500)
    assert live.call(programs.dead_letters_of, "payments") == 0


def test_a_key_whose_request_died_with_its_process_can_be_used_again(live: Live) -> None:
    live.product("KEY", 10)
    client = live.client()
    number = client.place(("KEY", 1))
    shard = shard_of(live, number)
    failed: list[BaseException] = []

    def place(other: Client) -> None:
        try:
            other.place(("KEY", 2), key="half-way")
        except (OSError, http.client.HTTPException) as error:
            failed.append(error)

    with psycopg.connect(shard) as blocker, psycopg.connect(shard, autocommit=True) as observer:
        # The key is written first, the lines of the order last.
        blocker.execute("LOCK TABLE orders_orderline IN EXCLUSIVE MODE")
        thread = threading.Thread(target=place, args=[Client(live.url, token=client.token)])
        thread.start()
        wait_until(lambda: waits_for_a_lock(observer), seconds=20)
        assert answer(client, "KEY", 2, "half-way") == "409 idempotency_in_flight"
        live.processes.kill("web")
        thread.join(timeout=30)
        blocker.rollback()
    client.close()
    restart(live, "web")

    assert failed, "the first request was never answered"
    wait_until(lambda: answer(client, "KEY", 2, "half-way") == "202", seconds=20)
    again = client.place(("KEY", 2), key="half-way")
    client.wait_for(again, "confirmed", seconds=30)
    client.wait_for(number, "confirmed", seconds=30)
    assert live.stock("KEY") == (10, 3, 7), "one piece and one time two"
