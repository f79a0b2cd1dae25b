"""Reports that the clock writes for operators: what was sold on which day."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import date, datetime, time, timedelta

import structlog
from django.db import Error, transaction
from django.utils import timezone

from eventing.transient import is_transient
from monitoring.models import DailySales
from orders import statistics
from orders.domain import Status
from orders.statistics import EARNING
from sharding import shards

DAYS = 7  # so many days back, what has become of the orders is counted again

logger = structlog.get_logger(__name__)


def summarise_sales(now: datetime, days: int = DAYS) -> int:
    """Write the sales of today anew, and those of the last days once a day; returns how many days were written.

    A day of which a shard does not tell is left as it is, for the next run. Raises nothing for a shard that is down.
    """
    written = 0
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    counted = set(DailySales.objects.filter(counted_at__gte=midnight).values_list("day", flat=True))
    for days_ago in range(days + 1):
        day = now.date() - timedelta(days=days_ago)
        if days_ago and day in counted:
            continue
        try:
            rows = _sales_of(day, now)
        except Error as error:
            if not is_transient(error):
                raise
            logger.warning("sales.day_skipped", day=str(day), error=str(error))
            continue
        with transaction.atomic():
            DailySales.objects.filter(day=day).delete()
            DailySales.objects.bulk_create(rows)
        written += 1
    return written


def _sales_of(day: date, now: datetime) -> list[DailySales]:
    since = datetime.combine(day, time.min, tzinfo=timezone.get_default_timezone())
    orders: dict[str, Counter[Status]] = defaultdict(Counter)
    revenue: Counter[str] = Counter()
    for alias in shards.aliases():
        for group in statistics.sales(alias, since=since, until=since + timedelta(days=1)):
            orders[group.currency][group.status] += group.orders
            if group.status in EARNING:
                revenue[group.currency] += group.total
    return [
        DailySales(
            day=day,
            currency=currency,
            orders=by_status.total(),
            paid=sum(by_status[status] for status in EARNING),
            rejected=by_status[Status.REJECTED],
            cancelled=by_status[Status.CANCELLED],
            refunded=by_status[Status.REFUNDED],
            revenue=revenue[currency],
            counted_at=now,
        )
        for currency, by_status in sorted(orders.items())
    ]
