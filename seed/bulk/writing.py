"""Writes batches of orders: the rows of the shard and those of the other contexts, each in a transaction, side by side.

The two databases cannot commit together. So the numbers of a batch are noted first; the shard commits, then `default`
with everything else and the note that the batch is complete. What a run that was cut off has left on a shard without
that note is removed by the next one.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from types import TracebackType
from typing import Self, TypeVar

from django.db import DEFAULT_DB_ALIAS, connections, transaction

from coupons import handlers as coupons
from eventing import store
from eventing.locks import try_transaction_lock
from eventing.recorded import Metadata
from inventory import handlers as inventory
from seed.bulk import BulkError
from seed.bulk.played import SHARD
from seed.bulk.templates import Table, copy_line, inbox_of
from seed.models import BulkBatch
from sharding import shards

LOCK = "seed in bulk"
LANES = 2  # batches that are written at the same time
BLOCK = 64 * 1024
T = TypeVar("T")
Texts = Mapping[Table, bytearray]

# Where rows of an order are on its shard, by the column with its number.
OF_ORDERS = {
    "orders_orderline": "order_id",
    "orders_order": "id",
    "eventing_inbox": "stream_id",
    "eventing_event": "stream_id",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Orders of one shard, as the text of their rows in each table, and what they have used."""

    alias: str
    ids: Sequence[int]
    hot: bool
    texts: Texts
    used: Mapping[str, inventory.Used]
    coupons: Mapping[str, int]


class Writer:
    """Writes batches while the next one is made, each with two threads: one for each of its databases."""

    def __init__(self, now: datetime) -> None:
        self._now = now
        self._threads = ThreadPoolExecutor(LANES, thread_name_prefix="bulk")
        self._threads_of_shards = ThreadPoolExecutor(LANES, thread_name_prefix="bulk-shard")
        self._under_way: deque[Future[int]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._threads.shutdown()
        self._threads_of_shards.shutdown()

    def write(self, batch: Batch) -> int:
        """Begin with a batch as soon as there is room for it; returns how many orders have been completed meanwhile."""
        written = self._under_way.popleft().result() if len(self._under_way) == LANES else 0
        self._under_way.append(self._threads.submit(_closing, self._write, batch))
        return written

    def finish(self) -> int:
        """Wait for what is under way; returns how many orders it was."""
        return sum(self._under_way.popleft().result() for _ in range(len(self._under_way)))

    def _write(self, batch: Batch) -> int:
        notes = BulkBatch.objects.using(DEFAULT_DB_ALIAS)
        note = notes.create(orders=len(batch.ids), hot=batch.hot, unfinished=list(batch.ids))
        on_shard = self._threads_of_shards.submit(_closing, _write_shard, batch)
        with transaction.atomic(using=DEFAULT_DB_ALIAS):
            _copy(DEFAULT_DB_ALIAS, {table: text for table, text in batch.texts.items() if table[0] != SHARD})
            on_shard.result()
            # Rows that others wait for are locked as late as can be.
            _book(batch, note.pk, self._now)
            notes.filter(pk=note.pk).update(unfinished=None)
        return len(batch.ids)


def _closing(write: Callable[[Batch], T], batch: Batch) -> T:
    """Give back the thread's connections after its work."""
    try:
        return write(batch)
    finally:
        connections.close_all()


def _write_shard(batch: Batch) -> None:
    with transaction.atomic(using=batch.alias):
        with connections[batch.alias].cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock_shared(hashtextextended(%s, 0))", [LOCK])
        _copy(batch.alias, {table: text for table, text in batch.texts.items() if table[0] == SHARD})


def _book(batch: Batch, note: int, now: datetime) -> None:
    """Bring in the stock and count the coupons that the batch has used."""
    metadata = Metadata(correlation_id=f"seed-bulk-{note}", actor="seed")
    texts: dict[Table, bytearray] = defaultdict(bytearray)
    supplied = inventory.supply(batch.used, "delivery for orders in bulk", now, metadata)
    events = store.rows_of(supplied, {}, using=DEFAULT_DB_ALIAS)
    for recorded, event in zip(supplied, events, strict=True):
        texts[DEFAULT_DB_ALIAS, "eventing_event", store.COLUMNS] += copy_line(event).encode()
        for table, row in inbox_of(replace(recorded, hash=event[-1])):
            texts[table] += copy_line(row).encode()
    _copy(DEFAULT_DB_ALIAS, texts)
    coupons.count_uses(batch.coupons)


def _copy(alias: str, texts: Texts) -> None:
    with connections[alias].cursor() as cursor:
        for (_, table, columns), text in texts.items():
            rows = memoryview(text)
            with cursor.copy(f"COPY {table} ({columns}) FROM STDIN") as copy:
                for start in range(0, len(rows), BLOCK):
                    copy.write(rows[start : start + BLOCK])


def remove_unfinished() -> int:
    """Remove from the shards what a run that was cut off has not completed; returns how many orders it was."""
    removed = 0
    with transaction.atomic(using=DEFAULT_DB_ALIAS):
        # The lock waits for a transaction whose process is gone and whose commit had been sent.
        for note in BulkBatch.objects.using(DEFAULT_DB_ALIAS).filter(unfinished__isnull=False).select_for_update():
            by_alias: dict[str, list[int]] = defaultdict(list)
            for order_id in note.unfinished or ():
                by_alias[shards.alias_of(order_id)].append(order_id)
            for alias, ids in by_alias.items():
                with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
                    if not try_transaction_lock(connections[alias], LOCK):
                        raise BulkError(f"a run that was cut off has not ended in {alias} yet: try again")
                    for table, column in OF_ORDERS.items():
                        cursor.execute(f"DELETE FROM {table} WHERE {column} = ANY(%s)", [ids])
                        if table == "orders_order":
                            removed += cursor.rowcount
            note.delete(using=DEFAULT_DB_ALIAS)
    return removed


def analyze(written: Mapping[str, set[str]]) -> None:
    """Let the planner know what the tables have now."""
    for alias, tables in written.items():
        with connections[alias].cursor() as cursor:
            cursor.execute(f"ANALYZE {', '.join(sorted(tables))}")
