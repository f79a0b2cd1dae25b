"""The shard map as a picture: what each bucket and each database looks like, and what is uneven, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connections

from eventing import fan_out
from resharding import moving, planning
from resharding.planning import Size
from sharding import shards
from sharding.models import Bucket, BucketMove

HUES = (0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15)  # the first two, four, eight are as far apart as can be
TIERS = 4  # ways to use the same hue again: two depths, plain and striped
STEPS = 10  # of the bar that shows how full a bucket is beside the fullest
EVEN = 1.1  # times the mean; less is not worth mentioning


@dataclass(frozen=True, slots=True, kw_only=True)
class _Coloured:
    """What is drawn in the colour of a database."""

    alias: str

    @property
    def tag(self) -> str:
        return tag(self.alias)

    @property
    def look(self) -> str:
        return look(self.alias)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell(_Coloured):
    """A bucket. `size` is None if nobody could say it, `move` the one that it is on."""

    bucket: int
    version: int
    moved_at: datetime
    size: Size | None
    steps: int
    move: BucketMove | None

    @property
    def target_tag(self) -> str:
        return tag(self.move.target) if self.move else ""

    @property
    def target_look(self) -> str:
        return look(self.move.target) if self.move else ""

    @property
    def short_rows(self) -> str:
        return "" if self.size is None else short(self.size.rows)

    @property
    def title(self) -> str:
        said = [f"Bucket {self.bucket} in {self.alias}"]
        if self.size is not None:
            said.append(f"about {self.size.rows:,} rows, {mebibytes(self.size.bytes)}")
        if self.move is not None:
            said.append(f"on its way to {self.move.target}: {self.move.get_state_display()}")
        elif self.version > 1:
            said.append(f"moved {self.moved_at:%Y-%m-%d %H:%M} UTC")
        return "; ".join(said)


@dataclass(frozen=True, slots=True, kw_only=True)
class Database(_Coloured):
    """What a database has of the orders; `share` is its percentage of all rows that could be counted."""

    buckets: int
    rows: int
    bytes: int
    share: float
    answers: bool

    @property
    def size(self) -> str:
        return mebibytes(self.bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """The whole map. `steps` is the plan that evens the databases out, None if it could not be made."""

    cells: tuple[Cell, ...]
    databases: tuple[Database, ...]
    moves: tuple[BucketMove, ...]
    can_move: bool
    skew: tuple[str, ...]
    steps: tuple[planning.PlannedMove, ...] | None


def can_move() -> bool:
    """Whether buckets can be moved here: only PostgreSQL has partitions."""
    return all(connections[alias].vendor == "postgresql" for alias in shards.aliases())


def take() -> Picture:
    """The map as it is, with the sizes that the databases answer with."""
    buckets = list(Bucket.objects.order_by("bucket"))
    aliases = shards.aliases()
    answers = fan_out.query(aliases if can_move() else (), planning.sizes, seconds=settings.DATABASE_READ_SECONDS)
    sizes = {bucket: size for said in answers.values.values() for bucket, size in said.items()}
    away = set(answers.unavailable)
    moves = {move.bucket: move for move in moving.active() if move.state in BucketMove.ACTIVE}
    most = max((size.rows for size in sizes.values()), default=0)
    cells = []
    for bucket in buckets:
        size = sizes.get(bucket.bucket)
        cells.append(
            Cell(
                bucket=bucket.bucket,
                alias=bucket.alias,
                version=bucket.version,
                moved_at=bucket.moved_at,
                size=size,
                steps=-(-size.rows * STEPS // most) if size and most else 0,
                move=moves.get(bucket.bucket),
            )
        )
    databases = _databases(cells, aliases, away)
    rows = {bucket: size.rows for bucket, size in sizes.items()}
    is_known = can_move() and not away
    return Picture(
        cells=tuple(cells),
        databases=databases,
        moves=tuple(moves.values()),
        can_move=can_move(),
        skew=tuple(_skew(databases, rows)) if is_known else (),
        steps=tuple(planning.plan([bucket.alias for bucket in buckets], rows, aliases)) if is_known else None,
    )


def size_of(bucket: int, alias: str) -> Size | None:
    """About how big a bucket is; None if its database does not say so."""
    if alias not in shards.aliases() or connections[alias].vendor != "postgresql":
        return None
    try:
        return planning.sizes(alias).get(bucket)
    except (DatabaseError, InterfaceError):
        return None


def _databases(cells: Sequence[Cell], aliases: Sequence[str], away: set[str]) -> tuple[Database, ...]:
    total = sum(cell.size.rows for cell in cells if cell.size)
    databases = []
    for alias in dict.fromkeys((*aliases, *(cell.alias for cell in cells))):
        own = [cell for cell in cells if cell.alias == alias]
        rows = sum(cell.size.rows for cell in own if cell.size)
        databases.append(
            Database(
                alias=alias,
                buckets=len(own),
                rows=rows,
                bytes=sum(cell.size.bytes for cell in own if cell.size),
                share=100 * rows / total if total else 0,
                answers=alias not in away and alias in aliases,
            )
        )
    return tuple(databases)


def _skew(databases: Sequence[Database], rows: Mapping[int, int]) -> list[str]:
    """How the fullest database and the largest bucket compare with the mean."""
    total = sum(rows.values())
    if not total:
        return ["There are no orders yet, so no database is fuller than another."]
    fullest = max(databases, key=lambda database: database.rows)
    largest = max(rows, key=lambda bucket: rows[bucket])
    return [
        _compared(f"The fullest database is {fullest.alias}", fullest.rows, total / len(databases), "databases"),
        _compared(f"The largest bucket is {largest}", rows[largest], total / len(rows), "buckets"),
    ]


def _compared(what: str, most: int, mean: float, of: str) -> str:
    if most < EVEN * mean:
        return f"All {of} have about the same number of rows."
    return f"{what} with about {most:,} rows, {most / mean:.1f} times the mean of {mean:,.0f}."


def tag(alias: str) -> str:
    """What stands for a database where there is little room: its number."""
    return alias.removeprefix("orders_")


def look(alias: str) -> str:
    """The CSS classes that give a database its colour, the same however many there are."""
    text = tag(alias)
    number = int(text) if text.isdecimal() else 0
    return f"bo-db bo-hue-{HUES[number % len(HUES)]} bo-tier-{number // len(HUES) % TIERS}"


def short(number: int) -> str:
    """A number in few characters: 999, 1.2k, 12k, 1.2M."""
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.1f}{unit}" if number < 10 * size else f"{number // size}{unit}"
    return str(number)


def mebibytes(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"
