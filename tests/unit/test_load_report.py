"""The report of a load test: series over time, charts, and one file that needs no other."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from lab.figures import Figure, at_least, percentile
from lab.load import charts, command, report
from lab.load.buyers import parse
from lab.load.charts import BINS, Clock, Row, Sample, Series, Span, chart, nice_ceiling, number
from lab.load.command import main, table
from lab.load.recording import Reader, Recorder, Recording, Request
from lab.load.report import Section

CHARTS = ["Throughput", "Latency", "Queues and outboxes", "Outbox lag", "Stock", "Users"]


def section(*, good: bool = True, failure: str = "") -> Section:
    requests = [Request(100.5, 0.010, "list"), Request(101.5, 0.030, "order"), Request(102.5, 0.020, "order", failure)]
    recording = Recording(requests=requests, orders=["A"], users=[(100.1, 2)], started_at=100.0, stopped_at=103.0)
    samples = [Sample(at=101.0, outbox=4, oldest=0.2, messages=7, available=90, reserved=10)]
    return Section(
        name="steady-orders",
        summary="orders & more",
        settings={"users": "2"},
        recording=recording,
        samples=samples,
        figures=[Figure(name="audit", runs=[float(good)], unit="clean", asked=at_least(1))],
        ended_at=104.0,
        fault="relay-killed",
        fault_span=(101.0, 102.0),
        findings=[] if good else ["stock_adds_up: 1 (SKU)"],
    )


# --- The recording ---------------------------------------------------------------------------------------------------


def test_what_is_written_down_is_read_as_it_comes(tmp_path: Path) -> None:
    recorder, reader = Recorder(tmp_path / "file"), Reader(tmp_path / "file")
    recorder.write("started_at", 1.0)
    recorder.write("request", 2.0, 0.5, "look")
    recorder.flush()
    assert reader.read() == Recording(requests=[Request(2.0, 0.5, "look")], started_at=1.0)
    recorder.write("order", "A")
    recorder.write("users", 2.0, 3)
    recorder.write("request", 3.0, 0.5, "look", "500")
    recorder.write("stopped_at", 4.0)
    recorder.flush()
    recording = reader.read()
    assert recording.requests == [Request(2.0, 0.5, "look"), Request(3.0, 0.5, "look", "500")]
    assert (recording.orders, recording.users, recording.stopped_at) == (["A"], [(2.0, 3)], 4.0)


def test_half_a_line_waits_for_its_other_half(tmp_path: Path) -> None:
    file = tmp_path / "file"
    line = json.dumps(["order", "A"]) + "\n"
    file.write_text(line + line[:5])
    reader = Reader(file)
    assert reader.read().orders == ["A"]
    file.write_text(line + line)
    assert reader.read().orders == ["A", "A"]


def test_a_file_that_is_not_there_yet_has_nothing_in_it(tmp_path: Path) -> None:
    assert Reader(tmp_path / "file").read() == Recording()


@pytest.mark.parametrize(
    "received, answer",
    [
        (b"HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\n{}", (202, b"{}")),
        (b"HTTP/1.1 204 No Content\r\n\r\n", (204, b"")),
        (b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{", None),
        (b"HTTP/1.1 202 Acc", None),
    ],
)
def test_an_answer_is_whole_or_not_there(received: bytes, answer: tuple[int, bytes] | None) -> None:
    assert parse(received) == answer


# --- Series ----------------------------------------------------------------------------------------------------------


def test_percentiles_are_values_that_were_measured() -> None:
    values = [float(value) for value in range(1, 101)]
    assert [percentile(values, share) for share in (0.5, 0.95, 0.99, 1.0)] == [50.0, 95.0, 99.0, 100.0]
    assert percentile([7.0], 0.5) == 7.0
    assert percentile([], 0.5) == 0.0


def test_long_runs_have_longer_bins() -> None:
    assert (Clock(0, 10).seconds, Clock(0, 10).bins) == (1.0, 10)
    hour = Clock(0, 3600)
    assert hour.bins <= BINS
    assert hour.seconds * hour.bins >= 3600
    assert hour.bin_of(3600) == hour.bins - 1
    assert hour.bin_of(-5) == 0


def test_throughput_counts_answers_a_second_and_failures_among_them() -> None:
    requests = [Request(0.1, 0.1, "a"), Request(0.2, 0.1, "a", "500"), Request(2.5, 0.1, "a")]
    answers, failures = charts.throughput(requests, Clock(0, 3))
    assert answers.points == [(0.5, 2.0), (1.5, 0.0), (2.5, 1.0)]
    assert failures.points == [(0.5, 1.0), (1.5, 0.0), (2.5, 0.0)]


def test_who_is_not_answered_yet_waits() -> None:
    requests = [Request(2.6, 2.5, "a"), Request(2.9, 0.6, "a"), Request(0.4, 0.2, "a")]
    assert charts.waiting(requests, Clock(0, 3)).points == [(0.5, 1.0), (1.5, 1.0), (2.5, 2.0)]


def test_where_nothing_was_answered_or_sampled_there_is_a_gap() -> None:
    p50, p95, p99 = charts.latencies([Request(0.5, 0.25, "a")], Clock(0, 2))
    assert [line.points for line in (p50, p95, p99)] == [[(0.5, 250.0), (1.5, None)]] * 3
    sample = Sample(at=1.2, outbox=4, oldest=0.0, messages=0, available=0, reserved=0)
    [line] = charts.sampled([sample], Clock(0, 2), {"outbox": "outbox"})
    assert line.points == [(0.5, None), (1.5, 4.0)]


def test_a_table_has_a_row_for_each_name_and_one_for_all() -> None:
    requests = [Request(1.0, 0.010, "b"), Request(1.0, 0.030, "b", "500"), Request(1.0, 0.020, "a")]
    first, second, whole = charts.rows(requests)
    assert first == Row(name="a", count=1, failed=0, p50=20.0, p95=20.0, p99=20.0, longest=20.0)
    assert (second.name, second.count, second.failed, second.p50, second.longest) == ("b", 2, 1, 10.0, 30.0)
    assert (whole.name, whole.count) == ("all", 3)
    assert len(charts.rows(requests[:2])) == 1
    assert charts.rows([]) == []


# --- Charts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value, ceiling", [(0, 1), (0.03, 0.04), (1, 1), (1.1, 2), (24, 40), (41, 60), (8001, 10_000)])
def test_an_axis_ends_at_a_round_number(value: float, ceiling: float) -> None:
    assert nice_ceiling(value) == pytest.approx(ceiling)


@pytest.mark.parametrize("value, text", [(0, "0"), (0.25, "0.25"), (12.5, "12.5"), (1234, "1,234"), (2e6, "2 M")])
def test_numbers_on_an_axis_are_short(value: float, text: str) -> None:
    assert number(value) == text


def test_a_line_is_broken_where_there_is_a_gap() -> None:
    line = Series(name="a<b", points=[(0.5, 1.0), (1.5, 2.0), (2.5, None), (3.5, 1.0)])
    drawn = chart("Title", "unit", [line], seconds=4, spans=[Span("fault & more", 1, 2)])
    svg = ElementTree.fromstring(drawn)  # noqa: S314 (our own)
    assert len(svg.findall(".//polyline")) == 1
    assert len(svg.findall(".//circle")) == 1
    assert [text.text for text in svg.findall(".//rect/title")] == ["fault & more"]
    assert "a&lt;b" in drawn


def test_a_chart_without_any_values_is_a_chart() -> None:
    drawn = chart("Title", "unit", [Series(name="a", points=[(0.5, None)])], seconds=0)
    assert "nothing" in drawn
    ElementTree.fromstring(drawn)  # noqa: S314 (our own)


# --- The report ------------------------------------------------------------------------------------------------------


class Resources(HTMLParser):
    """Everything in a page that makes a browser ask for something."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [f"{tag} {name}" for name, _ in attrs if name in ("src", "href", "srcset", "data", "action")]
        if tag in ("script", "link", "iframe", "img", "object"):
            self.found.append(tag)


def test_the_report_shows_everything_and_loads_nothing() -> None:
    page = report.html([section(failure="<b>500</b>")], {"cpu": "2 x something", "python": "3.11"})
    assert re.findall(r'role="img" aria-label="([^,"]+)', page) == CHARTS
    for text in ("steady-orders", "orders &amp; more", "2 x something", "relay-killed", "&lt;b&gt;500&lt;/b&gt;"):
        assert text in page
    resources = Resources()
    resources.feed(page)
    assert resources.found == []
    assert not re.search(r"url\(|@import|https?://", page)
    assert "default-src 'none'" in page


def test_the_report_says_whether_all_is_well() -> None:
    whole = report.html([section()], {})
    assert "passed" in whole
    assert "broken" not in whole
    harmed = report.html([section(), section(good=False)], {})
    assert harmed.index(">failed<") < harmed.index("Measured on")
    assert "0 clean" in harmed
    assert "stock_adds_up: 1 (SKU)" in harmed


def test_the_table_names_broken_promises() -> None:
    lines = table([section(), section(good=False)]).splitlines()
    assert [line.split()[-1] for line in lines[1:3]] == ["passed", "FAILED"]
    assert lines[3] == "    audit: 0 clean, asked ≥ 1"


# --- The program -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["--scenario", "all"],
        ["--scenario", "browsing", "--scenario", "coupon-rush"],
        ["--scenario", "unheard-of"],
        ["--fault", "unheard-of"],
        ["--headless", "--users", "0"],
        ["--headless", "--rate", "-1"],
        ["--headless", "--minutes", "61"],
    ],
)
def test_wrong_usage_ends_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2


@pytest.mark.parametrize("good, code", [(True, 0), (False, 1)])
def test_the_exit_code_says_whether_every_promise_was_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, good: bool, code: int
) -> None:
    def stage(options: Any, scenarios: Any, interrupts: Any, sections: list[Section], facts: dict[str, str]) -> None:
        sections += [section(good=good) for _ in scenarios]

    monkeypatch.setattr(command, "_run", stage)
    monkeypatch.setattr(command.Interrupts, "install", lambda self: None)
    several = ["--scenario", "browsing", "--scenario", "coupon-rush", "--headless"]
    assert main([*several, "--report", str(tmp_path / "report.html")]) == code


def test_all_scenarios_and_faults_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    shown = capsys.readouterr().out
    for name in ("browsing", "flash-sale", "mixed-workload", "all", "relay-killed"):
        assert re.search(rf"^  {name} ", shown, re.MULTILINE)
