"""`script/loadtest`: many customers at once on a shop of its own; then the audit, a verdict and a report."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from lab.bench.run import machine
from lab.faults.campaign import Campaign
from lab.faults.catalogue import FAULTS
from lab.load import report, series
from lab.load.crowd import allow_files
from lab.load.driving import LoadFailed
from lab.load.faulting import RATE
from lab.load.interrupts import Interrupts
from lab.load.report import Section
from lab.load.scenarios import SCENARIOS, Scenario
from lab.load.shop import Shop, open_shop
from lab.load.staging import Effort, stage
from lab.probes import Unusable
from lab.shell import ShellError
from lab.stack import ROOT, StackError

DEFAULT = "monday-morning"
ALL = "all"
LONGEST_MINUTES = 50.0  # the customers' tokens are good for an hour
DRAIN_SECONDS = 600.0
QUIET_SECONDS = 180.0


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    if options.list:
        print(_catalogue())
        return 0
    interrupts = Interrupts()
    interrupts.install()
    names = options.scenarios
    sections: list[Section] = []
    facts: dict[str, str] = {}
    complete = False
    try:
        _run(options, [SCENARIOS[name] for name in names], interrupts, sections, facts)
        complete = len(sections) == len(names)
    except (Unusable, StackError) as error:
        say(f"The shop could not be started: {error}")
    except (LoadFailed, ShellError) as error:
        say(f"The load test could not go on: {error}")
    except KeyboardInterrupt:
        say("Interrupted.")
    if left_out := names[len(sections) :]:
        say(f"Not run: {', '.join(left_out)}.")
    if not sections:
        return 1
    what = names[0] if len(names) == 1 else f"{len(names)}-scenarios"
    path = options.report or ROOT / "var" / "loadtest" / f"{what}-{time.strftime('%Y%m%d-%H%M%S')}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(report.html(sections, facts), encoding="utf-8")
    print(table(sections))
    print(f"Report: {path}")
    return 0 if complete and all(section.good for section in sections) else 1


def _run(
    options: argparse.Namespace,
    scenarios: Sequence[Scenario],
    interrupts: Interrupts,
    sections: list[Section],
    facts: dict[str, str],
) -> None:
    fault = FAULTS[options.fault] if options.fault else None
    # The shop's processes inherit it: each buyer of a burst has a connection.
    allow_files(max(options.users or scenario.users for scenario in scenarios))
    say("Starting a shop …")
    with (
        tempfile.TemporaryDirectory(prefix="wharf-") as folder,
        open_shop(Path(folder), for_faults=fault is not None) as shop,
    ):
        facts |= _machine(shop)
        campaign = None
        if fault is not None and shop.lab is not None:
            campaign = Campaign(shop.lab, rate=RATE)
            campaign.prepare(wait=False)
        shop.drain(QUIET_SECONDS, say)
        for scenario in scenarios:
            effort = Effort(
                users=options.users or scenario.users,
                rate=options.rate or scenario.rate,
                minutes=(options.minutes or scenario.minutes) if options.headless else None,
                drain=options.drain_seconds,
                fault=fault,
                campaign=campaign,
            )
            sections.append(stage(shop, scenario, effort, interrupts, say))
            if interrupts.seen:
                return


def table(sections: Sequence[Section]) -> str:
    """A line for each scenario, and one for each promise that was broken."""
    head = (
        f"{'scenario':<17}{'answers':>9}{'failed':>8}{'per s':>8}{'p50 ms':>8}{'p95 ms':>8}{'p99 ms':>8}{'longest':>9}"
    )
    lines = [f"{head}  verdict"]
    for section in sections:
        lines.append(_line(section))
        lines += [
            f"    {line.what.strip()}: {line.measured}, asked {line.asked}"
            for line in section.lines
            if line.good is False
        ]
    return "\n".join(lines)


def _line(section: Section) -> str:
    recording = section.recording
    verdict = "passed" if section.good else "FAILED"
    if not recording.requests:
        return f"{section.name:<17}{0:>9}{'':>49}  {verdict}"
    row = series.rows(recording.requests)[-1]
    answered = [request.answered_at for request in recording.requests]
    rate = row.count / max(1.0, max(answered) - (recording.started_at or min(answered)))
    return (
        f"{section.name:<17}{row.count:>9,}{row.failed:>8,}{rate:>8,.1f}"
        f"{row.p50:>8,.0f}{row.p95:>8,.0f}{row.p99:>8,.0f}{row.longest:>9,.0f}  {verdict}"
    )


def _machine(shop: Shop) -> dict[str, str]:
    facts = {name: str(value) for name, value in machine().items()}
    return {**facts, "locust": version("locust"), **shop.versions()}


def _catalogue() -> str:
    width = max(len(name) for name in (*SCENARIOS, *FAULTS))
    lines = ["scenarios:", *(f"  {one.name:<{width}}  {one.summary}" for one in SCENARIOS.values())]
    lines += [f"  {ALL:<{width}}  all of them"]
    lines += ["", "faults (--fault):", *(f"  {one.name:<{width}}  {one.summary}" for one in FAULTS.values())]
    return "\n".join(lines)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="script/loadtest",
        description="Let many customers come to a shop of its own at once, wait until everything is at rest, audit the"
        " shop, and write a report. Without --headless the run is started and stopped on Locust's page, whose address"
        " is printed. Exit code 0: the audit is clean and all promises were kept; 1: not so; 2: wrong usage. Ctrl-C"
        " ends the load; audit and report follow. See docs/how-to/loadtest.md.",
        epilog=_catalogue(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--scenario",
        dest="scenarios",
        action="append",
        choices=[*SCENARIOS, ALL],
        metavar="NAME",
        help=f"one of those below (default: {DEFAULT}); may be repeated: one after another in the same shop, in one"
        " report (with --headless)",
    )
    parser.add_argument("--headless", action="store_true", help="start at once and end by itself, without a page")
    parser.add_argument("--users", type=_count, metavar="N", help="how many at once (default: the scenario's)")
    parser.add_argument("--rate", type=_positive, metavar="R", help="users that start each second")
    parser.add_argument("--minutes", type=_minutes, metavar="M", help=f"how long, up to {LONGEST_MINUTES:g}")
    parser.add_argument("--fault", choices=list(FAULTS), metavar="NAME", help="break something in the middle of it")
    parser.add_argument(
        "--drain-seconds",
        type=_positive,
        default=DRAIN_SECONDS,
        metavar="N",
        help="how long to wait until outboxes and queues are empty (default: %(default)g)",
    )
    parser.add_argument("--report", type=Path, metavar="FILE", help="default: a new file in var/loadtest")
    parser.add_argument("--list", action="store_true", help="name the scenarios and the faults, and end")
    options = parser.parse_args(arguments)
    chosen = options.scenarios or [DEFAULT]
    options.scenarios = [one for name in chosen for one in (SCENARIOS if name == ALL else [name])]
    if len(options.scenarios) > 1 and not options.headless and not options.list:
        parser.error("several scenarios need --headless: a page belongs to one run")
    return options


def _count(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 100_000:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 1 to 100000")
    return number


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return number


def _minutes(text: str) -> float:
    number = _positive(text)
    if number > LONGEST_MINUTES:
        raise argparse.ArgumentTypeError(f"{text} is more than {LONGEST_MINUTES:g}: a customer's token ends")
    return number


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
