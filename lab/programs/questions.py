"""What a run asks a shop: what is still on its way, what the databases hold, what the audit says, how long it took."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import closing
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connections
from django.db.models import Count

from eventing import clocks, periodic, queues, subscribers
from eventing.models import DeadLetter, Event, InboxEntry, OutboxMessage, PeriodicRun
from eventing.outbox import oldest_seconds
from lab.load.charts import Sample
from lab.oracle import Facts, Order
from monitoring import selectors
from monitoring.audit import audit as audit_of
from sharding import shards

ENDINGS = ["order.paid", "order.cancelled", "order.rejected"]
ORDERS = (
    "SELECT orders.id, status, total, coupon_code,"
    " (SELECT array_agg(ARRAY[sku, quantity::text]) FROM orders_orderline WHERE order_id = orders.id),"
    " (SELECT array_agg(type ORDER BY version) FROM eventing_event"
    "  WHERE stream_id = orders.id AND category = 'order' AND type = ANY(%s))"
    " FROM orders_order AS orders WHERE customer_id = ANY(%s)"
)
MESSAGES = (
    "SELECT order_id, about, count(*) FROM notifications_message"
    " WHERE channel = 'inbox' AND order_id IS NOT NULL AND customer_id = ANY(%s) GROUP BY order_id, about"
)
CONFIRMED = (
    "SELECT extract(epoch FROM confirmed.recorded_at - placed.recorded_at) * 1000"
    " FROM eventing_event AS placed JOIN eventing_event AS confirmed"
    " ON confirmed.stream_id = placed.stream_id AND confirmed.category = placed.category"
    " WHERE placed.version = 1 AND placed.category = 'order' AND confirmed.type = 'order.confirmed'"
    " AND placed.recorded_at >= %s"
)
CANCELLED = (
    "SELECT recorded_at FROM eventing_event AS event JOIN orders_order ON orders_order.id = stream_id"
    " WHERE category = 'order' AND type = 'order.cancelled' AND customer_id >= %s"
)
WRITTEN = (
    "SELECT sum(xact_commit), sum(pg_database_size(datid)), pg_current_wal_lsn() - '0/0'::pg_lsn"
    " FROM pg_stat_database WHERE datname = %s OR datname LIKE %s"
)


def rows(alias: str, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with closing(connections[alias].cursor()) as cursor:
        cursor.execute(query, parameters)
        return list(cursor.fetchall())


def rows_of_shards(query: str, *parameters: Any) -> list[tuple[Any, ...]]:
    return [row for alias in shards.aliases() for row in rows(alias, query, *parameters)]


def pending() -> dict[str, int]:
    """Outbox rows, deliveries without an effect, messages in the queues, open dead letters."""
    outbox = 0
    wanted: Counter[str] = Counter()
    done: Counter[str] = Counter()
    for alias in settings.DATABASES:
        outbox += OutboxMessage.objects.using(alias).count()
        for row in Event.objects.using(alias).values("type").annotate(number=Count("*")):
            for subscriber in subscribers.all_subscribers():
                if subscriber.wants(row["type"]):
                    wanted[subscriber.name] += row["number"]
        for entry in InboxEntry.objects.using(alias).values("subscriber").annotate(number=Count("*")):
            done[entry["subscriber"]] += entry["number"]
    return {
        "outbox": outbox,
        "deliveries": sum((wanted - done).values()),
        "messages": in_queues(),
        "dead": DeadLetter.objects.filter(status="open").count(),
    }


def in_queues(*, delayed: bool = False) -> int:
    """Messages in the queues, with those that wait for their time if these are asked for."""
    waiting = queues.delayed(seconds=5) if delayed else 0
    return waiting + sum(depth.messages or 0 for depth in queues.depths(seconds=5))


def missing_topology() -> list[str]:
    return queues.missing_topology(seconds=5)


def audit(settle: float = 0) -> dict[str, Any]:
    """The report of `manage.py audit --json --settle 0`, without the start of another process."""
    return audit_of(settle=timedelta(seconds=settle)).as_dict()


def orders(customers: Sequence[int], endings: Sequence[str] = ENDINGS) -> dict[int, Order]:
    """The orders of these customers, with those of their events whose types are `endings`."""
    people = list(customers)
    query = "SELECT order_id, captured_total, refunded_total FROM payments_account WHERE customer_id = ANY(%s)"
    money = {order_id: amounts for order_id, *amounts in rows("default", query, people)}
    found = {}
    for order_id, status, total, code, lines, ended in rows_of_shards(ORDERS, list(endings), people):
        items: Counter[str] = Counter()
        for sku, quantity in lines or ():
            items[sku] += int(quantity)
        captured, refunded = money.get(order_id, (0, 0))
        found[order_id] = Order(
            status=status,
            total=total,
            items=dict(items),
            coupon=code,
            endings=ended or (),
            captured=captured,
            refunded=refunded,
        )
    return found


def facts(customers: Sequence[int], skus: Sequence[str], coupons: Sequence[str] | None = None) -> Facts:
    """What is there of these customers and products, and of these coupons, or all. On PostgreSQL only."""
    people = list(customers)
    query = "SELECT sku, on_hand, reserved, available FROM inventory_stock WHERE sku = ANY(%s)"
    stock = {sku: (on_hand, reserved, free) for sku, on_hand, reserved, free in rows("default", query, list(skus))}
    redeemed = rows("default", "SELECT code, redeemed, total_limit FROM coupons_coupon")
    dead_letters = DeadLetter.objects.filter(status="open")
    return Facts(
        orders=orders(people),
        stock=stock,
        messages={(order_id, about): count for order_id, about, count in rows("default", MESSAGES, people)},
        coupons={code: (used, limit) for code, used, limit in redeemed if coupons is None or code in coupons},
        dead_letters=[f"{one.subscriber} {one.type}: {one.error}: {one.message}" for one in dead_letters],
        audit=audit(),
    )


def confirmation_times(since: datetime) -> list[float]:
    """Milliseconds from placed to confirmed, in ascending order, of the orders placed since a moment."""
    return sorted(float(milliseconds) for (milliseconds,) in rows_of_shards(CONFIRMED, since))


def oldest_unpublished() -> float:
    """The age in seconds of the oldest event that is still to be published."""
    return max(oldest_seconds(alias) for alias in ("default", *shards.aliases()))


def counts_by_status(first_customer: int) -> dict[str, int]:
    """The orders of the customers from this one on."""
    found: Counter[str] = Counter()
    query = "SELECT status, count(*) FROM orders_order WHERE customer_id >= %s GROUP BY status"
    for status, number in rows_of_shards(query, first_customer):
        found[status] += number
    return found


def cancellation_moments(first_customer: int) -> list[datetime]:
    return sorted(at for (at,) in rows_of_shards(CANCELLED, first_customer))


def reserved_and_redeemed(sku: str, coupon: str) -> tuple[int, int]:
    reserved = rows("default", "SELECT reserved FROM inventory_stock WHERE sku = %s", sku)
    redeemed = rows("default", "SELECT redeemed FROM coupons_coupon WHERE code = %s", coupon)
    return sum(number for (number,) in reserved), sum(number for (number,) in redeemed)


def database_time() -> datetime:
    return clocks.database_time()


def periodic_tasks(most: int) -> dict[str, tuple[float, datetime | None]]:
    """Those that run at least every so many seconds: how often, and when they have run last."""
    finished = dict(PeriodicRun.objects.values_list("name", "finished_at"))
    tasks = periodic.by_title().values()
    return {one.title: (one.every, finished.get(one.title)) for one in tasks if 0 < one.every <= most}


def written() -> list[float]:
    """Of all databases of the shop together: transactions, bytes on disk, bytes of the write-ahead log."""
    name = connections["default"].settings_dict["NAME"]
    [row] = rows("default", WRITTEN, name, f"{name}_orders_%")
    return [float(number) for number in row]


def events() -> int:
    return int(sum(number for (number,) in rows_of_shards("SELECT count(*) FROM eventing_event")))


def fullest_customer() -> tuple[int, str]:
    """Who has the most orders, and the database that they are in."""
    found: dict[int, tuple[int, str]] = defaultdict(lambda: (0, ""))
    query = "SELECT customer_id, count(*) FROM orders_order GROUP BY customer_id ORDER BY 2 DESC LIMIT 1"
    for alias in shards.aliases():
        for customer_id, number in rows(alias, query):
            found[customer_id] = max(found[customer_id], (number, alias))
    customer_id = max(found, key=lambda one: found[one])
    return customer_id, found[customer_id][1]


def aliases_of_buckets() -> list[str]:
    return [shards.alias_of_bucket(bucket) for bucket in range(128)]


def sample(at: float, skus: Sequence[str]) -> Sample:
    lags = [answer.value for answer in selectors.outbox_lags().values() if answer.value]
    query = "SELECT coalesce(sum(available), 0), coalesce(sum(reserved), 0) FROM inventory_stock WHERE sku = ANY(%s)"
    [(available, reserved)] = rows("default", query, list(skus))
    return Sample(
        at=at,
        outbox=sum(lag.waiting for lag in lags),
        oldest=max((lag.seconds for lag in lags), default=0.0),
        messages=sum(depth.messages or 0 for depth in queues.depths(seconds=2)),
        available=int(available),
        reserved=int(reserved),
    )
