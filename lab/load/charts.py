"""Charts as inline SVG, whose colours come from the style sheet of the report. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from lab.load.series import Point, Series

WIDTH, HEIGHT = 640, 220
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 14, 30
CHARACTER = 6.5  # the width of a letter, about
STEPS = (1, 2, 4, 6, 8, 10)  # whose quarters are short numbers
TIME_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800)


@dataclass(frozen=True, slots=True)
class Span:
    """A part of the time axis that is marked, in seconds since the start."""

    label: str
    begin: float
    end: float


@dataclass(frozen=True, slots=True)
class Scale:
    """From values to pixels."""

    seconds: float
    highest: float

    def x(self, seconds: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * min(1.0, max(0.0, seconds / self.seconds)), 1)

    def y(self, value: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / self.highest, 1)


def chart(title: str, unit: str, series: Sequence[Series], *, seconds: float, spans: Sequence[Span] = ()) -> str:
    """A chart of lines over `seconds`; its title is read out and says the unit. Lines have gaps where points are."""
    top = max((value for line in series for _, value in line.points if value is not None), default=0.0)
    scale = Scale(max(seconds, 1.0), nice_ceiling(top))
    parts = [
        f'<figure class="chart"><figcaption><span>{escape(title)} <small>{escape(unit)}</small></span>',
        *(f'<span class="key c{line.color}">{escape(line.name)}{_peak(line)}</span>' for line in series),
        f'</figcaption><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}, {escape(unit)}">',
        *(_span(span, scale) for span in spans),
        *_grid(scale),
        *(_line(line, scale) for line in series),
        "</svg></figure>",
    ]
    return "".join(parts)


def nice_ceiling(value: float) -> float:
    """The next round number that is not smaller; 1 for nothing at all."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in STEPS if step * power >= value * 0.999999)


def number(value: float) -> str:
    """Short enough for an axis."""
    if value >= 1_000_000:
        return f"{value / 1_000_000:g} M"
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def _peak(line: Series) -> str:
    values = [value for _, value in line.points if value is not None]
    return f" <small>max {number(max(values))}</small>" if values else " <small>nothing</small>"


def _grid(scale: Scale) -> list[str]:
    parts = []
    for quarter in range(5):
        value = scale.highest * quarter / 4
        y = scale.y(value)
        parts.append(f'<path class="grid" d="M{LEFT} {y}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{number(value)}</text>')
    step = next((step for step in TIME_STEPS if scale.seconds / step <= 8), TIME_STEPS[-1])
    for tick in range(0, int(scale.seconds) + 1, step):
        x = scale.x(tick)
        parts.append(f'<path class="grid" d="M{x} {HEIGHT - BOTTOM}v4"/>')
        parts.append(f'<text x="{x}" y="{HEIGHT - BOTTOM + 17}" text-anchor="middle">{_time(tick)}</text>')
    return parts


def _time(seconds: int) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{minutes}:{rest:02}" if minutes else f"{seconds} s"


def _span(span: Span, scale: Scale) -> str:
    left, right = scale.x(span.begin), scale.x(span.end)
    width = max(1.0, round(right - left, 1))
    # The label stands within the span, or before one that is too narrow for it.
    fits = right - left > CHARACTER * len(span.label)
    x, anchor = (left + 4, "start") if fits or left < WIDTH / 2 else (left - 4, "end")
    return (
        f'<rect class="span" x="{left}" y="{TOP}" width="{width}" height="{HEIGHT - TOP - BOTTOM}">'
        f"<title>{escape(span.label)}</title></rect>"
        f'<text x="{x}" y="{TOP + 11}" text-anchor="{anchor}">{escape(span.label)}</text>'
    )


def _line(line: Series, scale: Scale) -> str:
    return "".join(_piece(piece, line.color, scale) for piece in _pieces(line.points))


def _pieces(points: Sequence[Point]) -> list[list[tuple[float, float]]]:
    """The points between gaps."""
    pieces: list[list[tuple[float, float]]] = [[]]
    for at, value in points:
        if value is not None:
            pieces[-1].append((at, value))
        elif pieces[-1]:
            pieces.append([])
    return [piece for piece in pieces if piece]


def _piece(piece: Sequence[tuple[float, float]], color: int, scale: Scale) -> str:
    if len(piece) == 1:
        [(at, value)] = piece
        return f'<circle class="dot c{color}" cx="{scale.x(at)}" cy="{scale.y(value)}" r="2.5"/>'
    path = " ".join(f"{scale.x(at)},{scale.y(value)}" for at, value in piece)
    return f'<polyline class="line c{color}" points="{path}"/>'
