"""The read models that can be rebuilt from events: each app registers its own, with what a rebuild needs to know."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from eventing.errors import EventingError
from eventing.recorded import Recorded

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of a read model. The first column of its `key` is the id of the stream that a row comes from."""

    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The streams `first`..`last`. On PostgreSQL their rows are in a partition `<table>_<name>` of each table."""

    name: str
    first: int
    last: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection:
    """A read model of the streams of a category, written in the transaction of their events.

    `rows` gives what all events of one stream, oldest first, come to: the rows of each table, in the order of
    `tables` and of their columns. `aliases` are its databases, `parts` what is in one of them.
    """

    name: str
    category: str
    tables: tuple[Table, ...]
    rows: Callable[[Sequence[Recorded[Any]]], Sequence[Sequence[Row]]]
    aliases: Callable[[], Sequence[str]]
    parts: Callable[[str], Sequence[Part]]


_projections: dict[str, Projection] = {}


def register(projection: Projection) -> None:
    """Raises EventingError if another projection has the name."""
    if _projections.setdefault(projection.name, projection) is not projection:
        raise EventingError(f"there are two projections named {projection.name!r}")


def get(name: str) -> Projection:
    """Raises EventingError if there is no such projection."""
    try:
        return _projections[name]
    except KeyError:
        raise EventingError(f"no projection {name!r}; there are {', '.join(sorted(_projections))}") from None


def all_projections() -> list[Projection]:
    return list(_projections.values())
