"""Requests and samples as series over time and as rows of a table, and series as charts. Pure functions.

A chart is inline SVG, whose colours come from the style sheet of the report.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

from lab.figures import percentile
from lab.load.recording import Request

BINS = 240  # of a chart at most
WIDTH, HEIGHT = 640, 220
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 14, 30
CHARACTER = 6.5  # the width of a letter, about
STEPS = (1, 2, 4, 6, 8, 10)  # whose quarters are short numbers
TIME_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800)

Point = tuple[float, float | None]  # seconds since the start, value; None where nothing is known


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One look, at a moment in seconds since the epoch. `outbox` events wait for the relay, the `oldest` for so many
    seconds; `messages` wait for workers; `available` and `reserved` are pieces of the products that are ordered.
    """

    at: float
    outbox: int
    oldest: float
    messages: int
    available: int
    reserved: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """A line of a chart. `color` is one of the report's, by number."""

    name: str
    points: Sequence[Point]
    color: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """All requests of one name; times in milliseconds."""

    name: str
    count: int
    failed: int
    p50: float
    p95: float
    p99: float
    longest: float

    def texts(self, unit: str = "") -> list[str]:
        """As columns of a table: answers, failed, p50, p95, p99, longest."""
        times = [f"{value:,.0f}{unit}" for value in (self.p50, self.p95, self.p99, self.longest)]
        return [f"{self.count:,}", f"{self.failed:,}", *times]


@dataclass(frozen=True, slots=True)
class Clock:
    """Cuts time into bins: moments in seconds since the epoch become the number of a bin, from `begin` on."""

    begin: float
    end: float
    seconds: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "seconds", float(max(1, math.ceil((self.end - self.begin) / BINS))))

    @property
    def bins(self) -> int:
        return max(1, math.ceil((self.end - self.begin) / self.seconds))

    def bin_of(self, moment: float) -> int:
        return min(self.bins - 1, max(0, int((moment - self.begin) / self.seconds)))

    def points(self, values: Mapping[int, float], otherwise: float | None = None) -> list[Point]:
        """A point in the middle of each bin."""
        return [((number + 0.5) * self.seconds, values.get(number, otherwise)) for number in range(self.bins)]


def throughput(requests: Sequence[Request], clock: Clock) -> list[Series]:
    """Answers a second, and those among them that are failures."""

    def rates(answered: Iterable[Request]) -> list[Point]:
        counts = Counter(clock.bin_of(request.answered_at) for request in answered)
        return clock.points({number: count / clock.seconds for number, count in counts.items()}, 0.0)

    failed = [request for request in requests if request.failure]
    return [Series(name="answers", points=rates(requests)), Series(name="failures", points=rates(failed), color=4)]


def latencies(requests: Sequence[Request], clock: Clock) -> list[Series]:
    """Percentiles of the milliseconds to the answer, by the moment of the answer."""
    bins: dict[int, list[float]] = defaultdict(list)
    for request in requests:
        bins[clock.bin_of(request.answered_at)].append(request.seconds * 1000)
    lines = []
    for color, share in enumerate((0.50, 0.95, 0.99), start=1):
        points = clock.points({number: percentile(times, share) for number, times in bins.items()})
        lines.append(Series(name=f"p{round(share * 100)}", points=points, color=color))
    return lines


def sampled(samples: Sequence[Sample], clock: Clock, lines: Mapping[str, str]) -> list[Series]:
    """What was sampled, `lines` by title and attribute; nothing is known of a bin without a sample."""
    bins = {clock.bin_of(sample.at): sample for sample in samples}
    return [
        Series(
            name=name,
            points=clock.points({number: float(getattr(sample, attribute)) for number, sample in bins.items()}),
            color=color,
        )
        for color, (name, attribute) in enumerate(lines.items(), start=1)
    ]


def users(counts: Sequence[tuple[float, int]], clock: Clock) -> Series:
    bins = {clock.bin_of(at): float(number) for at, number in counts}
    return Series(name="users", points=clock.points(bins), color=3)


def waiting(requests: Sequence[Request], clock: Clock) -> Series:
    """How many requests are sent and not answered yet."""
    sent = sorted(request.sent_at - clock.begin for request in requests)
    answered = sorted(request.answered_at - clock.begin for request in requests)
    middles = [at for at, _ in clock.points({})]
    points = [(at, float(bisect_right(sent, at) - bisect_right(answered, at))) for at in middles]
    return Series(name="waiting for an answer", points=points, color=2)


def rows(requests: Sequence[Request]) -> list[Row]:
    """A row for each name, by name; of several names also one for all, at the end."""
    by_name: dict[str, list[Request]] = defaultdict(list)
    for request in requests:
        by_name[request.name].append(request)
    table = [_row(name, of_name) for name, of_name in sorted(by_name.items())]
    return [*table, _row("all", requests)] if len(table) > 1 else table


def _row(name: str, requests: Sequence[Request]) -> Row:
    times = sorted(request.seconds * 1000 for request in requests)
    return Row(
        name=name,
        count=len(times),
        failed=sum(bool(request.failure) for request in requests),
        p50=percentile(times, 0.50),
        p95=percentile(times, 0.95),
        p99=percentile(times, 0.99),
        longest=times[-1] if times else 0.0,
    )


# --- Charts ----------------------------------------------------------------------------------------------------------


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
