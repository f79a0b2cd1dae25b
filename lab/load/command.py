"""Let many customers come to a shop of its own at once, wait until everything is quiet, audit the shop, and write a
report. Without --headless the run is started and stopped on Locust's page, whose address is printed. Exit code 0: the
audit is clean and all promises were kept; 1: not so; 2: wrong usage. Ctrl-C ends the load; audit and report follow.
See docs/how-to/loadtest.md.
"""

from __future__ import annotations

import os
import tempfile
import time
from argparse import Namespace, RawDescriptionHelpFormatter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from lab import command
from lab.faults.campaign import Campaign
from lab.faults.catalogue import FAULTS
from lab.faults.lab import Lab, private_services
from lab.figures import machine, missed
from lab.harness import ROOT, say
from lab.harness.installations import production
from lab.harness.instances import Unusable, probe_postgresql, probe_rabbitmq, probe_redis
from lab.harness.interrupts import Interrupts
from lab.harness.shell import ShellError
from lab.harness.stack import StackError
from lab.harness.system import NotQuiet, System, temporary_system
from lab.load import charts, report
from lab.load.buyers import allow_files
from lab.load.driving import LoadFailed
from lab.load.report import Section
from lab.load.scenarios import SCENARIOS, Scenario
from lab.load.staging import Effort, Faulting, stage

NAME = "wharf_load"
DEFAULT = "mixed-workload"
ALL = "all"
LONGEST_MINUTES = 50.0  # the customers' tokens are good for an hour
DRAIN_SECONDS = 600.0
QUIET_SECONDS = 180.0
FAULT_RATE = 2.0  # orders a second of the fault's own customers: the load comes on top of them
# The clock's cancellations would only blur what is expected.
LIMITS = {"EVENTING_MAX_LAG_SECONDS": "30", "ORDER_PAYMENT_TIMEOUT": "86400"}


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
    except (Unusable, StackError, NotQuiet) as error:
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
    print(f"{table(sections)}\nReport: {path}")
    return 0 if complete and all(section.good for section in sections) else 1


def _run(
    options: Namespace,
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
        _system(Path(folder), for_faults=fault is not None) as system,
    ):
        facts |= {name: str(value) for name, value in machine().items()}
        facts |= {"locust": version("locust"), **_versions({**os.environ, **system.processes.env})}
        campaign = None
        if isinstance(system, Lab):
            campaign = Campaign(system, rate=FAULT_RATE)
            campaign.prepare(wait=False)
        system.wait_until_quiet(QUIET_SECONDS, progress=True)
        for scenario in scenarios:
            effort = Effort(
                users=options.users or scenario.users,
                rate=options.rate or scenario.rate,
                minutes=(options.minutes or scenario.minutes) if options.headless else None,
                drain=options.drain_seconds,
                faulting=Faulting(campaign, fault) if campaign and fault else None,
            )
            sections.append(stage(system, scenario, effort, interrupts))
            if interrupts.seen:
                return


@contextmanager
def _system(folder: Path, *, for_faults: bool) -> Iterator[System]:
    """A shop on the services as they are, or on private ones where faults can be staged."""
    if for_faults:
        with private_services() as services, Lab(services, services.folder / "lab") as lab:
            yield lab
    else:
        with temporary_system(NAME, folder, production(**LIMITS)) as system:
            yield system


def _versions(env: Mapping[str, str]) -> dict[str, str]:
    """Of the services, as far as they answer."""
    probes = {
        "PostgreSQL": (probe_postgresql, "DATABASE_URL"),
        "RabbitMQ": (probe_rabbitmq, "CELERY_BROKER_URL"),
        "Redis": (probe_redis, "REDIS_URL"),
    }
    found = {}
    for name, (probe, variable) in probes.items():
        try:
            found[name] = probe(env[variable])
        except (KeyError, Unusable):
            found[name] = "none"
    return found


def table(sections: Sequence[Section]) -> str:
    """A line for each scenario, and one for each promise that was broken."""
    heads = ("answers", "failed", "per s", "p50 ms", "p95 ms", "p99 ms", "longest")
    lines = [f"{'scenario':<17}{''.join(f'{head:>9}' for head in heads)}  verdict"]
    for section in sections:
        lines.append(_line(section))
        lines += [f"    {one.name.strip()}: {one.measured}, asked {one.asked}" for one in missed(section.figures)]
    return "\n".join(lines)


def _line(section: Section) -> str:
    recording = section.recording
    values = ["0", *[""] * 6]
    if recording.requests:
        answered = [request.answered_at for request in recording.requests]
        seconds = max(1.0, max(answered) - (recording.started_at or min(answered)))
        count, failed, *times = charts.rows(recording.requests)[-1].texts()
        values = [count, failed, f"{len(answered) / seconds:,.1f}", *times]
    verdict = "passed" if section.good else "FAILED"
    return f"{section.name:<17}{''.join(f'{value:>9}' for value in values)}  {verdict}"


def _catalogue() -> str:
    width = max(len(name) for name in (*SCENARIOS, *FAULTS))
    lines = ["scenarios:", *(f"  {one.name:<{width}}  {one.summary}" for one in SCENARIOS.values())]
    lines += [f"  {ALL:<{width}}  all of them"]
    lines += ["", "faults (--fault):", *(f"  {one.name:<{width}}  {one.summary}" for one in FAULTS.values())]
    return "\n".join(lines)


def _options(arguments: Sequence[str] | None) -> Namespace:
    parser = command.parser(
        "loadtest", __doc__, json=False, epilog=_catalogue(), formatter_class=RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    scenario = f"one of those below (default: {DEFAULT}); may be repeated: one after another in the same shop, in one"
    add(
        "--scenario",
        dest="scenarios",
        action="append",
        choices=[*SCENARIOS, ALL],
        metavar="NAME",
        help=f"{scenario} report (with --headless)",
    )
    add("--headless", action="store_true", help="start at once and end by itself, without a page")
    users = "how many at once (default: the scenario's)"
    add("--users", type=command.number(int, 1, 100_000), metavar="N", help=users)
    add("--rate", type=command.positive, metavar="R", help="users that start each second")
    minutes = f"how long, up to {LONGEST_MINUTES:g}: a customer's token ends then"
    add("--minutes", type=command.number(float, 0, LONGEST_MINUTES, above=True), metavar="M", help=minutes)
    add("--fault", choices=list(FAULTS), metavar="NAME", help="break something in the middle of it")
    drain = "how long to wait until outboxes and queues are empty (default: %(default)g)"
    add("--drain-seconds", type=command.positive, default=DRAIN_SECONDS, metavar="N", help=drain)
    add("--report", type=Path, metavar="FILE", help="default: a new file in var/loadtest")
    add("--list", action="store_true", help="name the scenarios and the faults, and end")
    options = parser.parse_args(arguments)
    chosen = options.scenarios or [DEFAULT]
    options.scenarios = [one for name in chosen for one in (SCENARIOS if name == ALL else [name])]
    if len(options.scenarios) > 1 and not options.headless and not options.list:
        parser.error("several scenarios need --headless: a page belongs to one run")
    return options
