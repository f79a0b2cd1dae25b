"""What the orders of a shard add up to, for dashboards: windows of time read through indexes, never a whole table."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connections
from django.db.models import Count, Sum

from eventing.databases import is_postgresql, time_from_db, time_to_db
from orders import models
from orders.domain import Status
from orders.events import CATEGORY, OrderConfirmed, OrderPlaced
from sharding import numbers

MANY = 100  # what waits for somebody is counted up to here
STUCK_AFTER = timedelta(minutes=1)
CHART_MINUTES = 60
EARNING = (Status.PAID, Status.SHIPPED, Status.DELIVERED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Orders placed in the window that have the same status, reason and currency; `total` in minor units."""

    status: Status
    reason: str
    currency: str
    orders: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stuck:
    """An order that was neither confirmed nor rejected in time."""

    id: int
    placed_at: datetime

    @property
    def number(self) -> str:
        return numbers.to_text(self.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """One shard at one moment. `stuck` (oldest first) and `to_ship` end at MANY."""

    groups: tuple[Group, ...]
    per_minute: dict[datetime, int]
    seconds_to_confirm: tuple[float, ...]
    stuck: tuple[Stuck, ...]
    to_ship: int


# One statement with a part for each number, because a dashboard asks many shards. The part with both times stands
# first: PostgreSQL takes the types of the columns from it.
STATISTICS = """
SELECT 'confirmed', '', '', '', 0, 0, placed.recorded_at, confirmed.recorded_at
  FROM (SELECT id FROM orders_order ORDER BY placed_at DESC, id DESC LIMIT %(sample)s) AS newest
  JOIN eventing_event AS placed
    ON placed.stream_id = newest.id AND placed.category = %(category)s AND placed.type = %(placed)s
  JOIN eventing_event AS confirmed
    ON confirmed.stream_id = newest.id AND confirmed.category = %(category)s AND confirmed.type = %(confirmed)s
UNION ALL
SELECT 'group', status, reason, currency, count(*), sum(total), NULL, NULL
  FROM orders_order WHERE placed_at >= %(since)s GROUP BY status, reason, currency
UNION ALL
SELECT 'minute', '', '', '', count(*), 0, minute, NULL
  FROM (SELECT {minute} AS minute FROM orders_order WHERE placed_at >= %(first)s AND placed_at <= %(now)s) AS of_chart
  GROUP BY minute
UNION ALL
SELECT 'stuck', '', '', '', id, 0, placed_at, NULL
  FROM (SELECT id, placed_at FROM orders_order WHERE status = %(waiting)s AND placed_at < %(late)s
        ORDER BY placed_at, id LIMIT %(many)s) AS late
UNION ALL
SELECT 'to ship', '', '', '', count(*), 0, NULL, NULL
  FROM (SELECT 1 FROM orders_order WHERE status = %(paid)s LIMIT %(many)s) AS paid
"""


def of_shard(alias: str, *, since: datetime, now: datetime, sample: int) -> Statistics:
    """Statistics of the orders placed from `since` to `now`, and how long the newest `sample` orders took to confirm.

    One query; raises OperationalError, InterfaceError when the shard does not answer.
    """
    connection = connections[alias]
    minute = "date_trunc('minute', placed_at)" if is_postgresql(connection) else "substr(placed_at, 1, 16)"
    times = {"since": since, "first": first_minute(now), "now": now, "late": now - STUCK_AFTER}
    parameters = {
        **{name: time_to_db(connection, value) for name, value in times.items()},
        "sample": sample,
        "many": MANY,
        "category": CATEGORY,
        "placed": OrderPlaced.TYPE,
        "confirmed": OrderConfirmed.TYPE,
        "waiting": Status.PLACED.value,
        "paid": Status.PAID.value,
    }
    groups: list[Group] = []
    per_minute: dict[datetime, int] = {}
    seconds: list[float] = []
    stuck: list[Stuck] = []
    to_ship = 0
    with connection.cursor() as cursor:
        cursor.execute(STATISTICS.format(minute=minute), parameters)
        for part, status, reason, currency, number, total, time, end in cursor.fetchall():
            match part:
                case "confirmed":
                    seconds.append((time_from_db(end) - time_from_db(time)).total_seconds())
                case "group":
                    group = Group(
                        status=Status(status), reason=reason, currency=currency, orders=int(number), total=int(total)
                    )
                    groups.append(group)
                case "minute":
                    per_minute[time_from_db(time)] = int(number)
                case "stuck":
                    stuck.append(Stuck(id=int(number), placed_at=time_from_db(time)))
                case "to ship":
                    to_ship = int(number)
    return Statistics(
        groups=tuple(groups),
        per_minute=per_minute,
        seconds_to_confirm=tuple(seconds),
        stuck=tuple(sorted(stuck, key=lambda one: (one.placed_at, one.id))),
        to_ship=to_ship,
    )


def first_minute(now: datetime) -> datetime:
    """The beginning of the chart: the last CHART_MINUTES minutes, the one that is running included."""
    return now.replace(second=0, microsecond=0) - timedelta(minutes=CHART_MINUTES - 1)


def sales(alias: str, *, since: datetime, until: datetime) -> tuple[Group, ...]:
    """The orders of a shard that were placed in a window of time, by what has become of them."""
    placed = models.Order.objects.using(alias).filter(placed_at__gte=since, placed_at__lt=until).order_by()
    groups = placed.values_list("status", "reason", "currency").annotate(orders=Count("id"), sum=Sum("total"))
    return tuple(
        Group(status=Status(status), reason=reason, currency=currency, orders=count, total=total)
        for status, reason, currency, count, total in groups
    )


def stuck(alias: str, *, now: datetime, limit: int) -> list[Stuck]:
    """Up to `limit` orders of a shard that were neither confirmed nor rejected in time, the oldest first."""
    late = models.Order.objects.using(alias).filter(status=Status.PLACED, placed_at__lt=now - STUCK_AFTER)
    return [Stuck(**row) for row in late.order_by("placed_at", "id").values("id", "placed_at")[:limit]]
