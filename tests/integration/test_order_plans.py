"""What PostgreSQL does to read a page of orders: it begins in an index and reads little more than it shows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
from django.db import connections
from django.test import Client
from django.test.utils import CaptureQueriesContext

from orders import selectors
from orders.domain import Status
from orders.selectors import Criteria
from sharding import numbers, shards
from tests.factories import NOON, OperatorFactory

pytestmark = [pytest.mark.services, pytest.mark.django_db(databases="__all__")]

SHARD = "orders_0"
EACH = 2_000  # orders of each bucket
LIMIT, HISTORY = 51, 21  # the pages of the back office and the shop, and one
MOMENT = timedelta(minutes=1)
CUSTOMERS = 50  # of each bucket

# An order of each bucket every minute. Most are delivered, the popular product is in most of them.
ORDERS = f"""
INSERT INTO orders_order (id, customer_id, status, currency, subtotal, discount, total, coupon_code, placed_at,
    updated_at, version, reason)
SELECT (bucket << {numbers.BUCKET_SHIFT}) | ((number * 60000 + bucket) << {numbers.SEQUENCE_BITS}),
    bucket + {numbers.BUCKETS} * (number %% {CUSTOMERS}), CASE WHEN number %% 20 = 0 THEN 'paid' ELSE 'delivered' END,
    'EUR', 100, 0, 100, CASE WHEN number %% 500 = 0 THEN 'RARE' WHEN number %% 20 = 1 THEN 'SPRING' END,
    placed_at, placed_at, 1, ''
FROM unnest(%s::bigint[]) AS bucket, generate_series(1, {EACH}) AS number,
    LATERAL (SELECT %s::timestamptz + number * interval '1 minute' + bucket * interval '0.1 s') AS given(placed_at)
"""
LINES = """
INSERT INTO orders_orderline (order_id, position, sku, name, quantity, unit_price)
SELECT id, 1, CASE WHEN coupon_code = 'RARE' THEN 'rare' ELSE 'popular' END, 'A thing', 1, 100 FROM orders_order
"""


@dataclass
class Plan:
    """The indexes and tables that a statement was answered from, and how many rows were read there and sorted."""

    nodes: list[dict[str, Any]]
    whole: dict[str, str]

    @property
    def partitions(self) -> set[str]:
        return {node["Relation Name"] for node in self.nodes if "Relation Name" in node}

    @property
    def indexes(self) -> set[str]:
        """The indexes of the whole table whose parts are used."""
        return {self.whole.get(node["Index Name"], node["Index Name"]) for node in self.nodes if "Index Name" in node}

    @property
    def rows(self) -> int:
        removed = ("Rows Removed by Filter", "Rows Removed by Index Recheck")
        return sum(
            int((node["Actual Rows"] + sum(node.get(name, 0) for name in removed)) * node["Actual Loops"])
            for node in self.nodes
            if node["Node Type"].endswith("Scan")
        )

    def has(self, node_type: str) -> bool:
        return any(node["Node Type"] == node_type for node in self.nodes)


def plan_of(read: Callable[[], Any]) -> Plan:
    """How the one statement of a read is carried out."""
    connection = connections[SHARD]
    with CaptureQueriesContext(connection) as queries:
        read()
    [query] = queries.captured_queries
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {query['sql']}")
        answer = cursor.fetchone()[0]
        cursor.execute(
            "SELECT part.relname, whole.relname FROM pg_inherits JOIN pg_class AS part ON part.oid = inhrelid"
            " JOIN pg_class AS whole ON whole.oid = inhparent WHERE part.relkind = 'i'"
        )
        whole = dict(cursor.fetchall())
    [tree] = answer if isinstance(answer, list) else json.loads(answer)
    return Plan(list(_nodes(tree["Plan"])), whole)


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from _nodes(child)


@pytest.fixture(scope="module", autouse=True)
def many_orders(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """Committed once for all tests here: what each of them had rolled back would be in the way of the next."""
    with django_db_blocker.unblock(), connections[SHARD].cursor() as cursor:
        buckets = [bucket for bucket, alias in enumerate(shards.first_assignment()) if alias == SHARD]
        cursor.execute(ORDERS, [buckets, NOON])
        cursor.execute(LINES)
        cursor.execute("VACUUM ANALYZE orders_order, orders_orderline")
    yield
    with django_db_blocker.unblock(), connections[SHARD].cursor() as cursor:
        cursor.execute("TRUNCATE orders_order, orders_orderline")


def everybodys(**parameters: Any) -> Callable[[], Any]:
    of_shard = replace(parameters.pop("criteria", Criteria()), shard=SHARD)
    return lambda: selectors.all_orders(limit=LIMIT, criteria=of_shard, **parameters)


def place_of(minutes: int) -> tuple[Any, int]:
    """That of the order of bucket 0 placed so many minutes after the first."""
    return NOON + minutes * MOMENT, minutes * 60000 << numbers.SEQUENCE_BITS


WINDOW = Criteria(since=NOON + 300 * MOMENT, until=NOON + 400 * MOMENT)

# What is read, the index that it begins in, and how many rows may be read for each that is shown.
READS: dict[str, tuple[Callable[[], Any], str, int]] = {
    "newest first": (everybodys(), "order_newest_first", 1),
    "a page in the middle": (everybodys(before=place_of(EACH // 2)), "order_newest_first", 1),
    "the last page but one": (everybodys(before=place_of(5)), "order_newest_first", 1),
    "a page back": (everybodys(after=place_of(EACH // 2)), "order_newest_first", 1),
    "placed in some days": (everybodys(criteria=WINDOW), "order_newest_first", 1),
    "a status": (everybodys(status=Status.PAID), "order_by_status", 1),
    "a status, a page in the middle": (
        everybodys(status=Status.PAID, before=place_of(EACH // 2)), "order_by_status", 1,
    ),
    "a status in some days": (everybodys(status=Status.PAID, criteria=WINDOW), "order_by_status", 1),
    "a coupon": (everybodys(criteria=Criteria(coupon="SPRING")), "order_by_coupon", 1),
    "a coupon, a page in the middle": (
        everybodys(criteria=Criteria(coupon="SPRING"), before=place_of(EACH // 2)), "order_by_coupon", 1,
    ),
    "a rare coupon": (everybodys(criteria=Criteria(coupon="RARE")), "order_by_coupon", 1),
    "the most common status": (everybodys(status=Status.DELIVERED), "order_newest_first", 1),
    "a product that is in most orders": (everybodys(criteria=Criteria(sku="popular")), "order_newest_first", 2),
}  # fmt: skip


@pytest.mark.parametrize("what", READS)
def test_a_page_is_read_from_an_index_and_costs_little_more_than_it_shows(what: str) -> None:
    read, index, each = READS[what]

    plan = plan_of(read)

    assert index in plan.indexes
    assert not plan.has("Seq Scan")
    # The merge of the partitions takes one row of each before it shows the first; few are left out.
    assert plan.rows <= each * (LIMIT + len(shards.buckets_of(SHARD))) * 1.5


@pytest.mark.parametrize("what", [what for what in READS if "product" not in what])
def test_nothing_is_sorted(what: str) -> None:
    plan = plan_of(READS[what][0])

    assert not plan.has("Sort")
    assert not plan.has("Incremental Sort")
    assert plan.has("Merge Append")


def test_a_late_page_reads_no_more_than_the_first() -> None:
    first, late = plan_of(everybodys()), plan_of(everybodys(before=place_of(EACH // 10)))

    assert late.rows <= first.rows + 1
    assert late.indexes == first.indexes == {"order_newest_first"}


@pytest.mark.parametrize("before", [None, numbers.HIGHEST, "middle"])
def test_a_customers_history_is_read_from_one_index_of_one_partition(before: Any) -> None:
    bucket = shards.buckets_of(SHARD)[3]
    if before == "middle":
        before = numbers.bucket_range(bucket)[0] + (EACH // 2 * 60000 << numbers.SEQUENCE_BITS)

    plan = plan_of(lambda: selectors.orders_of(bucket + numbers.BUCKETS, before=before, limit=HISTORY))

    assert plan.partitions == {f"orders_order_b{bucket:03d}"}
    assert plan.indexes == {"order_by_customer"}
    # Nobody else's; a bitmap of them counts twice.
    assert plan.rows <= 2 * EACH // CUSTOMERS


def test_a_product_that_is_in_few_orders_is_looked_up_first() -> None:
    plan = plan_of(everybodys(criteria=Criteria(sku="rare")))

    lines = [node for node in plan.nodes if node.get("Relation Name", "").startswith("orders_orderline")]
    assert {plan.whole[node["Index Name"]] for node in lines} == {"order_line_by_sku"}
    assert "order_newest_first" not in plan.indexes


def test_a_bucket_is_one_partition() -> None:
    bucket = shards.buckets_of(SHARD)[5]

    plan = plan_of(everybodys(criteria=Criteria(bucket=bucket)))

    assert plan.partitions == {f"orders_order_b{bucket:03d}"}
    assert plan.indexes == {"order_newest_first"}
    assert plan.rows <= LIMIT


@pytest.mark.parametrize("search", ["someone777@example.org", "SOMEONE777", "someone77", "Nobody"])
def test_a_customer_is_looked_up_in_indexes_however_they_are_spelt(search: str) -> None:
    client = Client()
    client.force_login(OperatorFactory.create())
    with connections["default"].cursor() as cursor:
        cursor.execute(
            "INSERT INTO auth_user"
            " (password, is_superuser, username, first_name, last_name, email, is_staff, is_active, date_joined)"
            " SELECT '', false, 'someone' || n, '', 'Name', 'someone' || n || '@example.org', false, true, now()"
            " FROM generate_series(1, 20000) AS n"
        )
        cursor.execute("ANALYZE auth_user")
    with CaptureQueriesContext(connections["default"]) as queries:
        client.get("/admin/orders/order/", {"q": search})
    searches = [query["sql"] for query in queries.captured_queries if "UPPER(" in query["sql"]]

    assert searches
    for sql in searches:
        with connections["default"].cursor() as cursor:
            cursor.execute(f"EXPLAIN {sql}")
            plan = "\n".join(line for (line,) in cursor.fetchall())
        assert "Seq Scan on auth_user" not in plan
        assert "user_by_email" in plan
