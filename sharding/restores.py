"""A shard that was restored to an earlier moment: how that is noticed, and what waits until an operator has looked.

What the others have handled shows it: the newest order of a bucket that a context knows is not in the shard any more.
The clock then cancels nothing there, as the shard may have forgotten payments. `manage.py restored` releases it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import structlog
from django.db import connections
from django.utils import timezone

from eventing.models import DatabaseMark, Event
from sharding import numbers, shards
from sharding.router import context_databases

NEWEST = (
    "SELECT * FROM (SELECT stream_id FROM eventing_inbox WHERE category = %s AND stream_id BETWEEN {low} AND {high}"
    " ORDER BY stream_id DESC LIMIT 1) AS bucket_{bucket}"
)

logger = structlog.get_logger(__name__)


def waits(alias: str, category: str) -> bool:
    """Whether the clock has to wait on this shard. Notes it down when a restore is noticed now.

    `category` is that of the streams whose ids are order numbers.
    """
    mark = DatabaseMark.objects.using(alias).first()
    if mark is None:
        return False
    if mark.restored_at is None and (lost := lost_orders(alias, category, since=mark.released_at)):
        logger.error("database.restored", alias=alias, lost=[numbers.to_text(order_id) for order_id in lost])
        declare(alias)
        return True
    return mark.restored_at is not None


def lost_orders(alias: str, category: str, *, since: datetime | None = None) -> list[int]:
    """Of each bucket the newest order that a context has handled events of, if the shard lacks it.

    Orders that were placed before `since` were looked at already. Buckets on the move are left out.
    """
    buckets = [bucket for bucket in shards.buckets_of(alias) if not shards.is_moving(bucket)]
    newest = {
        order_id
        for context in context_databases()
        for order_id in _newest_handled(context, category, buckets)
        if since is None or numbers.placed_at(order_id) > since
    }
    known = Event.objects.using(alias).filter(category=category, stream_id__in=newest, version=1)
    lost = newest - set(known.values_list("stream_id", flat=True)) if newest else set()
    if not lost:
        return []
    shards.refresh()  # what has just moved away is not lost
    owned = {bucket for bucket in shards.buckets_of(alias) if not shards.is_moving(bucket)}
    return sorted(order_id for order_id in lost if numbers.bucket_of(order_id) in owned)


def _newest_handled(alias: str, category: str, buckets: Sequence[int]) -> list[int]:
    if not buckets:
        return []
    parts = []
    for bucket in buckets:
        low, high = numbers.bucket_range(bucket)
        parts.append(NEWEST.format(low=low, high=high - 1, bucket=bucket))
    with connections[alias].cursor() as cursor:
        cursor.execute(" UNION ALL ".join(parts), [category] * len(parts))
        return [order_id for (order_id,) in cursor.fetchall()]


def waiting(alias: str) -> datetime | None:
    """Since when the clock waits on this shard; None if it does not."""
    return DatabaseMark.objects.using(alias).values_list("restored_at", flat=True).first()


def declare(alias: str) -> None:
    """The shard was restored: the clock waits from now on."""
    DatabaseMark.objects.using(alias).filter(restored_at=None).update(restored_at=timezone.now())


def release(alias: str) -> bool:
    """An operator has looked: the clock goes on, and what was lost until now shows nothing any more."""
    now = timezone.now()
    marks = DatabaseMark.objects.using(alias).exclude(restored_at=None)
    return bool(marks.update(restored_at=None, released_at=now))
