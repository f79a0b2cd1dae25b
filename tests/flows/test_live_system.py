"""The whole system from outside: processes, HTTP, and many customers at once."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any

import psycopg
import pytest

from lab.client import Client, RequestFailed
from tests import programs
from tests.live import Live
from tests.waiting import wait_until

PIECES = 100
ORDERS = 200
CLIENTS = 32


def test_an_order_is_confirmed_within_a_second_and_paid(live: Live) -> None:
    live.product("LIVE-1", 5)
    client = live.client()
    client.wait_for(client.place(("LIVE-1", 1)), "confirmed")  # the first one finds cold caches

    number = client.place(("LIVE-1", 2))
    client.wait_for(number, "confirmed")
    at = {event["type"]: datetime.fromisoformat(event["recorded_at"]) for event in client.events(number)}
    assert (at["order.confirmed"] - at["order.placed"]).total_seconds() < 1

    client.pay(number)
    client.wait_for(number, "paid")
    with pytest.raises(RequestFailed, match="already_paid"):
        client.pay(number)
    assert live.stock("LIVE-1") == (5, 3, 2)


@pytest.mark.services
def test_workers_keep_their_connections_from_task_to_task(live: Live) -> None:
    live.product("LIVE-5", 30)
    client = live.client()

    def sessions() -> int:
        with psycopg.connect(live.database()) as connection:
            query = "SELECT sessions FROM pg_stat_database WHERE datname = current_database()"
            return int(connection.execute(query).fetchall()[0][0])

    client.wait_for(client.place(("LIVE-5", 1)), "confirmed")
    before = sessions()
    for _ in range(20):  # at least a hundred tasks
        client.wait_for(client.place(("LIVE-5", 1)), "confirmed")
    assert sessions() - before < 50


def test_a_shortage_rejects_the_order(live: Live) -> None:
    live.product("LIVE-2", 1)
    client = live.client()
    number = client.place(("LIVE-2", 2))

    order = client.wait_for(number, "rejected")

    assert order["reason"] == "out_of_stock"
    assert live.stock("LIVE-2") == (1, 0, 1)


def test_a_cancelled_order_gives_its_stock_back(live: Live) -> None:
    live.product("LIVE-3", 3)
    client = live.client()
    number = client.place(("LIVE-3", 3))
    client.wait_for(number, "confirmed")

    client.cancel(number)

    assert client.order(number)["status"] == "cancelled"
    wait_until(lambda: live.stock("LIVE-3") == (3, 0, 3), seconds=20)


def test_the_same_key_fired_at_once_makes_one_order(live: Live) -> None:
    live.product("LIVE-4", 50)
    token = live.client().token
    clients = [Client(live.url, token=token) for _ in range(50)]

    def place(client: Client, index: int) -> Any:
        try:
            return client.place(("LIVE-4", 1), key="the-same-key")
        except RequestFailed as refusal:
            return refusal.code

    numbers = set(live.in_parallel(clients, 50, place)) - {"idempotency_in_flight"}

    assert len(numbers) == 1
    clients[0].wait_for(numbers.pop(), "confirmed")
    assert live.stock("LIVE-4") == (50, 1, 49)


def test_a_hundred_pieces_go_to_exactly_a_hundred_of_two_hundred_orders(live: Live) -> None:
    live.product("RARE", PIECES)
    clients = live.shoppers(CLIENTS)

    def place(client: Client, index: int) -> tuple[Client, str]:
        return client, client.place(("RARE", 1))

    placed = live.in_parallel(clients, ORDERS, place)
    outcomes = Counter(
        client.wait_for(number, "confirmed", "rejected", seconds=60)["status"] for client, number in placed
    )

    assert outcomes == {"confirmed": PIECES, "rejected": ORDERS - PIECES}
    assert live.stock("RARE") == (PIECES, PIECES, 0)


def test_a_coupon_with_limit_one_is_redeemed_once_by_many_at_once(live: Live) -> None:
    live.product("PLENTY", 1_000)
    live.call(programs.add_coupon, "ONLY-ONE", 1)
    clients = live.shoppers(CLIENTS)

    def place(client: Client, index: int) -> tuple[Client, str]:
        try:
            return client, client.place(("PLENTY", 1), coupon="ONLY-ONE")
        except RequestFailed as refusal:  # quoted after somebody has redeemed it
            return client, refusal.code

    answers = live.in_parallel(clients, CLIENTS, place)
    placed = [(client, answer) for client, answer in answers if answer != "coupon_used_up"]
    outcomes = Counter(
        client.wait_for(number, "confirmed", "rejected", seconds=60)["status"] for client, number in placed
    )

    assert outcomes["confirmed"] == 1
    assert outcomes.total() == len(placed)
    assert live.call(programs.redeemed, "ONLY-ONE") == 1
    wait_until(lambda: live.stock("PLENTY") == (1_000, 1, 999), seconds=20)
