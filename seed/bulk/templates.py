"""Orders as templates: the rows of a story in every table, as text for COPY with gaps for what is new each time.

Playing a story and finding out its rows takes ten milliseconds, filling the gaps of its template as many microseconds.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import sha256
from operator import itemgetter
from typing import Any

from django.db import DEFAULT_DB_ALIAS, models

from coupons import handlers as coupons
from coupons.commands import ReleaseCoupon
from coupons.events import REDEMPTION
from eventing import chain, store, subscribers
from eventing.crockford import encode
from eventing.models import InboxEntry
from eventing.recorded import Recorded, short_hash
from inventory import handlers as inventory
from inventory.events import RESERVATION
from notifications import handlers as notifications
from notifications.handlers import Customer
from orders import handlers as orders
from orders.events import CATEGORY as ORDER
from payments import handlers as payments
from payments.events import CATEGORY as PAYMENT
from seed.bulk.stories import MOMENTS, Basket, Course
from sharding import shards

SHARD = "shard"  # in place of the alias of the order's database

# What stands in the rows of a story until its gaps are filled; no text of the shop has anything like it.
ORDER_ID = (3 << 56) + 0x5A5A5A5A5A5A5A
CUSTOMER_ID = 2_070_707_071
NAME = "Xyzzyxyzzy"
TRACKING = "WH-X-Y-Z-Z-Y"

RANDOM = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}|(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])"
)
HASH = b"\t\\\\x"  # between the other columns of an event and the digits of its hash
PUBLISHED = timedelta(milliseconds=6)  # from an event to its message
HANDLED = timedelta(milliseconds=18)  # from an event to its effect


def in_words(at: datetime) -> str:
    """A deadline as messages tell it."""
    return f"{at.day} {at:%B %Y, %H:%M}"


# Every template has these gaps, in this sequence; after them come its random numbers, see `Template.randoms`, and the
# short hashes of its events.
GAPS = (
    str(ORDER_ID),
    encode(ORDER_ID),
    str(CUSTOMER_ID),
    NAME,
    TRACKING,
    *(f"{at:%Y-%m-%dT%H:%M:%S}" for at in MOMENTS.values()),
    in_words(MOMENTS["due"]),
)

Table = tuple[str, str, str]  # where (SHARD or an alias), table, columns
Pick = Callable[[Sequence[bytes]], Sequence[bytes]]  # the pieces of a text from what fills gaps and from literals


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Link:
    """An event of a story: its row for COPY without the hash, and what is hashed of it. Streams differ by category."""

    table: Table
    category: str
    row: Pick
    text: Pick


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Template:
    """A story's rows. `inbox` are those that are pruned after a time.

    `millisecond` is that within a second at which the order is placed. `randoms` says of each random number whether it
    is a UUID, else it is 32 hexadecimal digits.
    """

    rows: tuple[tuple[Table, Pick], ...]
    events: tuple[Link, ...]
    inbox: tuple[tuple[Table, Pick], ...]
    literals: tuple[bytes, ...]
    randoms: tuple[bool, ...]
    millisecond: int
    used: Mapping[str, inventory.Used]
    coupons: Mapping[str, int]

    def fill(self, texts: Mapping[Table, bytearray], values: Sequence[bytes], *, inbox: bool) -> None:
        """Add the text of one order's rows to that of each table; `values` fill `GAPS` and `randoms`."""
        pieces = [*values, *(b"" for _ in self.events), *self.literals]
        heads: dict[str, bytes] = {}
        for number, link in enumerate(self.events, start=len(values)):
            hashed = sha256(heads.get(link.category, chain.START) + b"".join(link.text(pieces)))
            heads[link.category] = head = hashed.digest()
            pieces[number] = short_hash(head).encode()
            texts[link.table] += b"".join((*link.row(pieces), HASH, hashed.hexdigest().encode(), b"\n"))
        for table, pick in self.rows:
            texts[table] += b"".join(pick(pieces))
        if inbox:
            for table, pick in self.inbox:
                texts[table] += b"".join(pick(pieces))


def template_of(steps: Sequence[str], basket: Basket, chance: random.Random) -> Template:
    course = Course(order_id=ORDER_ID, customer_id=CUSTOMER_ID, tracking=TRACKING, basket=basket, chance=chance)
    for step in ("place", *steps):
        course.take(step)
    course.events = with_hashes(course.events)
    events = [(recorded, store.content_of(recorded)) for recorded in course.events]
    lines = [copy_line(content)[:-1] for _, content in events]
    rows, inbox = _texts(_rows(course)), _texts(_inbox(course))
    randoms = list(
        dict.fromkeys(found for text in (*lines, *rows.values(), *inbox.values()) for found in RANDOM.findall(text))
    )
    gaps = [*GAPS, *randoms, *(recorded.identity[3] for recorded in course.events)]
    literals: list[bytes] = []
    return Template(
        rows=tuple((table, _pick(text, gaps, literals)) for table, text in rows.items()),
        events=tuple(
            Link(
                table=(SHARD if recorded.category == ORDER else DEFAULT_DB_ALIAS, "eventing_event", store.COLUMNS),
                category=recorded.category,
                row=_pick(line, gaps, literals),
                text=_pick(chain.text_of(content).decode(), gaps, literals),
            )
            for line, (recorded, content) in zip(lines, events, strict=True)
        ),
        inbox=tuple((table, _pick(text, gaps, literals)) for table, text in inbox.items()),
        literals=tuple(literals),
        randoms=tuple("-" in found for found in randoms),
        millisecond=course.fraction // timedelta(milliseconds=1),
        used=_used(course),
        coupons=_coupons(course),
    )


def with_hashes(events: Iterable[Recorded[Any]]) -> list[Recorded[Any]]:
    """Each with a hash that stands for the one that it will have."""
    return [replace(event, hash=sha256(f"event {number}".encode()).digest()) for number, event in enumerate(events)]


def _pick(text: str, gaps: Sequence[str], literals: list[bytes]) -> Pick:
    """Cut a text at its gaps. What is between them is added to `literals`."""
    position = {gap: number for number, gap in enumerate(gaps)}
    picked = []
    for piece in re.split(f"({'|'.join(map(re.escape, gaps))})", text):
        if piece not in position:
            picked.append(len(gaps) + len(literals))
            literals.append(piece.encode())
        else:
            picked.append(position[piece])
    return itemgetter(*picked)


def _used(course: Course) -> dict[str, inventory.Used]:
    """What the order has taken or still holds of each product."""
    match course.reservation.status:
        case "shipped":
            return {item.sku: inventory.Used(shipped=item.quantity) for item in course.reservation.items}
        case "reserved":
            return {item.sku: inventory.Used(reserved=item.quantity) for item in course.reservation.items}
        case _:
            return {}


def _coupons(course: Course) -> dict[str, int]:
    redeemed = course.redemption.status == "redeemed" and course.redemption.code
    return {redeemed: 1} if redeemed else {}


def all_rows(course: Course) -> Iterator[tuple[Table, Sequence[Any]]]:
    """The order's rows in all tables of all databases; the rows of its events lack their hashes."""
    for recorded in course.events:
        where = SHARD if recorded.category == ORDER else DEFAULT_DB_ALIAS
        yield (where, "eventing_event", ", ".join(store.CONTENT_TYPES)), store.content_of(recorded)
    yield from _rows(course)
    yield from _inbox(course)


def _rows(course: Course) -> Iterator[tuple[Table, Sequence[Any]]]:
    """All but its events and their inbox rows."""
    read_model = orders.rows_of(course.history(ORDER))
    yield (SHARD, "orders_order", ", ".join(orders.ORDER_COLUMNS)), read_model.order
    for line in read_model.lines:
        yield (SHARD, "orders_orderline", ", ".join(orders.LINE_COLUMNS)), line
    for instance in _instances(course):
        yield _row_of(DEFAULT_DB_ALIAS, instance)
    for message in _messages(course):
        yield (DEFAULT_DB_ALIAS, "notifications_message", ", ".join(message)), list(message.values())


def _instances(course: Course) -> Iterator[models.Model]:
    yield from inventory.rows_of(course.history(RESERVATION))
    if history := course.history(REDEMPTION):
        yield coupons.row_of(history)
    elif course.ended is not None:
        at = course.ended.recorded_at + HANDLED
        yield coupons.tombstone(ReleaseCoupon(order_id=course.order_id, customer_id=course.customer_id, at=at))
    history = course.history(PAYMENT)
    if history or course.ended is not None:
        reason = course.ended.event.TYPE.replace(".", "_") if course.ended is not None else ""
        yield from payments.rows_of(course.order_id, course.customer_id, history, course.tokens, reason)


def _messages(course: Course) -> Iterator[dict[str, Any]]:
    told = subscribers.get("notifications")
    customers = {course.customer_id: Customer(name=NAME, email="")}
    for recorded in course.events:
        if told.wants(recorded.event.TYPE):
            occasion = notifications.occasion_of(recorded)
            yield from notifications.messages_about([occasion], customers, recorded.recorded_at + HANDLED)


def _inbox(course: Course) -> Iterator[tuple[Table, Sequence[Any]]]:
    for recorded in course.events:
        yield from inbox_of(recorded)


def inbox_of(recorded: Recorded[Any]) -> Iterator[tuple[Table, Sequence[Any]]]:
    """That every subscriber has handled the event, at the first attempt."""
    for subscriber in subscribers.all_subscribers():
        if subscriber.wants(recorded.event.TYPE):
            alias = subscriber.database(recorded)
            entry = InboxEntry(
                stream_id=recorded.stream_id,
                category=recorded.category,
                version=recorded.version,
                subscriber=subscriber.name,
                attempts=1,
                published_at=recorded.recorded_at + PUBLISHED,
                handled_at=recorded.recorded_at + HANDLED,
                hashes=short_hash(recorded.hash),
            )
            yield _row_of(SHARD if alias in shards.aliases() else alias, entry)


def _row_of(where: str, instance: models.Model) -> tuple[Table, Sequence[Any]]:
    """The row of an instance; a number that the database gives is left to it."""
    values = [(field, getattr(instance, field.attname)) for field in instance._meta.concrete_fields]
    values = [(field, value) for field, value in values if value is not None or field.null]
    columns = ", ".join(f'"{field.column}"' for field, _ in values)
    return (where, instance._meta.db_table, columns), [value for _, value in values]


def _texts(rows: Iterable[tuple[Table, Sequence[Any]]]) -> dict[Table, str]:
    texts: dict[Table, str] = defaultdict(str)
    for table, values in rows:
        texts[table] += copy_line(values)
    return texts


def copy_line(values: Iterable[Any]) -> str:
    """A row in the text format of COPY."""
    return "\t".join(map(_copy_value, values)) + "\n"


def _copy_value(value: Any) -> str:
    match value:
        case None:
            return r"\N"
        case datetime():
            return value.isoformat()
        case _:
            text = f"\\x{value.hex()}" if isinstance(value, bytes) else str(value)
            return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
