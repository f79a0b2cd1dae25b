"""The first page of the back office: right numbers, in bounded time, whoever does not answer."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from html import unescape
from threading import Event as Signal
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from celery import current_app
from django.conf import settings
from django.core.cache import cache
from django.db import OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from kombu import Connection

from backoffice.monitoring import dashboard
from eventing import deadletters, queues, topology
from eventing.models import Event
from eventing.queues import BrokerUnavailable
from eventing.wire import Envelope
from inventory import selectors
from monitoring.metrics import cache_uses
from orders import statistics
from orders.domain import Status
from orders.statistics import CHART_MINUTES, MANY
from sharding import shards
from tests.factories import CustomerFactory, EmployeeFactory, ProductFactory
from tests.integration.order_samples import TOTAL, order_in, place
from tests.integration.shop_api import stock_the_shop

pytestmark = pytest.mark.django_db(databases="__all__")
committed = pytest.mark.django_db(databases="__all__", transaction=True)  # the numbers are asked for in threads

NOON = timezone.localtime().replace(hour=12, minute=0, second=30, microsecond=0)
MIDNIGHT = NOON.replace(hour=0, second=0)
NOWHERE = "127.0.0.1:1"


@pytest.fixture(autouse=True)
def nothing_is_kept() -> Iterator[None]:
    cache.delete(dashboard.CACHE_KEY)
    yield
    cache.delete(dashboard.CACHE_KEY)


def office(*permissions: str) -> Client:
    """Somebody who works here; without permissions, somebody who may do everything."""
    client = Client()
    client.force_login(EmployeeFactory.create(is_superuser=not permissions, permissions=permissions))
    return client


def text(response: Any) -> str:
    """What is on the page, without markup and with single spaces."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", response.content.decode())).split())


def take_away(monkeypatch: pytest.MonkeyPatch, alias: str) -> None:
    cursor = BaseDatabaseWrapper.cursor

    def away(self: BaseDatabaseWrapper) -> Any:
        if self.alias == alias:
            raise OperationalError("connection refused")
        return cursor(self)

    monkeypatch.setattr(BaseDatabaseWrapper, "cursor", away)


def of_all_shards(now: datetime = NOON) -> dashboard.Orders:
    """The orders as the dashboard adds them up, asked for in this thread."""
    return dashboard._orders(
        [statistics.of_shard(alias, since=MIDNIGHT, now=now, sample=500) for alias in shards.aliases()], now
    )


def took(order_id: int, seconds: float) -> None:
    """Let the order have been confirmed so long after it was placed."""
    events = Event.objects.using(shards.alias_of(order_id)).filter(stream_id=order_id, category="order")
    placed = events.get(type="order.placed").recorded_at
    events.filter(type="order.confirmed").update(recorded_at=placed + timedelta(seconds=seconds))


# --- Orders -------------------------------------------------------------------------------------------------------


def test_orders_of_all_shards_are_added_up_by_status_reason_and_revenue() -> None:
    for customer_id, status in enumerate(Status):
        order_in(status, customer_id * 16, at=NOON)
    order_in(Status.REJECTED, 5, at=NOON)
    order_in(Status.PAID, 5, at=MIDNIGHT - timedelta(seconds=1))  # yesterday's

    orders = of_all_shards()

    assert orders.today == len(Status) + 1
    assert orders.by_status == {status: 2 if status is Status.REJECTED else 1 for status in Status}
    assert orders.revenue == {"EUR": 3 * TOTAL}  # paid, shipped, delivered
    assert {(one.status, one.reason): one.orders for one in orders.ended} == {
        (Status.REJECTED, "out of stock"): 2,
        (Status.CANCELLED, "customer"): 1,
    }
    assert str(orders.to_ship) == "2"


def test_the_chart_has_a_bar_for_each_minute_of_the_last_hour() -> None:
    for customer_id, minutes_ago in [(1, 0), (70, 0), (126, 59), (3, 60)]:
        place(customer_id, at=NOON - timedelta(minutes=minutes_ago))

    orders = of_all_shards()

    assert len(orders.bars) == CHART_MINUTES
    assert [(bar.x, bar.orders, bar.y, bar.height) for bar in orders.bars if bar.orders] == [
        (0, 1, 50.0, 50.0),
        (59, 2, 0.0, 100.0),
    ]
    assert (orders.last_hour, orders.busiest) == (3, 2)


def test_an_hour_without_orders_has_a_flat_chart() -> None:
    assert {bar.height for bar in dashboard.bars(Counter(), NOON)} == {0.0}


def test_confirmations_are_timed_from_their_events() -> None:
    for customer_id, seconds in [(1, 0.25), (40, 0.5), (70, 1.5), (126, 30.0)]:
        took(order_in(Status.CONFIRMED, customer_id, at=NOON), seconds)
    place(2, at=NOON)

    orders = of_all_shards()

    assert (orders.confirmations, orders.p50, orders.p95) == (4, 0.5, 30.0)


def test_only_the_newest_orders_of_a_shard_are_timed() -> None:
    alias = shards.alias_of_bucket(1)
    for minutes_ago in range(5):
        order_in(Status.CONFIRMED, 1, at=NOON - timedelta(minutes=minutes_ago))

    assert len(statistics.of_shard(alias, since=MIDNIGHT, now=NOON, sample=3).seconds_to_confirm) == 3


def test_percentiles_are_values_that_occurred() -> None:
    values = [float(number) for number in range(1, 101)]

    assert (dashboard.percentile(values, 50), dashboard.percentile(values, 95)) == (50.0, 95.0)
    assert dashboard.percentile([7.0], 95) == 7.0
    assert dashboard.percentile([], 50) is None


def test_an_order_is_stuck_when_nobody_has_reacted_for_a_minute() -> None:
    oldest, newer = place(1, at=NOON - timedelta(hours=30)), place(126, at=NOON - timedelta(seconds=61))
    place(2, at=NOON - timedelta(seconds=59))
    order_in(Status.CONFIRMED, 3, at=NOON - timedelta(minutes=5))

    orders = of_all_shards()

    assert str(orders.stuck) == "2"
    assert [one.id for one in orders.oldest_stuck] == [oldest, newer]


def test_what_waits_is_not_counted_to_its_end() -> None:
    assert (str(dashboard.Count(number=MANY - 1)), str(dashboard.Count(number=MANY))) == ("99", "100+")


def test_a_shard_is_asked_once_however_many_orders_it_has() -> None:
    alias = shards.alias_of_bucket(1)

    def asked() -> list[str]:
        with CaptureQueriesContext(connections[alias]) as queries:
            statistics.of_shard(alias, since=MIDNIGHT, now=NOON, sample=100)
        return [query["sql"] for query in queries]

    before = len(asked())
    for _ in range(3):
        order_in(Status.PAID, 1, at=NOON)

    assert (before, len(asked())) == (1, 1)
    assert all("WHERE" in part or "LIMIT" in part for sql in asked() for part in sql.split("UNION ALL"))


def test_the_scarcest_products_on_sale_come_first() -> None:
    stock_the_shop()
    for sku, pieces in [("FEW", 5), ("NONE", 0), ("ENOUGH", 6)]:
        ProductFactory.create(sku=sku, pieces=pieces)
    ProductFactory.create(sku="OLD", active=False)

    assert [product.sku for product in selectors.low_stock(at_most=5, limit=9)][:2] == ["NONE", "FEW"]
    assert not {"ENOUGH", "OLD"} & {product.sku for product in selectors.low_stock(at_most=5, limit=9)}
    assert len(selectors.low_stock(at_most=5, limit=1)) == 1


# --- The broker ---------------------------------------------------------------------------------------------------


def test_queues_that_nobody_has_declared_are_not_made_by_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "EVENTING_NAMESPACE", f"nowhere_{uuid4().hex}")

    for _ in range(2):
        assert {depth.messages for depth in queues.depths(seconds=3)} == {None}


def test_every_queue_tells_how_much_is_waiting() -> None:
    with current_app.connection_for_write() as connection:
        topology.declare(connection)
        for queue in topology.work_queues():
            queue(connection.default_channel).purge()  # another test may have left tasks that nobody took
        try:
            found = {depth.name: depth.messages for depth in queues.depths(seconds=3)}
        finally:
            topology.delete(connection)

    assert {"orders", "inventory", "coupons", "payments", "notifications", "tasks", "dead-letters"} <= found.keys()
    assert set(found.values()) == {0}


def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    def connection(**options: Any) -> Connection:
        return Connection(f"amqp://guest:guest@{NOWHERE}//", **options)

    monkeypatch.setattr(current_app._get_current_object(), "connection_for_write", connection)


def test_a_broker_that_is_away_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere(monkeypatch)
    with pytest.raises(BrokerUnavailable):
        queues.depths(seconds=0.3)


@committed
def test_a_broker_that_is_away_is_shown_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere(monkeypatch)

    page = office().get("/admin/")

    assert page.status_code == 200
    assert "The broker does not answer." in text(page)


@committed
def test_who_never_answers_costs_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    client, ended = office(), Signal()
    client.get("/admin/")  # what is only loaded once
    cache.delete(dashboard.CACHE_KEY)

    def silent(*, seconds: float) -> list[queues.Depth]:
        ended.wait(10)
        return []

    monkeypatch.setattr(queues, "depths", silent)
    monkeypatch.setattr(dashboard, "ANSWER_SECONDS", 0.5)
    started = time.monotonic()
    page = client.get("/admin/dashboard/")
    ended.set()

    assert time.monotonic() - started < 5
    assert "The broker does not answer." in text(page)


# --- The page -----------------------------------------------------------------------------------------------------


@pytest.fixture
def noon(monkeypatch: pytest.MonkeyPatch) -> datetime:
    """The time as the dashboard has it, so that no test is run over midnight."""
    monkeypatch.setattr(dashboard, "timezone", SimpleNamespace(localtime=lambda: NOON))
    return NOON


@committed
def test_a_shard_that_is_away_is_named_and_the_others_are_shown(
    noon: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, away = (shards.alias_of_bucket(bucket) for bucket in (1, 126))
    place(1, at=noon)
    place(126, at=noon)
    client = office()
    assert "Orders today 2" in text(client.get("/admin/"))
    cache.delete(dashboard.CACHE_KEY)

    take_away(monkeypatch, away)
    page = text(client.get("/admin/"))

    assert f"The database {away} does not answer. Its orders are missing in these numbers." in page
    assert f"{away} no answer" in page
    assert f"The database {here}" not in page
    assert "Orders today 1" in page


@committed
def test_the_page_shows_what_waits_and_every_link_leads_somewhere(noon: datetime) -> None:
    stock_the_shop()
    order_in(Status.PAID, 1, at=noon)
    order_in(Status.REJECTED, 2, at=noon)
    stuck = place(126, at=noon - timedelta(minutes=3))
    deadletters.park(envelope_of(stuck), "inventory", KeyError("shelf"), "Traceback", attempts=3)
    ProductFactory.create(sku="RARE", name="Rare <b>thing</b>")
    client = office()

    page = client.get("/admin/dashboard/")

    said = text(page)
    for part in ("Orders today 3", "Revenue €21.00", "Stuck 1", "Dead letters 1", "To ship 1"):
        assert part in said
    assert "Rejected: out of stock 1" in said
    assert "Rare &lt;b&gt;thing&lt;/b&gt;" in page.content.decode()
    links = {unescape(link) for link in re.findall(r'href="([^"]+)"', page.content.decode())}
    assert any(link.startswith("/admin/orders/order/") and link.endswith("/change/") for link in links)
    for link in sorted(links):
        answer = client.get(link)
        assert answer.status_code == 200, (link, answer)


def envelope_of(order_id: int) -> Envelope:
    event = Event.objects.using(shards.alias_of(order_id)).get(stream_id=order_id, version=1)
    return Envelope(
        stream_id=event.stream_id,
        category=event.category,
        version=event.version,
        type=event.type,
        schema_version=event.schema_version,
        data=event.data,
        metadata=event.metadata,
        recorded_at=event.recorded_at,
    )


@committed
def test_the_numbers_are_kept_for_everybody_who_looks(noon: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboard, "CACHE_SECONDS", 600)  # longer than this test takes on a busy machine
    client = office()
    client.get("/admin/")
    place(1, at=noon)

    assert "Orders today 0" in text(client.get("/admin/dashboard/"))
    cache.delete(dashboard.CACHE_KEY)
    assert "Orders today 1" in text(client.get("/admin/dashboard/"))


def test_caches_show_where_their_answers_came_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "CATALOGUE_CACHE_SECONDS", 60)

    def categories() -> tuple[int, int]:
        found = {use.name: use for use in cache_uses()}.get("categories")
        return (found.reads, found.memory) if found else (0, 0)

    reads, from_memory = categories()
    selectors.categories()
    selectors.categories()

    assert categories() == (reads + 2, from_memory + 1)
    assert "Caches where answers came from" in text(office().get("/admin/dashboard/"))


def test_the_page_itself_asks_the_default_database_little() -> None:
    client = office()
    client.get("/admin/")
    with CaptureQueriesContext(connections["default"]) as queries:
        client.get("/admin/")

    assert len(queries) < 10


def test_who_is_no_operator_gets_no_numbers() -> None:
    shopper = Client()
    shopper.force_login(CustomerFactory.create(username="ann"))

    for client in (Client(), shopper):
        assert client.get("/admin/dashboard/").status_code == 302
        polled = client.get("/admin/dashboard/", headers={"HX-Request": "true"})
        assert (polled.headers["HX-Refresh"], polled.content) == ("true", b"")


@committed
def test_operators_see_the_parts_that_they_have_lists_of() -> None:
    page = text(office("view_product").get("/admin/"))

    assert "Low stock" in page
    for part in ("Orders today", "Revenue", "Dead letters", "Stuck"):
        assert part not in page


def test_who_may_see_nothing_is_told_so() -> None:
    assert "You have no permission to see anything here yet." in text(office("nothing_at_all").get("/admin/"))
