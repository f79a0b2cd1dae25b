"""Requests and samples as series over time, and as rows of a table. Pure functions."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from lab.figures import percentile
from lab.load.recording import Request

BINS = 240  # of a chart at most

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
