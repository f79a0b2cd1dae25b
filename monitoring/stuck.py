"""Orders that are stuck: written down for operators, each with what it waits for."""

from __future__ import annotations

from datetime import datetime
from itertools import chain

import structlog
from django.db import transaction

from eventing.fan_out import on_each
from monitoring.models import StuckOrder
from orders import statistics
from sharding import numbers, shards
from timeline.timeline import timeline_of, waiting_for

REPORTED = 50  # stuck orders whose reasons are looked up in one run

logger = structlog.get_logger(__name__)


def report_stuck_orders(now: datetime, limit: int = REPORTED) -> int:
    """Write down the oldest orders that are stuck, each with what it waits for; returns how many.

    What a shard that is down had reported before stays reported.
    """
    found = on_each(
        shards.aliases(), lambda alias: statistics.stuck(alias, now=now, limit=limit), task="report_stuck_orders"
    ).values
    stuck = list(chain.from_iterable(found.values()))
    known = set(StuckOrder.objects.values_list("order_id", flat=True))
    rows = []
    for order in sorted(stuck, key=lambda one: one.placed_at)[:limit]:
        reasons = waiting_for(timeline_of(order.id), now)
        rows.append(
            StuckOrder(order_id=order.id, placed_at=order.placed_at, waiting_for="\n".join(reasons), reported_at=now)
        )
        if order.id not in known:
            logger.warning("order.stuck", order=order.number, waiting_for=reasons)
    gone = [order_id for order_id in known if shards.alias_of(order_id) in found]
    with transaction.atomic():
        StuckOrder.objects.filter(order_id__in=gone).delete()
        StuckOrder.objects.bulk_create(rows)
    for order_id in set(gone) - {row.order_id for row in rows}:
        logger.info("order.goes_on", order=numbers.to_text(order_id))
    return len(rows)
