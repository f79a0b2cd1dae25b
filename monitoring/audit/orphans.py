"""Whether everything that is bound to an order has one: a restored shard has forgotten what others reacted to."""

from __future__ import annotations

from itertools import islice

import structlog
from django.db import DatabaseError, InterfaceError, connections

from eventing.models import Event
from monitoring.audit.report import Check, Finding, Moment
from orders.events import CATEGORY as ORDER
from sharding import numbers, shards
from sharding.router import database_of

CHUNK = 5_000
BOUND = (  # the app, its table, and what is bound
    ("inventory", "inventory_reservation", "stock"),
    ("coupons", "coupons_redemption", "a coupon"),
    ("payments", "payments_account", "payments"),
    ("notifications", "notifications_message", "messages"),
)

logger = structlog.get_logger(__name__)


def everything_has_its_order(alias: str, moment: Moment) -> Finding:
    """The contexts are asked first: whatever they know of was in the shard before."""
    bound: dict[int, list[str]] = {}
    for app, table, what in BOUND:
        for order_id in _orders_of(database_of(app), table, alias):
            bound.setdefault(order_id, []).append(what)
    missing = set(bound)
    remaining = iter(bound)
    while chunk := list(islice(remaining, CHUNK)):
        known = Event.objects.using(alias).filter(stream_id__in=chunk, category=ORDER, version=1)
        missing.difference_update(known.values_list("stream_id", flat=True))
    return len(bound), [
        f"{', '.join(bound[order_id])} of order {numbers.to_text(order_id)}" for order_id in sorted(missing)
    ]


def _orders_of(alias: str, table: str, shard: str) -> list[int]:
    """Nothing if a context's database does not answer: its own checks say so."""
    buckets = ", ".join(str(bucket) for bucket in shards.buckets_of(shard))
    if not buckets:
        return []
    try:
        with connections[alias].cursor() as cursor:
            cursor.execute(
                f"SELECT DISTINCT order_id FROM {table} WHERE order_id IS NOT NULL"
                f" AND (order_id >> {numbers.BUCKET_SHIFT}) IN ({buckets})"
            )
            return [order_id for (order_id,) in cursor.fetchall()]
    except (DatabaseError, InterfaceError) as error:
        logger.warning("audit.database_away", databases=[alias], error=str(error))
        return []


CHECKS = (
    Check(
        name="everything_has_its_order",
        title="Stock, coupons, payments and messages are bound to orders that exist.",
        counts="orders",
        hint="The shard was restored to an earlier moment (`manage.py restored`). Give back what is bound: release the "
        "stock, return the coupon, refund the payment, tell the customer.",
        of_database=everything_has_its_order,
        databases=shards.aliases,
    ),
)
