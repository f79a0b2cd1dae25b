"""Checks that a statement or two within one database can answer."""

from __future__ import annotations

from django.db import connections

from eventing.databases import is_postgresql
from eventing.recorded import event_id, stream_name
from monitoring.audit.report import Finding, Scope, database_check
from orders.events import CATEGORY as ORDER
from sharding import partitions, shards
from sharding.numbers import BUCKETS, bucket_range
from sharding.router import sharded_tables
from values.contexts import rows_in, rows_of

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


@database_check(
    title="An idempotency key has one order, of the same customer.",
    counts="keys",
    hint="Delete the key: its request can then be made again.",
    databases=shards.aliases,
    at_once=True,
)
def keys_have_one_order(alias: str, scope: Scope) -> Finding:
    wrong = rows_of(
        alias,
        "SELECT stored.key, stored.order_id FROM orders_idempotencykey AS stored"
        " LEFT JOIN orders_order AS placed ON placed.id = stored.order_id"
        " WHERE placed.id IS NULL OR placed.customer_id <> stored.customer_id ORDER BY stored.order_id",
    )
    return rows_in(alias, "orders_idempotencykey"), [
        f"{key} of {stream_name(ORDER, order_id)}" for key, order_id in wrong
    ]


@database_check(
    title="Every order is in the database that owns its bucket, and in no other.",
    counts="buckets",
    hint="A move of a bucket was cut off: run it again, or detach the partition that the shard map does not name.",
    databases=shards.aliases,
)
def orders_in_one_bucket(alias: str, scope: Scope) -> Finding:
    """A shard has no row of a bucket that another one owns and, in PostgreSQL, just the partitions of its own."""
    owned = shards.buckets_of(alias)
    strays: list[str] = []
    for low, high in _stretches(set(range(BUCKETS)) - set(owned)):
        for table, column in sharded_tables().items():
            columns, name = NAMES.get(table, (column, lambda row: stream_name(ORDER, row[0])))
            found = rows_of(
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


CHECKS = (keys_have_one_order, orders_in_one_bucket)
