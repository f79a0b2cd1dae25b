"""Checks that a statement or two within one database can answer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from django.db import connections

from eventing.databases import is_postgresql
from eventing.recorded import event_id, stream_name
from monitoring.audit.report import Check, Finding, Moment
from orders.events import CATEGORY as ORDER
from sharding import partitions, shards
from sharding.numbers import BUCKETS, bucket_range
from sharding.router import database_of, sharded_tables

# How a row that is in the wrong shard is named, and the columns that takes; else it is named after its order.
NAMES = {
    "eventing_event": ("stream_id, category, version", lambda row: event_id(row[1], row[0], row[2])),
    "eventing_outbox": ("stream_id, category, version", lambda row: f"outbox: {event_id(row[1], row[0], row[2])}"),
    "eventing_inbox": (
        "stream_id, category, version, subscriber",
        lambda row: f"{row[3]}: {event_id(row[1], row[0], row[2])}",
    ),
    "orders_idempotencykey": ("order_id", lambda row: f"key of {stream_name(ORDER, row[0])}"),
}
MOST = 1_000  # strays of one table and stretch of buckets that are named


def _rows(alias: str, sql: str, parameters: Iterable[Any] = ()) -> list[tuple[Any, ...]]:
    with connections[alias].cursor() as cursor:
        cursor.execute(sql, list(parameters))
        return list(cursor.fetchall())


def _count(alias: str, table: str) -> int:
    return int(_rows(alias, f"SELECT count(*) FROM {table}")[0][0])


def _named(alias: str, table: str, wrong: str) -> Finding:
    """How many rows the table has, and the names that the statement `wrong` selects."""
    return _count(alias, table), [name for (name,) in _rows(alias, wrong)]


def stock_adds_up(alias: str, moment: Moment) -> Finding:
    return _named(
        alias,
        "inventory_stock",
        "SELECT sku FROM inventory_stock WHERE on_hand < 0 OR reserved < 0 OR available < 0"
        " OR on_hand <> available + reserved ORDER BY sku",
    )


def stock_matches_ledger(alias: str, moment: Moment) -> Finding:
    return _named(
        alias,
        "inventory_stock",
        "WITH ledger AS (SELECT sku, sum(CASE kind WHEN 'shipped' THEN -quantity ELSE quantity END) AS pieces"
        " FROM inventory_stockmovement GROUP BY sku)"
        " SELECT stock.sku FROM inventory_stock AS stock LEFT JOIN ledger ON ledger.sku = stock.sku"
        " WHERE stock.on_hand <> coalesce(ledger.pieces, 0) ORDER BY stock.sku",
    )


def stock_matches_reservations(alias: str, moment: Moment) -> Finding:
    return _named(
        alias,
        "inventory_stock",
        "WITH held AS (SELECT line.sku, sum(line.quantity) AS pieces FROM inventory_reservation AS reservation"
        " JOIN inventory_reservationline AS line ON line.order_id = reservation.order_id"
        " WHERE reservation.status = 'reserved' GROUP BY line.sku)"
        " SELECT stock.sku FROM inventory_stock AS stock LEFT JOIN held ON held.sku = stock.sku"
        " WHERE stock.reserved <> coalesce(held.pieces, 0) ORDER BY stock.sku",
    )


def coupons_within_limits(alias: str, moment: Moment) -> Finding:
    return _named(
        alias,
        "coupons_coupon",
        "SELECT code FROM coupons_coupon WHERE redeemed > total_limit"
        " UNION SELECT coupon.code FROM coupons_coupon AS coupon"
        " JOIN coupons_redemption AS redemption ON redemption.coupon_id = coupon.id"
        " WHERE redemption.status = 'redeemed' AND coupon.per_customer_limit IS NOT NULL"
        " GROUP BY coupon.code, coupon.per_customer_limit, redemption.customer_id"
        " HAVING count(*) > coupon.per_customer_limit ORDER BY 1",
    )


def coupons_add_up(alias: str, moment: Moment) -> Finding:
    return _named(
        alias,
        "coupons_coupon",
        "WITH used AS (SELECT coupon_id, count(*) AS times FROM coupons_redemption"
        " WHERE status = 'redeemed' GROUP BY coupon_id)"
        " SELECT coupon.code FROM coupons_coupon AS coupon LEFT JOIN used ON used.coupon_id = coupon.id"
        " WHERE coupon.redeemed <> coalesce(used.times, 0) ORDER BY coupon.code",
    )


def messages_once(alias: str, moment: Moment) -> Finding:
    twice = _rows(
        alias,
        "SELECT event_id, channel FROM notifications_message GROUP BY event_id, channel"
        " HAVING count(*) > count(DISTINCT event_hash) OR count(*) > 1 AND min(event_hash) = ''"
        " ORDER BY event_id, channel",
    )
    return _count(alias, "notifications_message"), [f"{channel} about {event}" for event, channel in twice]


def charges_have_payments(alias: str, moment: Moment) -> Finding:
    """The gateway acts before payments can write it down, so a payment that still asks may be behind its charge."""
    strays = _rows(
        alias,
        "SELECT charge.key, charge.reference FROM payments_sandboxcharge AS charge"
        " LEFT JOIN payments_payment AS payment ON payment.gateway_reference = charge.reference"
        " WHERE charge.result = 'captured' AND payment.id IS NULL"
        " UNION ALL SELECT charge.key, charge.reference FROM payments_sandboxcharge AS charge"
        " LEFT JOIN payments_payment AS payment ON payment.refund_reference = charge.reference"
        " WHERE charge.result = 'refunded' AND payment.id IS NULL",
    )
    return _count(alias, "payments_sandboxcharge"), [
        f"charge {reference}" for key, reference in strays if not _is_asking(alias, key)
    ]


def _is_asking(alias: str, key: str) -> bool:
    kind, _, name = key.partition("-")
    try:
        payment_id = UUID(name)
    except ValueError:
        return False
    native = connections[alias].features.has_native_uuid_field
    found = _rows(
        alias, "SELECT status FROM payments_payment WHERE id = %s", [payment_id if native else payment_id.hex]
    )
    return found == [("requested" if kind == "capture" else "refund_requested",)]


def keys_have_one_order(alias: str, moment: Moment) -> Finding:
    wrong = _rows(
        alias,
        "SELECT stored.key, stored.order_id FROM orders_idempotencykey AS stored"
        " LEFT JOIN orders_order AS placed ON placed.id = stored.order_id"
        " WHERE placed.id IS NULL OR placed.customer_id <> stored.customer_id ORDER BY stored.order_id",
    )
    return _count(alias, "orders_idempotencykey"), [
        f"{key} of {stream_name(ORDER, order_id)}" for key, order_id in wrong
    ]


def orders_in_one_bucket(alias: str, moment: Moment) -> Finding:
    """A shard has no row of a bucket that another one owns and, in PostgreSQL, just the partitions of its own."""
    owned = shards.buckets_of(alias)
    strays: list[str] = []
    for low, high in _stretches(set(range(BUCKETS)) - set(owned)):
        for table, column in sharded_tables().items():
            columns, name = NAMES.get(table, (column, lambda row: stream_name(ORDER, row[0])))
            found = _rows(
                alias,
                f"SELECT {columns} FROM {table} WHERE {column} BETWEEN %s AND %s ORDER BY {column} LIMIT {MOST}",
                [bucket_range(low)[0], bucket_range(high)[1] - 1],
            )
            strays += dict.fromkeys(f"{name(row)} in {alias}" for row in found)
    if is_postgresql(connections[alias]):
        for table, attached in partitions.attached_buckets(alias).items():
            strays += [f"{alias}: {table} of bucket {bucket}" for bucket in sorted(attached ^ set(owned))]
    return len(owned), strays


def _stretches(buckets: set[int]) -> list[tuple[int, int]]:
    """The first and last of buckets that follow each other. Small ids, of products say, are no orders."""
    stretches: list[tuple[int, int]] = []
    for bucket in sorted(buckets):
        if stretches and stretches[-1][1] == bucket - 1:
            stretches[-1] = (stretches[-1][0], bucket)
        else:
            stretches.append((bucket, bucket))
    return stretches


CHECKS = (
    Check(
        name="stock_adds_up",
        title="No stock is negative, and what is on hand is what is available plus what is set aside.",
        counts="products",
        hint="The database refuses this, so somebody has dropped its constraints: add them again. Count the product "
        "and adjust its stock in the back office.",
        of_database=stock_adds_up,
        databases=lambda: (database_of("inventory"),),
        at_once=True,
    ),
    Check(
        name="stock_matches_ledger",
        title="What is on hand is what was received and adjusted less what was shipped.",
        counts="products",
        hint="Compare the product's stock movements with its stock row; count, and adjust the stock.",
        of_database=stock_matches_ledger,
        databases=lambda: (database_of("inventory"),),
        at_once=True,
    ),
    Check(
        name="stock_matches_reservations",
        title="What is set aside of a product is what its live reservations hold.",
        counts="products",
        hint="Add up the live reservations of the product, and correct `reserved` and `available` of its stock row.",
        of_database=stock_matches_reservations,
        databases=lambda: (database_of("inventory"),),
        at_once=True,
    ),
    Check(
        name="coupons_within_limits",
        title="No coupon is in use more often than it may be, in all or by one customer.",
        counts="coupons",
        hint="A limit was lowered below what was in use, or the coupon's row was not locked. Cancel or accept what is "
        "too much: see the coupon's redemptions.",
        of_database=coupons_within_limits,
        databases=lambda: (database_of("coupons"),),
        at_once=True,
    ),
    Check(
        name="coupons_add_up",
        title="A coupon counts as many uses as it has redemptions that stand.",
        counts="coupons",
        hint="Count the redemptions of the coupon that stand, and correct its `redeemed`.",
        of_database=coupons_add_up,
        databases=lambda: (database_of("coupons"),),
        at_once=True,
    ),
    Check(
        name="messages_once",
        title="A customer is told about an event once on each channel.",
        counts="messages",
        hint="The database refuses this, so somebody has dropped a constraint: delete the later one, and add it again.",
        of_database=messages_once,
        databases=lambda: (database_of("notifications"),),
        at_once=True,
    ),
    Check(
        name="charges_have_payments",
        title="The gateway has taken and given back no money that payments does not know of.",
        counts="charges",
        hint="Find the customer in the gateway's list and give the money back there.",
        of_database=charges_have_payments,
        databases=lambda: (database_of("payments"),),
    ),
    Check(
        name="keys_have_one_order",
        title="An idempotency key has one order, of the same customer.",
        counts="keys",
        hint="Delete the key: its request can then be made again.",
        of_database=keys_have_one_order,
        databases=shards.aliases,
        at_once=True,
    ),
    Check(
        name="orders_in_one_bucket",
        title="Every order is in the database that owns its bucket, and in no other.",
        counts="buckets",
        hint="A move of a bucket was cut off: run it again, or detach the partition that the shard map does not name.",
        of_database=orders_in_one_bucket,
        databases=shards.aliases,
    ),
)
