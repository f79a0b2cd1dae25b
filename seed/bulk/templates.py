"""Orders as templates: the rows of a played order in every table, as text for COPY with gaps for what is new each time.

Playing an order takes tens of milliseconds, filling the gaps of its template as many microseconds.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from operator import itemgetter
from typing import Any

from django.db import DEFAULT_DB_ALIAS, models

from eventing import chain, store, subscribers
from eventing.crockford import encode
from eventing.models import InboxEntry
from eventing.recorded import Recorded, short_hash
from inventory.handlers import Used
from orders.events import CATEGORY as ORDER
from seed.bulk.played import NAME, SHARD, TERM, TRACKING, Played, place_of
from sharding import shards

RANDOM = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}|(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])"
)
TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)((?:\.\d+)?(?:Z|\+00:00))")
HASH = b"\t\\\\x"  # between the other columns of an event and the digits of its hash
PUBLISHED = timedelta(milliseconds=6)  # from an event to its message
HANDLED = timedelta(milliseconds=18)  # from an event to its effect


def in_words(at: datetime) -> str:
    """A deadline as messages tell it."""
    return f"{at.day} {at:%B %Y, %H:%M}"


def fixed_gaps(played: Played) -> tuple[str, ...]:
    """Every template has these; after them come its times, its random numbers and the short hashes of its events."""
    order_id, due = played.order_id, played.placed_at + TERM
    return str(order_id), encode(order_id), str(played.customer_id), NAME, TRACKING, in_words(due)


Table = tuple[str, str, str]  # where (SHARD or an alias), table, columns
Pick = Callable[[Sequence[bytes]], Sequence[bytes]]  # the pieces of a text from what fills gaps and from literals


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Link:
    """An event: its row for COPY without the hash, and what is hashed of it. Streams differ by category."""

    table: Table
    category: str
    row: Pick
    text: Pick


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Template:
    """An order's rows. `inbox` are those that are pruned after a time.

    `millisecond` is that within a second at which the order is placed. `times` are so many seconds after a step.
    `randoms` says of each random number whether it is a UUID, else it is 32 hexadecimal digits.
    """

    rows: tuple[tuple[Table, Pick], ...]
    events: tuple[Link, ...]
    inbox: tuple[tuple[Table, Pick], ...]
    literals: tuple[bytes, ...]
    times: tuple[tuple[str, int], ...]
    randoms: tuple[bool, ...]
    millisecond: int
    used: Mapping[str, Used]
    coupons: Sequence[str]

    def fill(self, texts: Mapping[Table, bytearray], values: Sequence[bytes], *, inbox: bool) -> None:
        """Add the text of one order's rows to that of each table; `values` fill all gaps but those of hashes."""
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


def template_of(played: Played) -> Template:
    times = _Times(played)
    events = [(recorded, store.content_of(recorded)) for recorded in played.events]
    lines = [times.mark(copy_line(content)[:-1]) for _, content in events]
    hashed = [times.mark(chain.text_of(content).decode()) for _, content in events]
    rows: dict[Table, str] = defaultdict(str)
    for label, instances in played.rows.items():
        for instance in instances:
            table, values = _row_of(place_of(label), instance)
            rows[table] += times.mark(copy_line(values))
    inbox: dict[Table, str] = defaultdict(str)
    for recorded in played.events:
        for table, values in inbox_of(recorded):
            inbox[table] += times.mark(copy_line(values), about=recorded.recorded_at)
    randoms = list(dict.fromkeys(found for text in (*lines, *rows.values()) for found in RANDOM.findall(text)))
    gaps = [
        *fixed_gaps(played),
        *times.marks,
        *randoms,
        *(short_hash(recorded.hash) or "" for recorded in played.events),
    ]
    literals: list[bytes] = []
    return Template(
        rows=tuple((table, _pick(text, gaps, literals)) for table, text in rows.items()),
        events=tuple(
            Link(
                table=(SHARD if recorded.category == ORDER else DEFAULT_DB_ALIAS, "eventing_event", store.COLUMNS),
                category=recorded.category,
                row=_pick(line, gaps, literals),
                text=_pick(text, gaps, literals),
            )
            for (recorded, _), line, text in zip(events, lines, hashed, strict=True)
        ),
        inbox=tuple((table, _pick(text, gaps, literals)) for table, text in inbox.items()),
        literals=tuple(literals),
        times=tuple(times.marks.values()),
        randoms=tuple("-" in found for found in randoms),
        millisecond=played.placed_at.microsecond // 1000,
        used=_used(played.rows),
        coupons=[one.coupon.code for one in played.rows["coupons.Redemption"] if one.status == "redeemed"],
    )


@dataclass(slots=True)
class _Times:
    """Puts a mark in place of every time: so many seconds after a step of the order. Its fraction stays as it is."""

    played: Played
    marks: dict[str, tuple[str, int]] = field(default_factory=dict)

    def mark(self, text: str, about: datetime | None = None) -> str:
        """`about` is when what the whole text is about has happened, if it says when that has had its effect."""

        def replace(found: re.Match[str]) -> str:
            step, seconds = self._after_step(datetime.fromisoformat(found[0]), about)
            mark = f"<{step}{seconds:+}>"
            self.marks[mark] = step, seconds
            return mark + found[2]

        return TIME.sub(replace, text)

    def _after_step(self, at: datetime, about: datetime | None) -> tuple[str, int]:
        """What lies outside the time of playing, such as a deadline, depends on the time of the order's placement."""
        steps, during = self.played.steps, about or at
        if not steps["place"] <= during <= self.played.ended_at:
            return "place", _seconds(at) - _seconds(self.played.placed_at)
        step = [name for name, began in steps.items() if began <= during][-1]
        return step, _seconds(at) - _seconds(steps[step])


def _seconds(at: datetime) -> int:
    return int(at.timestamp())


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


def _used(rows: Mapping[str, Sequence[Any]]) -> dict[str, Used]:
    """What the order has taken or still holds of each product."""
    [reservation] = rows["inventory.Reservation"]
    match reservation.status:
        case "shipped":
            return {line.sku: Used(shipped=line.quantity) for line in rows["inventory.ReservationLine"]}
        case "reserved":
            return {line.sku: Used(reserved=line.quantity) for line in rows["inventory.ReservationLine"]}
        case _:
            return {}


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
    meta = instance._meta
    fields = [field for field in meta.concrete_fields if field is not meta.auto_field]
    columns = ", ".join(f'"{field.column}"' for field in fields)
    return (where, meta.db_table, columns), [getattr(instance, field.attname) for field in fields]


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
