"""`script/faults`: stages faults in random order for some minutes, and says whether anything was lost."""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import textwrap
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType

from lab.faults.campaign import RECOVERY_SECONDS, Campaign, Outcome
from lab.faults.catalogue import FAULTS, in_random_order
from lab.faults.lab import Lab, NotQuiet, Services, private_services
from lab.faults.selftest import self_test
from lab.faults.traffic import RATE
from lab.probes import Unusable
from lab.services import install_tools
from lab.stack import StackError

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(slots=True)
class Row:
    """A line of the table: all stagings of one fault. `longest_recovery` in seconds."""

    fault: str
    injected: int = 0
    accepted: int = 0
    lost: int = 0
    doubled: int = 0
    oversold: int = 0
    longest_recovery: float = 0.0

    def add(self, outcome: Outcome) -> None:
        self.injected += 1
        self.accepted += outcome.accepted
        self.lost += outcome.verdict.lost
        self.doubled += outcome.verdict.doubled
        self.oversold += outcome.verdict.oversold
        self.longest_recovery = max(self.longest_recovery, outcome.recovery)

    @property
    def right(self) -> bool:
        return not (self.lost or self.doubled or self.oversold) and self.longest_recovery <= RECOVERY_SECONDS


@dataclass(slots=True)
class Results:
    """What a run has found so far. `asked` are the faults that it is about."""

    seed: int
    asked: Sequence[str] = ()
    rows: dict[str, Row] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        self.rows.setdefault(outcome.fault, Row(outcome.fault)).add(outcome)
        self.findings += [f"{outcome.fault}: {finding}" for finding in outcome.verdict.findings]

    @property
    def not_staged(self) -> list[str]:
        return [name for name in self.asked if name not in self.rows]

    @property
    def right(self) -> bool:
        return not self.findings and all(row.right for row in self.rows.values())

    def table(self) -> str:
        header = f"{'fault':<30}{'injected':>9}{'accepted':>10}{'lost':>6}{'doubled':>9}{'oversold':>10}"
        lines = [f"{header}{'longest recovery':>18}"]
        total = Row("all")
        for row in sorted(self.rows.values(), key=lambda row: row.fault):
            lines.append(_line(row))
            for name in ("injected", "accepted", "lost", "doubled", "oversold"):
                setattr(total, name, getattr(total, name) + getattr(row, name))
            total.longest_recovery = max(total.longest_recovery, row.longest_recovery)
        return "\n".join([*lines, _line(total)])


def _line(row: Row) -> str:
    late = "" if row.longest_recovery <= RECOVERY_SECONDS else " LATE"
    return (
        f"{row.fault:<30}{row.injected:>9}{row.accepted:>10}{row.lost:>6}{row.doubled:>9}{row.oversold:>10}"
        f"{f'{row.longest_recovery:.1f} s{late}':>18}"
    )


def run(services: Services, results: Results, *, minutes: float, rate: float, every: bool) -> None:
    """Stage faults until the time is over, with `every` each of them at least once.

    Stops early at the first that does harm, as nothing after it would prove anything.
    """
    rng = random.Random(results.seed)
    with Lab(services, services.folder / "lab") as lab:
        campaign = Campaign(lab, rate=rate)
        campaign.prepare()
        started = time.monotonic()
        for fault in in_random_order(results.asked, rng):
            elapsed = time.monotonic() - started
            if elapsed >= minutes * 60 and not (every and results.not_staged):
                return
            print(f"[{elapsed / 60:5.1f} min] {fault.name} … ", end="", flush=True)
            try:
                outcome = campaign.stage(fault)
            except Exception as error:  # whatever went wrong, the table so far is worth having
                print("FAILED", flush=True)
                results.findings.append(f"{fault.name}: {type(error).__name__}: {error}")
                return
            results.add(outcome)
            verdict = outcome.verdict
            print(
                f"{outcome.accepted} orders accepted, {verdict.lost} lost, {verdict.doubled} doubled,"
                f" {verdict.oversold} oversold, recovered in {outcome.recovery:.1f} s",
                flush=True,
            )
            for note in outcome.errors:
                print(f"            note: {note}", flush=True)
            if not verdict.clean:
                return


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    if options.list:
        for fault in FAULTS.values():
            print(f"{fault.name:<30}{fault.summary}")
        return 0
    _interrupt_once()
    try:
        return self_test() if options.self_test else _campaign(options)
    except (Unusable, StackError, NotQuiet) as error:
        print(f"The shop could not be started: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted.", flush=True)
        return 1


def _campaign(options: argparse.Namespace) -> int:
    seed = options.seed if options.seed is not None else random.randrange(10**6)
    install_tools()
    asked = list(dict.fromkeys(options.only or FAULTS))
    missing = {name: why for name in asked if (why := FAULTS[name].missing())}
    results = Results(seed=seed, asked=[name for name in asked if name not in missing])
    print(f"Seed {results.seed}. Starting PostgreSQL (two), RabbitMQ, Redis and a shop …", flush=True)
    for name, why in missing.items():
        print(f"Skipped: {name} ({why})", flush=True)
    interrupted = False
    try:
        with private_services() as services:
            run(services, results, minutes=options.minutes, rate=options.rate, every=bool(options.only))
    except KeyboardInterrupt:
        interrupted = True
        print("\nInterrupted.", flush=True)
    print(f"\n{results.table()}")
    for finding in results.findings:
        print(textwrap.shorten(finding, 500))
    if options.json:
        rows = [asdict(row) for row in results.rows.values()]
        report = {
            "seed": results.seed,
            "right": results.right,
            "rows": rows,
            "not_staged": results.not_staged,
            "skipped": missing,
            "findings": results.findings,
        }
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    if not results.rows:
        print("No fault was staged.")
    else:
        if results.right:
            print(f"Nothing was lost, doubled or oversold{' so far' if interrupted else ''}.")
        if results.not_staged:
            count = f"{len(results.not_staged)} of {len(results.asked)}"
            print(f"Not staged: {count} faults ({', '.join(results.not_staged)}).")
    return 0 if results.right and results.rows else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="script/faults",
        description="Break things under a shop on services of its own, while customers order, and see whether anything"
        " gets lost, doubled or oversold. Exit code 1 if so, or if a recovery took longer than"
        f" {RECOVERY_SECONDS} s. Ctrl-C ends it with the table so far. See docs/reference/faults.md.",
    )
    parser.add_argument(
        "--minutes",
        type=_positive,
        default=10,
        help="how long; faults that are not reached are named at the end (default: %(default)s)",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="NAME",
        choices=list(FAULTS),
        help="only these faults (see --list), each at least once, however long it takes",
    )
    parser.add_argument("--rate", type=_positive, default=RATE, help="orders a second (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="of the order of the faults (default: a random one)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table to a file, too")
    parser.add_argument("--list", action="store_true", help="name the faults and end")
    parser.add_argument(
        "--self-test",
        action="store_true",
        help="break the shop itself in six ways, one after another, and see that each is found out",
    )
    return parser


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return number


def _interrupt_once() -> None:
    """The first signal ends the run in good order; more of them do not disturb the tidying up."""
    interrupted = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        if not interrupted.is_set():
            interrupted.set()
            raise KeyboardInterrupt

    for number in STOP_SIGNALS:
        signal.signal(number, on_signal)


if __name__ == "__main__":
    sys.exit(main())
