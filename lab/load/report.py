"""The report: one HTML file that needs nothing else, neither a network nor scripts. Pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape

from lab.load import series
from lab.load.charts import Span, chart
from lab.load.recording import Recording
from lab.load.sampling import Sample
from lab.load.series import Clock
from lab.sharded import Line

FAILURES_SHOWN = 20
# Nothing may be loaded: the browser itself refuses it.
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
STYLE = """
:root { color-scheme: light dark; --text: #1c2430; --soft: #5d6878; --back: #f6f7f9; --card: #fff; --edge: #dde2e9;
  --good: #1a7f4b; --bad: #c22f3d; --c1: #1f6feb; --c2: #c2650a; --c3: #8250df; --c4: #c22f3d; --span: #f1b43433; }
@media (prefers-color-scheme: dark) { :root { --text: #e4e8ee; --soft: #98a3b3; --back: #12161c; --card: #1a2029;
  --edge: #303946; --good: #4cc38a; --bad: #ff7b86; --c1: #6ea8fe; --c2: #f0a35e; --c3: #b794f6; --c4: #ff7b86; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 84rem; padding: 1.5rem 1rem 4rem; background: var(--back); color: var(--text);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .3rem; } h2 { font-size: 1.3rem; margin: 0; } h3 { font-size: 1rem; margin: 0; }
section { margin-top: 2rem; } header p, .soft { color: var(--soft); margin: .2rem 0; }
.heading { display: flex; flex-wrap: wrap; gap: .4rem .8rem; align-items: baseline; }
.good { color: var(--good); } .bad { color: var(--bad); }
.badge { border-radius: 1rem; font-size: .85rem; font-weight: 600; padding: .1rem .7rem; }
.badge.good { background: #1a7f4b; color: #fff; } .badge.bad { background: #c22f3d; color: #fff; }
.card { background: var(--card); border: 1px solid var(--edge); border-radius: .5rem; margin-top: 1rem;
  overflow-x: auto; padding: .9rem 1rem; }
.charts { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(30rem, 100%), 1fr));
  margin-top: 1rem; }
.chart { background: var(--card); border: 1px solid var(--edge); border-radius: .5rem; margin: 0; padding: .8rem; }
figcaption { display: flex; flex-wrap: wrap; font-weight: 600; gap: .2rem 1rem; margin-bottom: .3rem; }
figcaption span:first-child { flex: 1 0 auto; } small { color: var(--soft); font-weight: 400; }
.key { font-weight: 400; white-space: nowrap; }
.key::before { background: currentColor; border-radius: 2px; content: ""; display: inline-block; height: 3px;
  margin-right: .4rem; vertical-align: middle; width: 1rem; }
svg { display: block; height: auto; width: 100%; }
svg text { fill: var(--soft); font: 11px system-ui, sans-serif; } .grid { stroke: var(--edge); }
rect.span { fill: var(--span); } .line { fill: none; stroke-linejoin: round; stroke-width: 1.8; }
.key.c1 { color: var(--c1); } .key.c2 { color: var(--c2); } .key.c3 { color: var(--c3); } .key.c4 { color: var(--c4); }
.line.c1 { stroke: var(--c1); } .line.c2 { stroke: var(--c2); }
.line.c3 { stroke: var(--c3); } .line.c4 { stroke: var(--c4); }
.dot.c1 { fill: var(--c1); } .dot.c2 { fill: var(--c2); } .dot.c3 { fill: var(--c3); } .dot.c4 { fill: var(--c4); }
table { border-collapse: collapse; margin-top: .4rem; width: 100%; }
th, td { border-top: 1px solid var(--edge); padding: .3rem .8rem .3rem 0; text-align: left; vertical-align: top; }
thead th { border-top: 0; color: var(--soft); font-weight: 500; }
.number { font-variant-numeric: tabular-nums; text-align: right; white-space: nowrap; }
td.text { overflow-wrap: anywhere; }
dl { display: flex; flex-wrap: wrap; gap: .4rem 2rem; margin: .4rem 0 0; }
dt { color: var(--soft); font-size: .85rem; } dd { margin: 0; overflow-wrap: anywhere; }
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One run of a scenario. `lines` are the verdict; `ended_at` is when everything was at rest, or given up.

    `violations` are those of the audit, `notes` what else a reader should know.
    """

    name: str
    summary: str
    settings: Mapping[str, str]
    recording: Recording
    samples: Sequence[Sample]
    lines: Sequence[Line]
    ended_at: float
    fault: str = ""
    fault_span: tuple[float, float] | None = None
    violations: Sequence[str] = ()
    notes: Sequence[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return all(line.good is not False for line in self.lines)

    @property
    def began_at(self) -> float:
        return self.recording.started_at or self.ended_at


def html(sections: Sequence[Section], machine: Mapping[str, str]) -> str:
    """The whole file."""
    good = bool(sections) and all(section.good for section in sections)
    names = ", ".join(section.name for section in sections)
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            f"<title>Load test: {escape(names)}</title><style>{STYLE}</style></head><body>",
            f'<header><div class="heading"><h1>Load test</h1>{_badge(good)}</div>',
            f"<p>{escape(names)}</p></header>",
            _card("Measured on", _definitions(machine)),
            *map(_section, sections),
            "</body></html>",
            "",
        ]
    )


def _section(section: Section) -> str:
    clock = Clock(section.began_at, max(section.ended_at, section.began_at + 1))
    began = datetime.fromtimestamp(section.began_at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    parts = [
        f'<section id="{escape(section.name)}"><div class="heading"><h2>{escape(section.name)}</h2>',
        f'{_badge(section.good)}</div><p class="soft">{escape(section.summary)}</p>',
        _card("Settings", _definitions({**section.settings, "began": began})),
        _card("Verdict", _verdict(section.lines)),
    ]
    if section.violations:
        parts.append(_card("What the audit has found", _items(section.violations)))
    if section.notes:
        parts.append(_card("Notes", _items(section.notes)))
    parts += [f'<div class="charts">{_charts(section, clock)}</div>', _card("Requests", _requests(section.recording))]
    parts += [_card("Failures", _failures(section.recording)), "</section>"]
    return "\n".join(parts)


def _charts(section: Section, clock: Clock) -> str:
    recording, samples = section.recording, section.samples
    whole = clock.end - clock.begin
    spans = []
    if recording.stopped_at is not None:
        spans.append(Span("no more requests", recording.stopped_at - clock.begin, whole))
    if section.fault_span is not None:
        begin, end = section.fault_span
        spans.append(Span(section.fault, begin - clock.begin, end - clock.begin))
    drawn = [
        ("Throughput", "answers a second", series.throughput(recording.requests, clock)),
        ("Latency", "ms to the answer", series.latencies(recording.requests, clock)),
        (
            "Queues and outboxes",
            "waiting",
            series.sampled(
                samples, clock, ("events in outboxes", lambda s: s.outbox), ("messages in queues", lambda s: s.messages)
            ),
        ),
        ("Outbox lag", "s, age of the oldest event", series.sampled(samples, clock, ("oldest", lambda s: s.oldest))),
        (
            "Stock",
            "pieces",
            series.sampled(samples, clock, ("available", lambda s: s.available), ("reserved", lambda s: s.reserved)),
        ),
        (
            "Users",
            "at the same time",
            [series.users(recording.users, clock), series.waiting(recording.requests, clock)],
        ),
    ]
    return "".join(chart(title, unit, lines, seconds=whole, spans=spans) for title, unit, lines in drawn)


def _badge(good: bool) -> str:
    return f'<span class="badge {"good" if good else "bad"}">{"passed" if good else "failed"}</span>'


def _card(title: str, inner: str) -> str:
    return f'<div class="card"><h3>{escape(title)}</h3>{inner}</div>'


def _definitions(facts: Mapping[str, str]) -> str:
    pairs = (f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts.items())
    return f"<dl>{''.join(pairs)}</dl>"


def _items(texts: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(text)}</li>' for text in texts)}</ul>"


def _verdict(lines: Sequence[Line]) -> str:
    rows = []
    for line in lines:
        mark = {True: '<span class="good">✓ kept</span>', False: '<span class="bad">✗ broken</span>', None: ""}
        rows.append(
            f'<tr><td>{escape(line.what)}</td><td class="text">{escape(line.measured)}</td>'
            f"<td>{escape(line.asked)}</td><td>{mark[line.good]}</td></tr>"
        )
    return _table(["promise", "measured", "asked", ""], rows)


def _requests(recording: Recording) -> str:
    rows = [
        f"<tr><td>{escape(row.name)}</td>"
        + "".join(
            f'<td class="number">{text}</td>'
            for text in (
                f"{row.count:,}",
                f"{row.failed:,}",
                *(f"{value:,.0f} ms" for value in (row.p50, row.p95, row.p99, row.longest)),
            )
        )
        + "</tr>"
        for row in series.rows(recording.requests)
    ]
    return _table(["request", "answers", "failed", "p50", "p95", "p99", "longest"], rows, numbers_from=1)


def _failures(recording: Recording) -> str:
    counts = Counter((request.name, request.failure) for request in recording.failures)
    if not counts:
        return '<p class="soft">None.</p>'
    rows = [
        f'<tr><td>{escape(name)}</td><td class="text">{escape(failure)}</td><td class="number">{number:,}</td></tr>'
        for (name, failure), number in counts.most_common(FAILURES_SHOWN)
    ]
    more = len(counts) - len(rows)
    note = f'<p class="soft">and {more} other messages</p>' if more > 0 else ""
    return _table(["request", "message", "times"], rows, numbers_from=2) + note


def _table(heads: Sequence[str], rows: Sequence[str], *, numbers_from: int = 99) -> str:
    cells = "".join(
        f"<th{' class=number' if place >= numbers_from else ''}>{escape(head)}</th>" for place, head in enumerate(heads)
    )
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
