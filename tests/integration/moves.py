"""A bucket of the tests' own that moves, and what it leaves behind."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest
from django.db import connections, transaction

from eventing.partitions import partitioned_tables
from resharding import moving
from resharding.steps import Step
from sharding import shards
from sharding.models import Bucket, BucketMove
from sharding.partitions import attached_buckets, partition_name, partition_statements

CUSTOMER = 7
BUCKET = 7
SOURCE, TARGET = "orders_0", "orders_1"


@pytest.fixture
def databases() -> Iterator[None]:
    """The first shard map, and afterwards the first partitions, whatever became of them."""
    shards.refresh()
    assert shards.alias_of_bucket(BUCKET) == SOURCE
    yield
    connections.close_all()
    for alias in (SOURCE, TARGET):
        with connections[alias].cursor() as cursor:
            for table in ("eventing_event", "orders_order", "orders_orderline"):
                cursor.execute(f"DROP TABLE IF EXISTS {partition_name(table, BUCKET)}")
            for table in ("eventing_inbox", "eventing_outbox", "orders_idempotencykey"):
                cursor.execute(f"DROP TRIGGER IF EXISTS sharding_gate_b{BUCKET:03d} ON {table}")
                cursor.execute(f"DROP TABLE IF EXISTS {partition_name(table, BUCKET)}")
    create_partitions(SOURCE, [BUCKET])
    Bucket.objects.filter(bucket=BUCKET).update(alias=SOURCE, version=1, moving_to=None)
    shards.refresh()


def create_partitions(alias: str, buckets: Iterable[int]) -> None:
    """Give every bucketed table of a database the (empty) partitions of some buckets, or none at all."""
    wanted = tuple(buckets)
    with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
        for table in partitioned_tables(alias):
            for bucket in wanted:
                for statement in partition_statements(table, bucket):
                    cursor.execute(statement)


def owners() -> list[str]:
    return [alias for alias in (SOURCE, TARGET) if all(BUCKET in some for some in attached_buckets(alias).values())]


def begin() -> BucketMove:
    return moving.start(BUCKET, TARGET)


class BrokenOff(Exception):
    pass


def break_off(at: Step) -> None:
    """Leave a move where a mover would that dies: its locks go, all else stays."""

    def stop(step: Step) -> None:
        if step is at:
            raise BrokenOff

    with pytest.raises(BrokenOff):
        moving.run(begin(), on_step=stop)
