"""What was measured, what is asked of it, and how it is shown: the same table and JSON for every command."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

FLOOR = "floor: pgbench writes an order"
NAMED = 5  # offenders that a note names
PACKAGES = ("django", "celery", "kombu", "psycopg", "granian")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is aimed at: at least or at most so much, in the figure's unit or as a ratio to the floor."""

    limit: float
    at_most: bool = False
    of_floor: bool = False

    def is_met(self, value: float, floor: float | None = None) -> bool | None:
        """None if there is no floor to compare with."""
        if self.of_floor:
            if not floor:
                return None
            value /= floor
        return value <= self.limit if self.at_most else value >= self.limit

    def __str__(self) -> str:
        return f"{'≤' if self.at_most else '≥'} {self.limit:,g}{' of floor' if self.of_floor else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """Something that was measured in one or several runs; `unit` such as "orders/s", `note` names offenders."""

    name: str
    runs: Sequence[float]
    unit: str = ""
    asked: Asked | None = None
    note: str = ""

    @property
    def value(self) -> float:
        return median(self.runs)

    @property
    def spread(self) -> float:
        """From the least to the most, as a percentage of the median."""
        return 100 * (max(self.runs) - min(self.runs)) / self.value if self.value else 0.0

    @property
    def measured(self) -> str:
        number = f"{self.value:,.0f}" if self.value >= 100 or self.value == int(self.value) else f"{self.value:,.2f}"
        return " ".join(filter(None, [number, self.unit, f"({self.note})" if self.note else ""]))

    def met(self, floor: float | None = None) -> bool | None:
        """None if nothing is asked."""
        return None if self.asked is None else self.asked.is_met(self.value, floor)


def figure(
    name: str, runs: float | Sequence[float], unit: str = "", asked: Asked | None = None, note: str = ""
) -> Figure:
    """A figure of several runs, or of one."""
    values = runs if isinstance(runs, Sequence) else [float(runs)]
    return Figure(name=name, runs=values, unit=unit, asked=asked, note=note)


def at_least(limit: float, **options: bool) -> Asked:
    return Asked(limit=limit, **options)


def at_most(limit: float) -> Asked:
    return Asked(limit=limit, at_most=True)


def some(offenders: Sequence[object]) -> str:
    """The first of them."""
    return ", ".join(map(str, offenders[:NAMED])) + (" …" if len(offenders) > NAMED else "")


def none(name: str, offenders: Sequence[object], number: int | None = None) -> Figure:
    """There should be none of these."""
    return figure(name, len(offenders) if number is None else number, asked=at_most(0), note=some(offenders))


def clean(audit: Mapping[str, Any], note: str = "") -> Figure:
    return figure("audit", audit["clean"], "clean", at_least(1), note)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that is at least as large as this share (0 to 1) of them; 0 if there are none."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)] if values else 0.0


def floor_of(figures: Sequence[Figure]) -> float | None:
    return next((figure.value for figure in figures if figure.name == FLOOR), None)


def missed(figures: Sequence[Figure]) -> list[Figure]:
    return [figure for figure in figures if figure.met(floor_of(figures)) is False]


def as_json(figures: Sequence[Figure]) -> list[dict[str, object]]:
    floor = floor_of(figures)
    return [
        {
            "name": figure.name,
            "unit": figure.unit,
            "median": figure.value,
            "runs": list(figure.runs),
            "spread_percent": figure.spread,
            "of_floor": figure.value / floor if floor and figure.unit == "orders/s" else None,
            "asked": None if figure.asked is None else str(figure.asked),
            "met": figure.met(floor),
            "note": figure.note,
        }
        for figure in figures
    ]


def table(figures: Sequence[Figure]) -> str:
    """A line for each figure. The ratio to the floor stands where both are orders a second."""
    floor = floor_of(figures)
    width = max(len(figure.name) for figure in figures)
    lines = [f"{'figure':<{width}}{'median':>14} {'unit':<15}{'spread':>7}{'of floor':>10}{'asked':>18}"]
    for figure in figures:
        of_floor = f"{figure.value / floor:.3f}" if floor and figure.unit == "orders/s" else ""
        value = f"{figure.value:,.0f}" if figure.value >= 100 else f"{figure.value:,.1f}"
        spread = f"{figure.spread:.0f} %" if len(figure.runs) > 1 else ""
        line = f"{figure.name:<{width}}{value:>14} {figure.unit:<15}{spread:>7}{of_floor:>10}{figure.asked or ''!s:>18}"
        lines.append(f"{line}{'  MISSED' if figure.met(floor) is False else ''}  {figure.note}".rstrip())
    return "\n".join(lines)


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": f"{len(models)} x {models[0]}" if models else "",
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
    }


def write(figures: Sequence[Figure], file: Path | None, **facts: object) -> None:
    """Print the table, and keep the figures in a file."""
    print(table(figures))
    if file is not None:
        found = {"machine": machine(), **facts, "figures": as_json(figures)}
        file.write_text(json.dumps(found, indent=2) + "\n")
