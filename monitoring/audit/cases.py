"""Everything that the databases have about one stream id, read in one pass over all orders in bounded memory.

An order's stream, those of its reservation, redemption and payments, and the rows of all contexts about it have the
same id. So the tables of all databases, each read in the order of that id, are merged like zips of one jacket: at no
time is there more than one case and a few hundred rows of each table in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from datetime import datetime
from itertools import groupby

import msgspec
from django.db import connections

from eventing import crockford, subscribers
from eventing.databases import read_times_fast, snapshot, time_from_db
from eventing.errors import EventingError
from eventing.recorded import event_id
from eventing.store import recorded_from_row
from eventing.subscribers import Subscriber
from monitoring.audit.rows import TABLES, Case, Row, Table
from orders.domain import fold
from sharding import shards
from sharding.numbers import BUCKETS, bucket_range
from sharding.router import context_databases, database_of

ROWS = 500  # fetched at a time, of each table
NEIGHBOURS = 16  # buckets that are read in one go


def ranges() -> Iterator[tuple[str, int, int]]:
    """The alias, lowest and highest id of neighbouring buckets that one database owns."""
    owned = [(bucket, shards.alias_of_bucket(bucket)) for bucket in range(BUCKETS)]
    for (alias, _), group in groupby(owned, key=lambda item: (item[1], item[0] // NEIGHBOURS)):
        buckets = [bucket for bucket, _ in group]
        yield alias, bucket_range(buckets[0])[0], bucket_range(buckets[-1])[1] - 1


def cases_between(alias: str, low: int, high: int, horizon: datetime) -> Iterator[Case]:
    """The cases with ids from `low` to `high`, whose orders are in the database `alias`, by id.

    Deliveries of events that were recorded before `horizon` are not looked for: their inbox rows may be pruned.
    """
    yield from _read(alias, [(low, high)], horizon)


def cases_of(ids: Iterable[int], horizon: datetime) -> Iterator[Case]:
    """These cases as they are now, by id within each database."""
    for alias, group in groupby(sorted(ids, key=lambda one: (shards.alias_of(one), one)), key=shards.alias_of):
        wanted = list(group)
        for start in range(0, len(wanted), ROWS):
            yield from _read(alias, [(one, one) for one in wanted[start : start + ROWS]], horizon)


def _read(shard: str, stretches: Sequence[tuple[int, int]], horizon: datetime) -> Iterator[Case]:
    everywhere = tuple(dict.fromkeys([shard, *context_databases()]))
    with ExitStack() as stack:
        # The shard comes first: whatever the contexts have heard of since is newer than what is known of the order.
        for alias in everywhere:
            stack.enter_context(snapshot(connections[alias]))
        sources = [
            (table, alias, _Rows(stack, alias, table, stretches))
            for table in TABLES
            for alias in (everywhere if table.app == "*" else (shard if not table.app else database_of(table.app),))
        ]
        while (heads := [rows.head[0] for _, _, rows in sources if rows.head is not None]) and heads:
            case = Case(min(heads))
            for table, alias, rows in sources:
                if rows.head is not None and rows.head[0] == case.id:
                    table.take(case, alias, rows.take())
            _open(case, horizon)
            yield case


class _Rows:
    """The rows of a table, of which those with the next id can be taken."""

    def __init__(self, stack: ExitStack, alias: str, table: Table, stretches: Sequence[tuple[int, int]]) -> None:
        condition, parameters = table.within(stretches)
        # With a cursor on the server the rows come when they are asked for.
        cursor = connections[alias].chunked_cursor()
        stack.callback(cursor.close)
        read_times_fast(cursor)
        cursor.execute(f"{table.sql} WHERE {condition} ORDER BY {table.key}", parameters)
        self._cursor = cursor
        self._by_event = bool(table.category)
        self._fetched: Iterator[Row] = iter(())
        self.head: Row | None = self._next()

    def _next(self) -> Row | None:
        row = next(self._fetched, None)
        if row is None:
            self._fetched = iter(self._cursor.fetchmany(ROWS))
            row = next(self._fetched, None)
        if row is not None and self._by_event:
            return _case_of(row[0]), *row[1:]
        return row

    def take(self) -> list[Row]:
        rows: list[Row] = []
        head = self.head
        if head is not None:
            case = head[0]
            while head is not None and head[0] == case:
                rows.append(head)
                head = self._next()
        self.head = head
        return rows


def _case_of(name: str) -> int:
    """The id of the case in that of an event; 0, under which there is none, if somebody has invented it."""
    try:
        return crockford.decode(name.rpartition("@")[0].rpartition("-")[2])
    except ValueError:
        return 0


def _open(case: Case, horizon: datetime) -> None:
    """Read the events, and find the deliveries of which there is no trace."""
    handled = {entry[1:] for entry in case.inbox}
    for _, row in case.stored:
        recorded_at = time_from_db(row[7])
        case.newest = recorded_at if case.newest is None else max(case.newest, recorded_at)
        try:
            recorded = recorded_from_row(row)
        except (EventingError, msgspec.MsgspecError, ValueError, TypeError, KeyError):
            case.unreadable.append(event_id(row[1], row[0], row[2]))
            continue
        case.events.setdefault(recorded.category, []).append(recorded)
        if recorded_at < horizon or (recorded.category, recorded.version) in case.outbox:
            continue
        for subscriber in wanting(row[3]):
            key = (recorded.category, recorded.version, subscriber.name)
            if key not in handled and key not in case.dead_letters:
                case.missing.append((subscriber.name, recorded))
    history = case.history()
    if history and not case.unreadable and all(item.version == at for at, item in enumerate(history, start=1)):
        state = fold(item.event for item in history)
        case.state = None if state.status is None else state


def wanting(event_type: str) -> list[Subscriber]:
    return [subscriber for subscriber in subscribers.all_subscribers() if subscriber.wants(event_type)]
