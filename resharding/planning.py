"""How big the buckets are, and which of them should be in another database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from django.db import connections

from sharding import shards
from sharding.numbers import BUCKETS
from sharding.partitions import partition_bucket

TOLERANCE = 0.05  # of what a database should have; less is not worth a move
COUNTED = 10_000  # rows of a partition that no statistics know yet
EMPTY = 1_000  # what each bucket counts for besides its rows, so that a young shop is balanced by buckets


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """About how many rows a bucket has in all its partitions, and their size on disk with indexes, in bytes."""

    rows: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedMove:
    """A bucket that should move."""

    bucket: int
    source: str
    target: str
    rows: int


def sizes(alias: str) -> dict[int, Size]:
    """The buckets that are attached in a PostgreSQL database, from its statistics; raises OperationalError."""
    found: dict[int, Size] = {}
    with connections[alias].cursor() as cursor:
        cursor.execute(
            "SELECT part.relname, part.reltuples, coalesce(pg_total_relation_size(part.oid), 0)"
            " FROM pg_partitioned_table AS p JOIN pg_class AS parent ON parent.oid = p.partrelid"
            " JOIN pg_inherits AS i ON i.inhparent = parent.oid JOIN pg_class AS part ON part.oid = i.inhrelid"
            " WHERE parent.relnamespace = current_schema()::regnamespace"
        )
        partitions = cursor.fetchall()
        # Those that were never analysed are young or small.
        uncounted = [name for name, rows, _ in partitions if rows < 0]
        counted: dict[str, int] = {}
        if uncounted:
            count = f"SELECT '{{0}}', count(*) FROM (SELECT 1 FROM \"{{0}}\" LIMIT {COUNTED}) AS counted"
            cursor.execute(" UNION ALL ".join(count.format(name) for name in uncounted))
            counted = dict(cursor.fetchall())
    for name, rows, size in partitions:
        bucket = partition_bucket(name)
        before = found.get(bucket, Size())
        found[bucket] = Size(rows=before.rows + int(counted.get(name, rows)), bytes=before.bytes + size)
    return found


def plan(owners: Sequence[str], rows: Mapping[int, int], aliases: Sequence[str]) -> list[PlannedMove]:
    """The moves after which each of `aliases` has about as many rows as the others, each bucket moving once at most.

    Each step takes from the fullest database the bucket that comes nearest to closing the gap to the emptiest, so few
    steps are needed. Buckets of databases that are not among `aliases` all move.
    """
    weights = {bucket: rows.get(bucket, 0) + EMPTY for bucket in range(BUCKETS)}
    homes: dict[str, list[int]] = {alias: [] for alias in (*aliases, *owners)}
    for bucket, owner in enumerate(owners):
        homes[owner].append(bucket)
    moved: set[int] = set()
    loads = {alias: sum(weights[bucket] for bucket in buckets) for alias, buckets in homes.items()}
    fair = sum(weights.values()) / len(aliases)
    steps: list[PlannedMove] = []

    def move(bucket: int, source: str, target: str) -> None:
        homes[source].remove(bucket)
        homes[target].append(bucket)
        loads[source] -= weights[bucket]
        loads[target] += weights[bucket]
        moved.add(bucket)
        steps.append(PlannedMove(bucket=bucket, source=source, target=target, rows=rows.get(bucket, 0)))

    def emptiest() -> str:
        return min(aliases, key=lambda alias: (loads[alias], aliases.index(alias)))

    for alias in homes:
        if alias not in aliases:
            for bucket in sorted(homes[alias], key=lambda bucket: -weights[bucket]):
                move(bucket, alias, emptiest())
    while True:
        source, target = max(aliases, key=lambda alias: loads[alias]), emptiest()
        gap = loads[source] - loads[target]
        fitting = [bucket for bucket in homes[source] if weights[bucket] < gap and bucket not in moved]
        if gap <= TOLERANCE * fair or not fitting:
            return steps
        best = min(fitting, key=lambda bucket: (abs(weights[bucket] - gap / 2), bucket))
        move(best, source, target)


def plan_now(aliases: Sequence[str] | None = None) -> list[PlannedMove]:
    """The plan for the databases that are configured, or for others; raises OperationalError, ShardMapMissing."""
    owners = shards.refresh().owners
    rows = {bucket: size.rows for alias in set(owners) for bucket, size in sizes(alias).items()}
    return plan(owners, rows, aliases or shards.aliases())
