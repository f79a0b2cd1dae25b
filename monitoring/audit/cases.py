"""Everything that the databases have about one stream id, read in one pass over all orders in bounded memory.

An order's stream, those of its reservation, redemption and payments, and the rows of all contexts about it have the
same id. So the tables of all databases, each read in the order of that id, are merged like zips of one jacket: at no
time is there more than one case and a few hundred rows of each table in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from typing import Any
from uuid import UUID

import msgspec
from django.db import DEFAULT_DB_ALIAS, connections

from eventing import subscribers
from eventing.databases import placeholders, read_times_fast, snapshot, time_from_db
from eventing.errors import EventingError
from eventing.recorded import Recorded, event_id, stream_name
from eventing.store import COLUMNS, recorded_from_row
from eventing.subscribers import Subscriber
from orders import handlers as orders
from orders.domain import Order, fold
from orders.events import CATEGORY as ORDER
from sharding import shards
from sharding.numbers import BUCKETS, bucket_range
from sharding.router import database_of

ROWS = 500  # fetched at a time, of each table
NEIGHBOURS = 16  # buckets that are read in one go
CONTEXTS = ("inventory", "coupons", "payments", "notifications")
# Whose reactions an order's state depends on; the others tell somebody.
MOVERS = frozenset({"orders", "inventory", "coupons", "payments"})

Row = tuple[Any, ...]
Key = tuple[str, int]  # category and version: an event within its case


@dataclass(slots=True)
class Case:
    """What the databases have under one id. `events` are those that can be read, by category, oldest first.

    `state` is the order as its events tell; None if there is none, or its events cannot be read or have gaps.
    """

    id: int
    stored: list[tuple[str, Row]] = field(default_factory=list)  # (alias, row of COLUMNS)
    outbox: set[Key] = field(default_factory=set)
    inbox: list[tuple[str, str, int, str]] = field(default_factory=list)  # (alias, category, version, subscriber)
    letters: dict[tuple[str, int, str], str] = field(default_factory=dict)  # (category, version, subscriber): status
    order: Row | None = None
    lines: list[Row] = field(default_factory=list)
    reservation: Row | None = None
    reserved: dict[str, int] = field(default_factory=dict)
    redemption: Row | None = None
    account: Row | None = None
    payments: list[Payment] = field(default_factory=list)
    events: dict[str, list[Recorded[Any]]] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)
    missing: list[tuple[str, Recorded[Any]]] = field(default_factory=list)  # deliveries without a trace
    newest: datetime | None = None
    state: Order | None = None

    def name(self, category: str = ORDER) -> str:
        return stream_name(category, self.id)

    def history(self, category: str = ORDER) -> list[Recorded[Any]]:
        return self.events.get(category, [])

    def at_rest(self, cutoff: datetime) -> bool:
        """Nothing is under way: all that happened until `cutoff` has had its effects, and nothing happened since."""
        return (
            not self.unreadable
            and not self.outbox
            and (self.newest is None or self.newest <= cutoff)
            and not any(name in MOVERS for name, _ in self.missing)
            and not any(
                name in MOVERS and status != "archived" and not self.has(category, version, name)
                for (category, version, name), status in self.letters.items()
            )
        )

    def can_be_judged(self, cutoff: datetime) -> bool:
        """What the contexts have done for the order can be held against it: it is at rest, and known if it exists."""
        return self.at_rest(cutoff) and (self.state is not None or not self.history())

    def has(self, category: str, version: int, subscriber: str) -> bool:
        """Whether the subscriber has handled the event."""
        return any(entry[1:] == (category, version, subscriber) for entry in self.inbox)


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """A payment, and what the sandbox gateway has in its book under the references: (amount, currency, result)."""

    id: str
    amount: int
    currency: str
    status: str
    captured: tuple[int | None, str | None, str | None]
    refunded: tuple[int | None, str | None, str | None]


@dataclass(frozen=True, slots=True)
class _Table:
    """Rows that begin with the id of their case, and where they go in it. `where` is filled in by the reader."""

    app: str  # whose database; "" is that of the shard, "*" every one that can have something about the case
    sql: str
    key: str
    take: Callable[[Case, str, list[Row]], None]


def _take_events(case: Case, alias: str, rows: list[Row]) -> None:
    case.stored += [(alias, row) for row in rows]


def _take_outbox(case: Case, alias: str, rows: list[Row]) -> None:
    case.outbox |= {(category, version) for _, category, version in rows}


def _take_inbox(case: Case, alias: str, rows: list[Row]) -> None:
    case.inbox += [(alias, category, version, subscriber) for _, category, version, subscriber in rows]


def _take_letters(case: Case, alias: str, rows: list[Row]) -> None:
    case.letters = {(category, version, subscriber): status for _, category, version, subscriber, status in rows}


def _take_order(case: Case, alias: str, rows: list[Row]) -> None:
    case.order = rows[0]


def _take_lines(case: Case, alias: str, rows: list[Row]) -> None:
    case.lines = rows


def _take_reservation(case: Case, alias: str, rows: list[Row]) -> None:
    case.reservation = rows[0]


def _take_reserved(case: Case, alias: str, rows: list[Row]) -> None:
    case.reserved = {sku: quantity for _, sku, quantity in rows}


def _take_redemption(case: Case, alias: str, rows: list[Row]) -> None:
    case.redemption = rows[0]


def _take_account(case: Case, alias: str, rows: list[Row]) -> None:
    case.account = rows[0]


def _take_payments(case: Case, alias: str, rows: list[Row]) -> None:
    case.payments = [
        Payment(
            id=str(UUID(str(row[1]))),
            amount=row[2],
            currency=row[3],
            status=row[4],
            captured=(row[5], row[6], row[7]),
            refunded=(row[8], row[9], row[10]),
        )
        for row in rows
    ]


TABLES = (
    _Table("*", f"SELECT {COLUMNS} FROM eventing_event", "stream_id, category, version", _take_events),
    _Table("*", "SELECT stream_id, category, version FROM eventing_outbox", "stream_id", _take_outbox),
    _Table(
        "*",
        "SELECT stream_id, category, version, subscriber FROM eventing_inbox",
        "stream_id, category, version, subscriber",
        _take_inbox,
    ),
    _Table(
        "eventing",
        "SELECT stream_id, category, version, subscriber, status FROM eventing_dead_letter",
        "stream_id, category, version, subscriber",
        _take_letters,
    ),
    _Table("", f"SELECT {', '.join(orders.ORDER_COLUMNS)} FROM orders_order", "id", _take_order),
    _Table("", f"SELECT {', '.join(orders.LINE_COLUMNS)} FROM orders_orderline", "order_id, position", _take_lines),
    _Table("inventory", "SELECT order_id, status, version FROM inventory_reservation", "order_id", _take_reservation),
    _Table(
        "inventory", "SELECT order_id, sku, quantity FROM inventory_reservationline", "order_id, sku", _take_reserved
    ),
    _Table(
        "coupons",
        "SELECT order_id, status, version, discount, code, customer_id FROM coupons_redemption"
        " LEFT JOIN coupons_coupon ON coupons_coupon.id = coupon_id",
        "order_id",
        _take_redemption,
    ),
    _Table(
        "payments",
        "SELECT order_id, version, captured_total, refunded_total FROM payments_account",
        "order_id",
        _take_account,
    ),
    _Table(
        "payments",
        "SELECT order_id, payment.id, payment.amount, payment.currency, payment.status,"
        " capture.amount, capture.currency, capture.result, refund.amount, refund.currency, refund.result"
        " FROM payments_payment AS payment"
        " LEFT JOIN payments_sandboxcharge AS capture ON capture.reference = payment.gateway_reference"
        " LEFT JOIN payments_sandboxcharge AS refund ON refund.reference = payment.refund_reference",
        "order_id, attempt",
        _take_payments,
    ),
)


def context_databases() -> tuple[str, ...]:
    """The databases of everything that is not an order; `default` is one of them."""
    return tuple(dict.fromkeys([DEFAULT_DB_ALIAS, *(database_of(context) for context in CONTEXTS)]))


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
    yield from _read(alias, "BETWEEN %s AND %s", [low, high], horizon)


def cases_of(ids: Iterable[int], horizon: datetime) -> Iterator[Case]:
    """These cases as they are now, by id within each database."""
    for alias, group in groupby(sorted(ids, key=lambda one: (shards.alias_of(one), one)), key=shards.alias_of):
        wanted = list(group)
        for start in range(0, len(wanted), ROWS):
            part = wanted[start : start + ROWS]
            yield from _read(alias, f"IN {placeholders(len(part), 1)}", part, horizon)


def _read(shard: str, which: str, parameters: Sequence[int], horizon: datetime) -> Iterator[Case]:
    everywhere = tuple(dict.fromkeys([shard, *context_databases()]))
    with ExitStack() as stack:
        # The shard comes first: whatever the contexts have heard of since is newer than what is known of the order.
        for alias in everywhere:
            stack.enter_context(snapshot(connections[alias]))
        sources = [
            (table, alias, _Rows(stack, alias, table, which, parameters))
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

    def __init__(self, stack: ExitStack, alias: str, table: _Table, which: str, parameters: Sequence[int]) -> None:
        key = table.key.partition(",")[0]
        # With a cursor on the server the rows come when they are asked for.
        cursor = connections[alias].chunked_cursor()
        stack.callback(cursor.close)
        read_times_fast(cursor)
        cursor.execute(f"{table.sql} WHERE {key} {which} ORDER BY {table.key}", list(parameters))
        self._cursor = cursor
        self._fetched: Iterator[Row] = iter(())
        self.head: Row | None = self._next()

    def _next(self) -> Row | None:
        row = next(self._fetched, None)
        if row is None:
            self._fetched = iter(self._cursor.fetchmany(ROWS))
            row = next(self._fetched, None)
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
            if key not in handled and key not in case.letters:
                case.missing.append((subscriber.name, recorded))
    history = case.history()
    if history and not case.unreadable and all(item.version == at for at, item in enumerate(history, start=1)):
        state = fold(item.event for item in history)
        case.state = None if state.status is None else state


def wanting(event_type: str) -> list[Subscriber]:
    return [subscriber for subscriber in subscribers.all_subscribers() if subscriber.wants(event_type)]
