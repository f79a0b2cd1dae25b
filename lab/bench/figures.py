"""What is measured, and how it is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

FLOOR = "floor: pgbench writes an order"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is aimed at: at least or at most so much, in the figure's unit or as a ratio to the floor."""

    limit: float
    at_most: bool = False
    of_floor: bool = False

    def is_met(self, value: float, floor: float | None) -> bool | None:
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
    """Something that was measured once or several times; `unit` such as "orders/s"."""

    name: str
    unit: str
    runs: Sequence[float]
    asked: Asked | None = None

    @property
    def value(self) -> float:
        return median(self.runs)

    @property
    def spread(self) -> float:
        """From the least to the most, as a percentage of the median."""
        return 100 * (max(self.runs) - min(self.runs)) / self.value if self.value else 0.0


def floor_of(figures: Sequence[Figure]) -> float | None:
    return next((figure.value for figure in figures if figure.name == FLOOR), None)


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
            "met": None if figure.asked is None else figure.asked.is_met(figure.value, floor),
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
        asked = "" if figure.asked is None else str(figure.asked)
        met = None if figure.asked is None else figure.asked.is_met(figure.value, floor)
        value = f"{figure.value:,.0f}" if figure.value >= 100 else f"{figure.value:,.1f}"
        lines.append(
            f"{figure.name:<{width}}{value:>14} {figure.unit:<15}{f'{figure.spread:.0f} %':>7}{of_floor:>10}{asked:>18}"
            f"{'  MISSED' if met is False else ''}"
        )
    return "\n".join(lines)
