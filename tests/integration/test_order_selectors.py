"""Reads of orders: what is found, in which order, with how many queries, and what happens when a shard is away."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connections
from django.test.utils import CaptureQueriesContext

from eventing.databases import is_postgresql
from orders import selectors
from orders.domain import Status
from orders.events import OrderCancelled, OrderPlaced
from orders.models import Order
from orders.selectors import Criteria, LineRow, OrderDetail
from sharding import numbers, shards
from sharding.models import Bucket
from tests.factories import NOON, TERM
from tests.integration.moves import create_partitions
from tests.integration.order_samples import ask, cancel, order_in, place, row

pytestmark = pytest.mark.django_db(databases="__all__")


@contextmanager
def down(alias: str) -> Iterator[None]:
    def refuse(*args: Any) -> None:
        raise OperationalError("connection refused")

    with connections[alias].execute_wrapper(refuse):
        yield


# --- One order ----------------------------------------------------------------------------------------------------


def test_an_order_comes_with_its_lines(django_assert_num_queries: Any) -> None:
    order_id = place(coupon_code="SPRING", discount=100)

    with django_assert_num_queries(2, using=shards.alias_of(order_id)):
        order = selectors.get(order_id)

    assert order == OrderDetail(
        id=order_id,
        customer_id=7,
        status=Status.PLACED,
        currency="EUR",
        subtotal=2100,
        discount=100,
        total=2000,
        coupon_code="SPRING",
        placed_at=NOON,
        updated_at=NOON,
        expires_at=NOON + TERM,
        version=1,
        reason="",
        lines=(
            LineRow(position=1, sku="tea", name="Green tea", quantity=2, unit_price=450),
            LineRow(position=2, sku="cup", name="Cup", quantity=1, unit_price=1200),
        ),
    )
    assert order is not None
    assert order.number == numbers.to_text(order_id)
    assert [line.amount for line in order.lines] == [900, 1200]


def test_an_order_that_does_not_exist_is_none() -> None:
    assert selectors.get(numbers.new_order_id(7, NOON)) is None


@pytest.mark.parametrize(
    "typed",
    [
        str,
        str.lower,
        lambda number: f" {number[:4]}-{number[4:8]}-{number[8:]} ",
        lambda number: number.replace("0", "o").replace("1", "l"),
    ],
    ids=["as printed", "lower case", "in groups", "with lookalikes"],
)
def test_an_order_is_found_by_its_number_as_people_type_it(typed: Callable[[str], str]) -> None:
    order_id = place()

    order = selectors.by_number(typed(numbers.to_text(order_id)))

    assert order is not None
    assert order.id == order_id


@pytest.mark.parametrize("text", ["", "42", "U" * 13, "0" * 13, "Z" * 13, "ⅷ" * 13, "x" * 100])
def test_what_is_no_order_number_finds_nothing(text: str) -> None:
    assert selectors.by_number(text) is None


def test_the_history_of_an_order_is_its_events() -> None:
    order_id = order_in(Status.CANCELLED)

    history = selectors.history(order_id)

    assert [item.version for item in history] == [1, 2, 3]
    assert isinstance(history[0].event, OrderPlaced)
    assert isinstance(history[2].event, OrderCancelled)
    assert selectors.history(numbers.new_order_id(7, NOON)) == []


def test_an_order_on_a_shard_that_is_down_is_not_taken_for_missing() -> None:
    order_id = place()

    with down(shards.alias_of(order_id)), pytest.raises(OperationalError):
        selectors.get(order_id)


# --- A customer's orders ------------------------------------------------------------------------------------------


def test_a_customers_orders_come_newest_first_page_by_page(django_assert_num_queries: Any) -> None:
    order_ids = [place(at=NOON + timedelta(minutes=minute)) for minute in (2, 0, 4, 1, 3)]
    newest_first = sorted(order_ids, reverse=True)

    with django_assert_num_queries(1, using=shards.alias_of_bucket(7)):
        first = selectors.orders_of(7, limit=2)
    second = selectors.orders_of(7, before=first[-1].id, limit=2)
    third = selectors.orders_of(7, before=second[-1].id, limit=2)

    assert [[order.id for order in page] for page in (first, second, third)] == [
        newest_first[:2],
        newest_first[2:4],
        newest_first[4:],
    ]
    assert selectors.orders_of(7, before=third[-1].id, limit=2) == []


@pytest.mark.parametrize("customer_id", [0, 7, 127])
def test_orders_of_others_are_not_a_customers(customer_id: int) -> None:
    mine = place(customer_id)
    same_bucket = customer_id + numbers.BUCKETS
    place(same_bucket)
    place(customer_id + 1)

    assert [order.id for order in selectors.orders_of(customer_id, limit=10)] == [mine]
    assert [order.customer_id for order in selectors.orders_of(same_bucket, limit=10)] == [same_bucket]


def test_a_page_begins_after_a_number_of_another_customer_too() -> None:
    older, newer = place(at=NOON), place(at=NOON + timedelta(hours=1))
    between = numbers.new_order_id(7, NOON + timedelta(minutes=30))

    assert [order.id for order in selectors.orders_of(7, before=between, limit=10)] == [older]
    assert [order.id for order in selectors.orders_of(7, before=2**63 - 1, limit=10)] == [newer, older]
    assert selectors.orders_of(7, before=1, limit=10) == []


@pytest.mark.services
@pytest.mark.parametrize("customer_id", [7, 127])
def test_a_query_by_customer_or_number_reads_one_partition(customer_id: int) -> None:
    order_id = place(customer_id)
    connection = connections[shards.alias_of(order_id)]
    with CaptureQueriesContext(connection) as queries:
        selectors.orders_of(customer_id, limit=10)
        selectors.orders_of(customer_id, before=order_id, limit=10)
        selectors.get(order_id)
        selectors.history(order_id)

    assert len(queries) == 5
    for query in queries.captured_queries:
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN (FORMAT JSON) {query['sql']}")
            plan = cursor.fetchone()[0]
        relations = set(_relations(plan if isinstance(plan, list) else json.loads(plan)))
        assert len(relations) == 1, query["sql"]
        assert relations.pop().endswith(f"_b{customer_id:03d}")


def _relations(plan: Any) -> Iterator[str]:
    """The tables that a plan reads."""
    if isinstance(plan, dict):
        if "Relation Name" in plan:
            yield plan["Relation Name"]
        plan = list(plan.values())
    if isinstance(plan, list):
        for part in plan:
            yield from _relations(part)


# --- Everybody's orders -------------------------------------------------------------------------------------------


def all_pages(limit: int, **filters: Any) -> list[int]:
    order_ids: list[int] = []
    before = None
    while (page := selectors.all_orders(before=before, limit=limit, **filters)).items:
        assert page.unavailable == ()
        assert len(page.items) <= limit
        order_ids += [order.id for order in page.items]
        before = (page.items[-1].placed_at, page.items[-1].id)
    return order_ids


def test_orders_of_all_shards_come_newest_first() -> None:
    newer = place(0, at=NOON + timedelta(minutes=1))
    newest = place(127, at=NOON + timedelta(minutes=2))
    oldest = place(64, at=NOON)

    assert [order.id for order in selectors.all_orders(limit=10).items] == [newest, newer, oldest]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
def test_paging_over_all_shards_finds_every_order_once(limit: int) -> None:
    placed = [
        (NOON + timedelta(minutes=number // 4), place(number * 37 % 200, at=NOON + timedelta(minutes=number // 4)))
        for number in range(14)
    ]  # several orders of one moment, on different shards

    assert all_pages(limit) == [order_id for _, order_id in sorted(placed, reverse=True)]


@pytest.mark.parametrize("limit", [1, 3, 100])
def test_paging_back_shows_the_same_pages(limit: int) -> None:
    for number in range(10):
        place(number * 37 % 200, at=NOON + timedelta(minutes=number // 3))
    older = selectors.all_orders(limit=100).items[limit : 2 * limit]
    newer = selectors.all_orders(limit=limit)
    assert older or limit == 100
    if older:
        assert selectors.all_orders(after=(older[0].placed_at, older[0].id), limit=limit) == newer
    newest = newer.items[0]
    assert selectors.all_orders(after=(newest.placed_at, newest.id), limit=limit).items == ()


def test_orders_can_be_listed_by_status() -> None:
    waiting = [place(customer_id) for customer_id in (0, 127)]
    for customer_id in (0, 64, 127):
        order_in(Status.CANCELLED, customer_id)

    assert sorted(all_pages(1, status=Status.PLACED)) == sorted(waiting)
    assert len(all_pages(2, status=Status.CANCELLED)) == 3
    assert all_pages(2, status=Status.PAID) == []


def test_each_shard_is_asked_once() -> None:
    place()
    with ExitStack() as stack:
        queries = [stack.enter_context(CaptureQueriesContext(connections[alias])) for alias in shards.aliases()]
        selectors.all_orders(limit=10)
        asked = [len(captured) for captured in queries]

    assert asked == [1] * len(shards.aliases())


def test_a_shard_that_is_down_is_named_and_the_others_answer() -> None:
    here, there = place(0), place(127)
    away = shards.alias_of(here)

    with down(away):
        page = selectors.all_orders(limit=10)

    assert [order.id for order in page.items] == [there]
    assert page.unavailable == (away,)
    assert selectors.all_orders(limit=10).unavailable == ()


def test_with_all_shards_down_the_page_is_empty_and_says_so() -> None:
    place()
    with ExitStack() as stack:
        for alias in shards.aliases():
            stack.enter_context(down(alias))
        page = selectors.all_orders(limit=10)

    assert (page.items, page.unavailable) == ((), shards.aliases())


# --- A bucket that has moved --------------------------------------------------------------------------------------


def test_an_order_is_found_where_its_bucket_has_moved_to(monkeypatch: pytest.MonkeyPatch) -> None:
    order_id = order_in(Status.CONFIRMED, 0)
    refresh, by_bucket = shards.refresh, shards.alias_of_bucket
    readings: list[str] = []

    def stale(bucket: int) -> str:
        return by_bucket(bucket) if readings else shards.aliases()[-1]

    def read() -> shards.ShardMap:
        readings.append("read")
        return refresh()

    monkeypatch.setattr(shards, "alias_of_bucket", stale)
    monkeypatch.setattr(shards, "refresh", read)

    for query in (
        lambda: selectors.get(order_id),
        lambda: selectors.history(order_id),
        lambda: selectors.orders_of(0, limit=10),
    ):
        readings.clear()
        assert query()
        assert readings == ["read"]


def copied(order_id: int, to: str, **changes: Any) -> None:
    """The order's row is there as well, as it is while its bucket moves."""
    if is_postgresql(connections[to]):
        create_partitions(to, [numbers.bucket_of(order_id)])
    Order.objects.using(to).create(**row(order_id) | changes)


def test_an_order_that_is_in_two_databases_for_a_moment_is_listed_once_as_it_is_now() -> None:
    target = shards.aliases()[-1]
    oldest, moving, newest = place(1), place(0, at=NOON + TERM), place(2, at=NOON + 2 * TERM)
    copied(moving, target, status=Status.CANCELLED, expires_at=None, version=2)

    page = selectors.all_orders(limit=10)

    assert [(order.id, order.version) for order in page.items] == [(newest, 1), (moving, 2), (oldest, 1)]
    assert all_pages(1) == all_pages(2) == [newest, moving, oldest]
    assert [order.id for order in selectors.all_orders(after=(NOON, oldest), limit=1).items] == [moving]


def test_the_list_of_a_bucket_follows_it(django_assert_num_queries: Any) -> None:
    order_id, target = place(0), shards.aliases()[-1]
    here = shards.alias_of(order_id)
    copied(order_id, target)
    Order.objects.using(here).filter(id=order_id).delete()
    Bucket.objects.filter(bucket=0).update(alias=target)  # and this process has not read the map since

    with django_assert_num_queries(0, using=here):
        page = selectors.all_orders(criteria=Criteria(bucket=0), limit=10)

    assert [order.id for order in page.items] == [order_id]


def test_reads_see_what_was_decided_just_now() -> None:
    order_id = place()
    ask(cancel(order_id))

    order = selectors.get(order_id)

    assert order is not None
    assert (order.status, order.reason, order.expires_at) == (Status.CANCELLED, "customer", None)
