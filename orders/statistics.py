"""What the orders of a shard add up to, for dashboards: windows of time read through indexes, never a whole table."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connections
from django.db.models import Count, Sum
from django.db.models.functions import TruncMinute

from eventing.databases import time_from_db
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
    """An order that nobody has confirmed or rejected for too long."""

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


def of_shard(alias: str, *, since: datetime, now: datetime, sample: int) -> Statistics:
    """Statistics of the orders placed from `since` to `now`, and how long the newest `sample` orders took to confirm.

    Five queries; raises OperationalError, InterfaceError when the shard does not answer.
    """
    orders = models.Order.objects.using(alias)
    groups = orders.filter(placed_at__gte=since).order_by().values_list("status", "reason", "currency")
    stuck = orders.filter(status=Status.PLACED, placed_at__lt=now - STUCK_AFTER).order_by("placed_at", "id")
    return Statistics(
        groups=tuple(
            Group(status=Status(status), reason=reason, currency=currency, orders=count, total=total)
            for status, reason, currency, count, total in groups.annotate(orders=Count("id"), sum=Sum("total"))
        ),
        per_minute=_per_minute(alias, now),
        seconds_to_confirm=_seconds_to_confirm(alias, sample),
        stuck=tuple(Stuck(**row) for row in stuck.values("id", "placed_at")[:MANY]),
        to_ship=orders.filter(status=Status.PAID)[:MANY].count(),
    )


def first_minute(now: datetime) -> datetime:
    """The beginning of the chart: the last CHART_MINUTES minutes, the one that is running included."""
    return now.replace(second=0, microsecond=0) - timedelta(minutes=CHART_MINUTES - 1)


def _per_minute(alias: str, now: datetime) -> dict[datetime, int]:
    placed = models.Order.objects.using(alias).filter(placed_at__gte=first_minute(now), placed_at__lte=now).order_by()
    minutes = placed.annotate(minute=TruncMinute("placed_at")).values("minute").annotate(orders=Count("id"))
    return {row["minute"]: row["orders"] for row in minutes}


def _seconds_to_confirm(alias: str, sample: int) -> tuple[float, ...]:
    """From the recording of the placement to that of the confirmation, of those among the newest that have one."""
    with connections[alias].cursor() as cursor:
        cursor.execute(
            "SELECT placed.recorded_at, confirmed.recorded_at FROM"
            " (SELECT id FROM orders_order ORDER BY placed_at DESC, id DESC LIMIT %s) AS newest"
            " JOIN eventing_event AS placed ON placed.stream_id = newest.id AND placed.category = %s"
            " AND placed.type = %s"
            " JOIN eventing_event AS confirmed ON confirmed.stream_id = newest.id AND confirmed.category = %s"
            " AND confirmed.type = %s",
            [sample, CATEGORY, OrderPlaced.TYPE, CATEGORY, OrderConfirmed.TYPE],
        )
        return tuple((time_from_db(end) - time_from_db(start)).total_seconds() for start, end in cursor.fetchall())


def sales(alias: str, *, since: datetime, until: datetime) -> tuple[Group, ...]:
    """The orders of a shard that were placed in a window of time, by what has become of them."""
    placed = models.Order.objects.using(alias).filter(placed_at__gte=since, placed_at__lt=until).order_by()
    groups = placed.values_list("status", "reason", "currency").annotate(orders=Count("id"), sum=Sum("total"))
    return tuple(
        Group(status=Status(status), reason=reason, currency=currency, orders=count, total=total)
        for status, reason, currency, count, total in groups
    )


def stuck(alias: str, *, now: datetime, limit: int) -> list[Stuck]:
    """Up to `limit` orders of a shard that nobody has confirmed or rejected for too long, the oldest first."""
    late = models.Order.objects.using(alias).filter(status=Status.PLACED, placed_at__lt=now - STUCK_AFTER)
    return [Stuck(**row) for row in late.order_by("placed_at", "id").values("id", "placed_at")[:limit]]
