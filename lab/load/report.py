"""The report: one HTML file that needs nothing else, neither a network nor scripts. Pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.template import Context, Engine
from django.utils.safestring import mark_safe

from lab.figures import Figure
from lab.load import charts
from lab.load.charts import Clock, Sample, Span, chart
from lab.load.recording import Recording

HERE = Path(__file__).parent
FAILURES_SHOWN = 20
COLUMNS = ("answers", "failed", "p50", "p95", "p99", "longest")


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One run of a scenario. `ended_at` is when everything was quiet, or given up.

    `findings` are the oracle's, `notes` what else a reader should know.
    """

    name: str
    summary: str
    settings: Mapping[str, str]
    recording: Recording
    samples: Sequence[Sample]
    figures: Sequence[Figure]
    ended_at: float
    fault: str = ""
    fault_span: tuple[float, float] | None = None
    findings: Sequence[str] = ()
    notes: Sequence[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return all(figure.met() is not False for figure in self.figures)

    @property
    def began_at(self) -> float:
        return self.recording.started_at or self.ended_at


def html(sections: Sequence[Section], machine: Mapping[str, str]) -> str:
    """The whole file."""
    template = Engine().from_string((HERE / "report.html").read_text())
    facts = {
        "names": ", ".join(section.name for section in sections),
        "good": bool(sections) and all(section.good for section in sections),
        "style": mark_safe((HERE / "report.css").read_text()),  # noqa: S308 (our own)
        "machine": machine,
        "sections": [_section(section) for section in sections],
    }
    return template.render(Context(facts))


def _section(section: Section) -> dict[str, Any]:
    clock = Clock(section.began_at, max(section.ended_at, section.began_at + 1))
    began = datetime.fromtimestamp(section.began_at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    counts = Counter((request.name, request.failure) for request in section.recording.failures)
    lists = [("What was found", section.findings), ("Notes", section.notes)]
    return {
        "section": section,
        "settings": {**section.settings, "began": began},
        "figures": section.figures,
        "lists": [(title, texts) for title, texts in lists if texts],
        "charts": mark_safe(_charts(section, clock)),  # noqa: S308 (it escapes what it is given)
        "columns": COLUMNS,
        "requests": [(row.name, row.texts(" ms")) for row in charts.rows(section.recording.requests)],
        "failures": [(*what, f"{number:,}") for what, number in counts.most_common(FAILURES_SHOWN)],
        "more": max(0, len(counts) - FAILURES_SHOWN),
    }


def _charts(section: Section, clock: Clock) -> str:
    recording = section.recording
    whole = clock.end - clock.begin
    spans = []
    if recording.stopped_at is not None:
        spans.append(Span("no more requests", recording.stopped_at - clock.begin, whole))
    if section.fault_span is not None:
        begin, end = section.fault_span
        spans.append(Span(section.fault, begin - clock.begin, end - clock.begin))
    requests, samples = recording.requests, section.samples
    waiting = {"events in outboxes": "outbox", "messages in queues": "messages"}
    crowd = [charts.users(recording.users, clock), charts.waiting(requests, clock)]
    drawn = [
        ("Throughput", "answers a second", charts.throughput(requests, clock)),
        ("Latency", "ms to the answer", charts.latencies(requests, clock)),
        ("Queues and outboxes", "waiting", charts.sampled(samples, clock, waiting)),
        ("Outbox lag", "s, age of the oldest event", charts.sampled(samples, clock, {"oldest": "oldest"})),
        ("Stock", "pieces", charts.sampled(samples, clock, {"available": "available", "reserved": "reserved"})),
        ("Users", "at the same time", crowd),
    ]
    return "".join(chart(title, unit, lines, seconds=whole, spans=spans) for title, unit, lines in drawn)
