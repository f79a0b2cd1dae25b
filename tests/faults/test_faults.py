"""Processes are killed and services taken away; afterwards nothing is lost and nothing happened twice."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path

import psycopg
import pytest

from loadtest.client import Client, RequestFailed
from loadtest.stack import Embedded
from tests.live import Live
from tests.waiting import wait_until

pytestmark = pytest.mark.faults

# A relay that dies in the worst moment: the broker has the messages, the outbox still has the rows.
DYING_RELAY = """
import os, signal
import django
django.setup()
from django.conf import settings
from eventing.relay import Relay

class DyingRelay(Relay):
    def _delete(self, outbox_ids):
        os.kill(os.getpid(), signal.SIGKILL)

for alias in settings.DATABASES:
    DyingRelay(alias).publish_once()
"""


def effects_of(live: Live, number: str) -> dict[str, int]:
    """How many inbox rows each subscriber has for the placement of an order, in all databases."""
    rows = live.shell(
        "from django.conf import settings\n"
        "from eventing.models import InboxEntry\n"
        "from sharding import numbers\n"
        "answer = [name for alias in settings.DATABASES for name in InboxEntry.objects.using(alias)"
        f".filter(stream_id=numbers.parse({number!r}), category='order', version=1)"
        ".values_list('subscriber', flat=True)]\n"
    )
    return dict(Counter(rows))


def messages_about(live: Live, number: str, about: str) -> int:
    answer: int = live.shell(
        "from notifications.models import Message\n"
        "from sharding import numbers\n"
        "mine = Message.objects.filter(channel='inbox')\n"
        f"answer = mine.filter(order_id=numbers.parse({number!r}), about={about!r}).count()\n"
    )
    return answer


@pytest.mark.services
def test_relay_killed_between_publish_and_delete_publishes_again_and_nothing_happens_twice(live: Live) -> None:
    live.product("FAULT-1", 10)
    client = live.client()
    live.processes.kill("relay")
    number = client.place(("FAULT-1", 3))

    dying = live.spawn("-c", DYING_RELAY)
    assert dying.wait(timeout=60) == -signal.SIGKILL
    client.wait_for(number, "placed", "confirmed")
    live.processes.restart("relay")
    client.wait_for(number, "confirmed", seconds=30)
    wait_until(lambda: messages_about(live, number, "order_confirmed") == 1, seconds=20)

    assert live.stock("FAULT-1") == (10, 3, 7)
    assert effects_of(live, number) == {"inventory": 1, "coupons": 1, "notifications": 1, "integration": 1}
    assert messages_about(live, number, "order_placed") == 1


@pytest.mark.services
def test_worker_killed_in_the_middle_of_a_batch_loses_nothing_and_doubles_nothing(live: Live) -> None:
    live.product("FAULT-2", 100)
    client = live.client()
    with psycopg.connect(live.database()) as blocker, psycopg.connect(live.database(), autocommit=True) as observer:
        blocker.execute("SELECT 1 FROM inventory_stock WHERE sku = 'FAULT-2' FOR UPDATE")
        numbers = [client.place(("FAULT-2", 2)) for _ in range(10)]
        wait_until(lambda: waits_for_a_lock(observer), seconds=20)
        live.processes.kill("worker-inventory")
        blocker.rollback()
    live.processes.restart("worker-inventory")

    for number in numbers:
        client.wait_for(number, "confirmed", seconds=30)
    assert live.stock("FAULT-2") == (100, 20, 80)


def waits_for_a_lock(observer: psycopg.Connection[tuple[int]]) -> bool:
    waiting = observer.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    ).fetchone()
    return waiting != (0,)


@pytest.mark.services
def test_orders_are_accepted_without_the_broker_and_go_on_when_it_is_back(live: Live) -> None:
    assert live.broker is not None
    live.product("FAULT-3", 10)
    client = live.client()
    live.broker.cut()
    try:
        number = client.place(("FAULT-3", 1))
        assert client.order(number)["status"] == "placed"
    finally:
        live.broker.mend()

    client.wait_for(number, "confirmed", seconds=60)
    assert live.stock("FAULT-3") == (10, 1, 9)


@pytest.mark.services
def test_everything_works_without_redis(live: Live) -> None:
    assert live.redis is not None
    live.product("FAULT-4", 10)
    client = live.client()
    live.redis.cut()
    try:
        assert client.products()
        number = client.place(("FAULT-4", 1))
        client.wait_for(number, "confirmed")
        client.pay(number)
        client.wait_for(number, "paid")
    finally:
        live.redis.mend()


@pytest.mark.services
def test_a_shard_that_is_down_is_noticed_by_its_own_customers_only(live: Live) -> None:
    live.product("FAULT-5", 100)
    shoppers = live.shoppers(40)
    on_shard = {}
    for shopper in shoppers:
        number = shopper.place(("FAULT-5", 1))
        alias = live.shell(f"from sharding import numbers, shards\nanswer = shards.alias_of(numbers.parse({number!r}))")
        on_shard[alias] = (shopper, number)
    (down, (victim, number)), *others = on_shard.items()
    database = live.database(f"_{down}").rpartition("/")[2]

    with psycopg.connect(live.database(), autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {database} WITH ALLOW_CONNECTIONS false")
        try:
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [database])
            wait_until(lambda: answers_503(victim, number), seconds=20)
            for other, others_number in (pair for _, pair in others):
                assert other.order(others_number)["number"] == others_number
                other.place(("FAULT-5", 1))
        finally:
            admin.execute(f"ALTER DATABASE {database} WITH ALLOW_CONNECTIONS true")

    wait_until(lambda: not answers_503(victim, number), seconds=20)
    victim.wait_for(number, "confirmed", seconds=60)
    victim.wait_for(victim.place(("FAULT-5", 1)), "confirmed", seconds=60)


def answers_503(client: Client, number: str) -> bool:
    try:
        client.order(number)
    except RequestFailed as refusal:
        return refusal.status == 503
    return False


def test_embedded_shop_that_was_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    shop = Embedded(data_dir=tmp_path, arguments=["--no-seed"])
    live = Live(shop, {"PROFILE": "embedded", "DEMO_DIR": str(tmp_path), "EVENTING_NAMESPACE": ""})
    with shop:
        live.product("FAULT-6", 1_000)
        [client] = live.shoppers(1)
        numbers = [client.place(("FAULT-6", 1)) for _ in range(30)]
        shop.kill("embedded")
        live.close()
        shop.restart("embedded")
        wait_until(lambda: is_open(client), seconds=60)
        for number in numbers:
            client.wait_for(number, "confirmed", seconds=60)
        assert live.stock("FAULT-6") == (1_000, 30, 970)
        live.close()


def is_open(client: Client) -> bool:
    try:
        return bool(client.products())
    except OSError:
        return False
