"""What the audit reads of each table, and the case that the rows about one order come together in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from eventing.databases import placeholders, time_from_db
from eventing.recorded import Recorded, is_among, short_hash, stream_name
from eventing.store import COLUMNS
from orders import handlers as orders
from orders.domain import Order
from orders.events import CATEGORY as ORDER
from payments.events import CATEGORY as PAYMENT
from values.contexts import all_contexts

Row = tuple[Any, ...]
Key = tuple[str, int]  # category and version: an event within its case
Trace = tuple[str, int, str]  # category, version, subscriber: what became of it


def _moves_orders(subscriber: str) -> bool:
    """Whether an order's state depends on its reactions; the others tell somebody."""
    context = all_contexts().get(subscriber)
    return context is not None and context.orders_wait


@dataclass(slots=True)
class Case:
    """What the databases have under one id. `events` are those that can be read, by category, oldest first.

    `inbox` and `dead_letters` are about the stored events, or about none; `of_others` names what is about an event of
    another hash: one that had the key before the shard was restored.
    `state` is the order as its events tell; None if there is none, or its events cannot be read or have gaps.
    """

    id: int
    stored: list[tuple[str, Row]] = field(default_factory=list)  # (alias, row of COLUMNS)
    hashes: dict[Key, str | None] = field(default_factory=dict)  # short ones, of what is stored
    outbox: set[Key] = field(default_factory=set)
    inbox: list[tuple[str, str, int, str]] = field(default_factory=list)  # (alias, category, version, subscriber)
    dead_letters: dict[Trace, DeadLetter] = field(default_factory=dict)
    of_others: list[Trace] = field(default_factory=list)
    order: Row | None = None
    lines: list[Row] = field(default_factory=list)
    keys: list[Row] = field(default_factory=list)
    reservation: Row | None = None
    reserved: dict[str, int] = field(default_factory=dict)
    shipped: list[Row] = field(default_factory=list)
    redemption: Row | None = None
    account: Row | None = None
    payments: list[Payment] = field(default_factory=list)
    messages: dict[tuple[str, str, str], Row] = field(default_factory=dict)  # by (event id, channel, event's hash)
    mail: Row | None = None  # the message whose stream has this id
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
            and not any(_moves_orders(name) for name, _ in self.missing)
            and not any(
                _moves_orders(name) and letter.status != "archived" and not self.has(category, version, name)
                for (category, version, name), letter in self.dead_letters.items()
            )
        )

    def can_be_judged(self, cutoff: datetime) -> bool:
        """What the contexts have done for the order can be held against it: it is at rest, and known if it exists."""
        return self.at_rest(cutoff) and (self.state is not None or not self.history())

    def has(self, category: str, version: int, subscriber: str) -> bool:
        """Whether the subscriber has handled the event."""
        return any(entry[1:] == (category, version, subscriber) for entry in self.inbox)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A dead letter. `content` is what arrived: type, schema version, data, metadata."""

    status: str
    content: tuple[Any, ...]
    settled_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """A payment, and what the sandbox gateway has in its book under the references: (amount, currency, result)."""

    id: str
    attempt: int
    amount: int
    currency: str
    status: str
    reason: str
    refund_reference: str
    times: tuple[datetime | None, ...]  # requested, settled, refunded
    captured: tuple[int | None, str | None, str | None]
    refunded: tuple[int | None, str | None, str | None]


Take = Callable[[Case, str, list[Row]], None]  # puts rows of a database into a case


@dataclass(frozen=True, slots=True)
class Table:
    """Rows that begin with the id of their case, and where they go in it.

    With a `category` they begin with the id of one of its events, which has the id of the case in it.
    """

    app: str  # whose database; "" is that of the shard, "*" every one that can have something about the case
    sql: str
    key: str
    take: Take
    category: str = ""

    def within(self, stretches: Sequence[tuple[int, int]]) -> tuple[str, list[Any]]:
        """The condition for the rows of all cases with an id in these stretches, first and last, and its parameters."""
        column = self.key.partition(",")[0]
        if not self.category and all(low == high for low, high in stretches):
            return f"{column} IN {placeholders(len(stretches), 1)}", [low for low, _ in stretches]
        ends: list[Any] = [end for stretch in stretches for end in stretch]
        if self.category:
            # No version is as large as a letter, whatever the database makes of the @.
            ends = [f"{stream_name(self.category, end)}{'@Z' * (number % 2)}" for number, end in enumerate(ends)]
        return f"({' OR '.join([f'{column} BETWEEN %s AND %s'] * len(stretches))})", ends


def _one(name: str) -> Take:
    """The only row there is goes into this attribute of the case."""
    return lambda case, alias, rows: setattr(case, name, rows[0])


def _all(name: str) -> Take:
    """All rows go into this attribute of the case."""
    return lambda case, alias, rows: setattr(case, name, rows)


def _take_events(case: Case, alias: str, rows: list[Row]) -> None:
    case.stored += [(alias, row) for row in rows]
    case.hashes |= {(row[1], row[2]): short_hash(row[8]) for row in rows}


def _take_outbox(case: Case, alias: str, rows: list[Row]) -> None:
    case.outbox |= {(category, version) for _, category, version in rows}


def _take_inbox(case: Case, alias: str, rows: list[Row]) -> None:
    for _, category, version, subscriber, hashes in rows:
        is_ours = is_among(case.hashes.get((category, version)), hashes)
        if is_ours:
            case.inbox.append((alias, category, version, subscriber))
        if not is_ours or (hashes is not None and " " in hashes and (category, version) in case.hashes):
            case.of_others.append((category, version, subscriber))


def _take_letters(case: Case, alias: str, rows: list[Row]) -> None:
    for _, category, version, subscriber, digest, status, settled_at, original, *content in rows:
        if not is_among(case.hashes.get((category, version)), short_hash(bytes.fromhex(digest))):
            if status != "archived":
                case.of_others.append((category, version, subscriber))
            continue
        if original is not None and (first := msgspec.json.decode(original)) is not None:
            content = [first["type"], first["schema_version"], first["data"], first["metadata"]]
        else:
            content[2:] = map(msgspec.json.decode, content[2:])
        case.dead_letters[category, version, subscriber] = DeadLetter(
            status=status, content=tuple(content), settled_at=settled_at and time_from_db(settled_at)
        )


def _take_messages(case: Case, alias: str, rows: list[Row]) -> None:
    case.messages |= {(row[1], row[2], row[9]): row for row in rows}


def _take_reserved(case: Case, alias: str, rows: list[Row]) -> None:
    case.reserved = {sku: quantity for _, sku, quantity in rows}


def _take_payments(case: Case, alias: str, rows: list[Row]) -> None:
    case.payments = [
        Payment(
            id=str(UUID(str(row[1]))),
            amount=row[2],
            currency=row[3],
            status=row[4],
            captured=(row[5], row[6], row[7]),
            refunded=(row[8], row[9], row[10]),
            attempt=row[11],
            reason=row[12],
            refund_reference=row[13],
            times=tuple(None if at is None else time_from_db(at) for at in row[14:17]),
        )
        for row in rows
    ]


TABLES = (
    Table("*", f"SELECT {COLUMNS} FROM eventing_event", "stream_id, category, version", _take_events),
    Table("*", "SELECT stream_id, category, version FROM eventing_outbox", "stream_id", _take_outbox),
    Table(
        "*",
        "SELECT stream_id, category, version, subscriber, hashes FROM eventing_inbox",
        "stream_id, category, version, subscriber",
        _take_inbox,
    ),
    Table(
        "eventing",
        "SELECT stream_id, category, version, subscriber, event_hash, status, settled_at, original, type,"
        " schema_version, data, metadata FROM eventing_dead_letter",
        "stream_id, category, version, subscriber, id",
        _take_letters,
    ),
    Table("", f"SELECT {', '.join(orders.ORDER_COLUMNS)} FROM orders_order", "id", _one("order")),
    Table("", f"SELECT {', '.join(orders.LINE_COLUMNS)} FROM orders_orderline", "order_id, position", _all("lines")),
    Table(
        "",
        "SELECT order_id, customer_id, key, fingerprint, created_at FROM orders_idempotencykey",
        "order_id",
        _all("keys"),
    ),
    Table(
        "inventory",
        "SELECT order_id, status, version, updated_at FROM inventory_reservation",
        "order_id",
        _one("reservation"),
    ),
    Table(
        "inventory", "SELECT order_id, sku, quantity FROM inventory_reservationline", "order_id, sku", _take_reserved
    ),
    Table(
        "inventory",
        "SELECT order_id, sku, kind, quantity, reason, at FROM inventory_stockmovement",
        "order_id, sku",
        _all("shipped"),
    ),
    Table(
        "coupons",
        "SELECT order_id, status, version, discount, code, customer_id, at FROM coupons_redemption"
        " LEFT JOIN coupons_coupon ON coupons_coupon.id = coupon_id",
        "order_id",
        _one("redemption"),
    ),
    Table(
        "payments",
        "SELECT order_id, version, captured_total, refunded_total, customer_id, closed, closed_reason"
        " FROM payments_account",
        "order_id",
        _one("account"),
    ),
    Table(
        "payments",
        "SELECT order_id, payment.id, payment.amount, payment.currency, payment.status,"
        " capture.amount, capture.currency, capture.result, refund.amount, refund.currency, refund.result,"
        " attempt, decline_reason, refund_reference, requested_at, settled_at, refunded_at"
        " FROM payments_payment AS payment"
        " LEFT JOIN payments_sandboxcharge AS capture ON capture.reference = payment.gateway_reference"
        " LEFT JOIN payments_sandboxcharge AS refund ON refund.reference = payment.refund_reference",
        "order_id, attempt",
        _take_payments,
    ),
    *(
        Table(
            "notifications",
            "SELECT event_id, event_id, channel, customer_id, about, order_id, correlation_id, mailed, created_at,"
            " event_hash"
            " FROM notifications_message",
            "event_id, channel",
            _take_messages,
            category,
        )
        for category in (ORDER, PAYMENT)
    ),
    Table(
        "notifications",
        "SELECT id, version, status FROM"
        " (SELECT id, version, status FROM notifications_message WHERE channel = 'email') AS mail",
        "id",
        _one("mail"),
    ),
)
