"""Which database owns which bucket: the shard map as this process knows it, and writes that follow a moving bucket.

The map is read from `default` at most every `SHARD_MAP_SECONDS`, so a process may act on an old one. That is harmless
for writes: a database refuses the rows of a bucket that it does not own, and `on_owner` then looks again.
"""

import re
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import stamina
import structlog
from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, DatabaseError, Error, connections, transaction
from django.db.models import F
from django.utils import timezone
from psycopg.errors import CheckViolation, ObjectInUse

from sharding.errors import BucketMoving, ShardingError, ShardMapMissing
from sharding.models import Bucket
from sharding.numbers import BUCKETS, bucket_of

T = TypeVar("T")

logger = structlog.get_logger(__name__)

_SHARD_ALIAS = re.compile(r"orders_(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardMap:
    """The alias that owns each bucket, and how often buckets have been moved or assigned in all.

    `moving` are the buckets that are being cut over just now: for a moment no database may have them.
    """

    owners: tuple[str, ...]
    version: int
    moving: frozenset[int] = frozenset()


def aliases() -> tuple[str, ...]:
    """The order shards among the configured databases: `orders_0`, `orders_1`, … by number."""
    numbered = {int(match[1]): alias for alias in settings.DATABASES if (match := _SHARD_ALIAS.fullmatch(alias))}
    return tuple(numbered[number] for number in sorted(numbered))


def alias_of(order_id: int) -> str:
    """The database of an order; raises InvalidOrderNumber, ShardMapMissing."""
    return _cache.get().owners[bucket_of(order_id)]


def alias_of_bucket(bucket: int) -> str:
    """The database that owns a bucket (0..127); raises ShardMapMissing."""
    return _cache.get().owners[bucket]


def buckets_of(alias: str) -> tuple[int, ...]:
    """The buckets that a database owns, in order; raises ShardMapMissing."""
    return tuple(bucket for bucket, owner in enumerate(_cache.get().owners) if owner == alias)


def is_moving(bucket: int) -> bool:
    """Whether a bucket is being cut over, as far as this process knows; raises ShardMapMissing."""
    return bucket in _cache.get().moving


def refresh() -> ShardMap:
    """Read the map again now; raises ShardMapMissing, or OperationalError when `default` cannot be reached."""
    return _cache.refresh()


def on_owner(bucket: int, operation: Callable[[str], T]) -> T:
    """Run `operation(alias)` on the database that owns a bucket, following the bucket when it has moved.

    The operation opens its own `transaction.atomic(using=alias)` and must not be inside another transaction of that
    database: it may be run several times. When no database accepts the rows within `SHARD_MOVE_WAIT_SECONDS`, raises
    BucketMoving.
    """
    try:
        return _run(alias_of_bucket(bucket), operation)
    except DatabaseError as error:
        if not is_not_owned(error):
            raise
    started = time.monotonic()
    try:
        for attempt in _patiently(on=is_not_owned):
            with attempt:
                refresh()
                return _run(alias_of_bucket(bucket), operation)
    except DatabaseError as error:
        if not is_not_owned(error):
            raise
        raise BucketMoving(
            f"bucket {bucket} is owned by {alias_of_bucket(bucket)} in version {_cache.get().version} of the shard map,"
            f" but that database does not take its rows; waited {time.monotonic() - started:.1f} s"
        ) from error
    raise AssertionError("unreachable: an attempt returns or raises")


def query_owner(bucket: int, query: Callable[[str], T]) -> T:
    """The answer of `query(alias)` on the database that owns a bucket.

    If the query finds nothing, the shard map is reloaded; if the bucket has moved, the query runs again. While no
    database has the bucket it waits; after `SHARD_MOVE_WAIT_SECONDS` it raises BucketMoving.
    """
    alias = alias_of_bucket(bucket)
    answer = query(alias)
    if answer or not may_have_moved(bucket, alias):
        return answer
    return query(alias_of_bucket(bucket))


def may_have_moved(bucket: int, alias: str) -> bool:
    """Read the map again; whether the bucket has moved away from `alias`, so that a query should run again.

    Waits while the bucket is being cut over; raises BucketMoving if that takes longer than `SHARD_MOVE_WAIT_SECONDS`.
    """
    shard_map = refresh()
    if bucket not in shard_map.moving:
        return shard_map.owners[bucket] != alias
    for attempt in _patiently(on=BucketMoving):
        with attempt:
            if bucket in refresh().moving:
                raise BucketMoving(f"bucket {bucket} is being moved away from {alias}")
    return True


def is_not_owned(error: BaseException) -> bool:
    """True if PostgreSQL refused a row because its bucket is not there, or is about to leave.

    The message depends on the server's language; a check violation that names no constraint is only ever the one of
    "no partition of relation …". ObjectInUse is raised by the write fence of `resharding`.
    """
    match error.__cause__:
        case CheckViolation(diag=diag):
            return diag.constraint_name is None
        case ObjectInUse():
            return True
    return False


def _patiently(on: Any) -> Iterable[Any]:
    return stamina.retry_context(
        on=on,
        attempts=None,
        timeout=settings.SHARD_MOVE_WAIT_SECONDS,
        wait_initial=0.01,
        wait_max=0.2,
        wait_jitter=0.02,
    )


def first_assignment() -> tuple[str, ...]:
    """The owner of each bucket in a fresh installation: the shards get neighbouring buckets, as evenly as it goes."""
    shards = aliases()
    if not shards:
        raise ShardingError("no order shard is configured: settings.DATABASES needs orders_0")
    return tuple(shards[bucket * len(shards) // BUCKETS] for bucket in range(BUCKETS))


def install() -> bool:
    """Write the first assignment into an empty shard map; False (and nothing changed) if there is a map already."""
    rows = Bucket.objects.using(DEFAULT_DB_ALIAS)
    fresh = not rows.exists()
    if fresh:
        # Another process may be installing too; the map would be the same.
        rows.bulk_create(
            [Bucket(bucket=bucket, alias=alias) for bucket, alias in enumerate(first_assignment())],
            ignore_conflicts=True,
        )
    refresh()
    return fresh


def assign(bucket: int, alias: str) -> None:
    """Write down that a bucket is owned by another database from now on. It moves no rows and no partitions."""
    if alias not in aliases():
        raise ShardingError(f"{alias} is not an order shard; there are {', '.join(aliases())}")
    with transaction.atomic(using=DEFAULT_DB_ALIAS):
        rows = Bucket.objects.using(DEFAULT_DB_ALIAS).filter(bucket=bucket)
        if not rows.update(alias=alias, version=F("version") + 1, moved_at=timezone.now(), moving_to=None):
            raise ShardMapMissing(_missing(0))
    refresh()


def buckets_to_create(alias: str) -> tuple[int, ...]:
    """The buckets for which a table that is being made needs partitions: the map's, or the first assignment's.

    Databases are migrated before anybody has installed a map, in tests for example.
    """
    try:
        owners = _read().owners
    except ShardMapMissing:
        owners = first_assignment()
    return tuple(bucket for bucket, owner in enumerate(owners) if owner == alias)


class _Cache:
    """The map that this process uses: an immutable snapshot, swapped as a whole, so that readers need no lock."""

    def __init__(self) -> None:
        self._reading = threading.Lock()
        self._snapshot: tuple[ShardMap, float] | None = None  # with the monotonic time at which it becomes old

    def get(self) -> ShardMap:
        snapshot = self._snapshot
        if snapshot is None:
            return self.refresh()
        shard_map, old_at = snapshot
        if time.monotonic() < old_at or not self._reading.acquire(blocking=False):
            return shard_map  # fresh, or another thread is reading a new one
        try:
            return self._store(_read())
        except Error as error:
            # An old map is better than none: what has moved is refused by the database that it moved away from.
            logger.warning("shard_map.not_read", error=str(error))
            return self._store(shard_map)
        finally:
            self._reading.release()

    def refresh(self) -> ShardMap:
        with self._reading:
            return self._store(_read())

    def _store(self, shard_map: ShardMap) -> ShardMap:
        self._snapshot = (shard_map, time.monotonic() + settings.SHARD_MAP_SECONDS)
        return shard_map


_cache = _Cache()


def _run(alias: str, operation: Callable[[str], T]) -> T:
    blocks = connections[alias].atomic_blocks
    if blocks and not blocks[-1]._from_testcase:  # type: ignore[attr-defined]  # as for durable transactions
        raise ShardingError(
            f"on_owner inside a transaction of {alias}: the operation could not be repeated elsewhere; open it inside"
        )
    return operation(alias)


def _read() -> ShardMap:
    connection = connections[DEFAULT_DB_ALIAS]
    was_open = connection.connection is not None
    try:
        rows = Bucket.objects.using(DEFAULT_DB_ALIAS).order_by("bucket")
        found = list(rows.values_list("bucket", "alias", "version", "moving_to"))
    except Error as error:
        if _no_such_table(error):
            raise ShardMapMissing(_missing(0)) from error
        raise
    finally:
        if not was_open:  # threads of a shard have no other use for a connection to `default`
            connection.close()
    if [bucket for bucket, *_ in found] != list(range(BUCKETS)):
        raise ShardMapMissing(_missing(len(found)))
    return ShardMap(
        owners=tuple(alias for _, alias, _, _ in found),
        version=sum(version for _, _, version, _ in found),
        moving=frozenset(bucket for bucket, _, _, moving_to in found if moving_to is not None),
    )


def _missing(found: int) -> str:
    return f"the shard map has {found} of {BUCKETS} buckets: run `manage.py migrate_all`, which writes the first one"


def _no_such_table(error: Error) -> bool:
    return getattr(error.__cause__, "sqlstate", None) == "42P01" or "no such table" in str(error)
