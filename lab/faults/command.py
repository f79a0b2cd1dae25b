"""Break things under a shop on services of its own, while customers order, and see whether anything gets lost, doubled
or oversold. Exit code 1 if so, or if a recovery took longer than 30 s. Ctrl-C ends it with the table so far. See
docs/reference/faults.md.
"""

from __future__ import annotations

import json
import random
import sys
import textwrap
import time
from argparse import Namespace
from collections.abc import Iterable, Sequence
from dataclasses import asdict, astuple, dataclass, field

from lab import command
from lab.faults.campaign import MUTATIONS, RATE, RECOVERY_SECONDS, Campaign, Outcome, try_mutation
from lab.faults.catalogue import FAULTS, in_random_order
from lab.faults.lab import Lab, Services, private_services
from lab.harness.instances import Unusable
from lab.harness.interrupts import Interrupts
from lab.harness.services import install_tools
from lab.harness.stack import StackError
from lab.harness.system import NotQuiet

LINE = "{:<30}{:>9}{:>10}{:>6}{:>9}{:>10}{:>18}"
HEADER = LINE.format("fault", "injected", "accepted", "lost", "doubled", "oversold", "longest recovery")


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
    def late(self) -> bool:
        return self.longest_recovery > RECOVERY_SECONDS

    @property
    def right(self) -> bool:
        return not (self.lost or self.doubled or self.oversold or self.late)

    def __str__(self) -> str:
        *numbers, recovery = astuple(self)
        return LINE.format(*numbers, f"{recovery:.1f} s{' LATE' if self.late else ''}")


@dataclass(slots=True)
class Results:
    """What a run has found so far. `asked` are the faults that it is about."""

    seed: int
    asked: Sequence[str] = ()
    rows: dict[str, Row] = field(default_factory=dict)
    all: Row = field(default_factory=lambda: Row("all"))
    findings: list[str] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        for row in (self.rows.setdefault(outcome.fault, Row(outcome.fault)), self.all):
            row.add(outcome)
        self.findings += [f"{outcome.fault}: {finding}" for finding in outcome.verdict.findings]

    @property
    def not_staged(self) -> list[str]:
        return [name for name in self.asked if name not in self.rows]

    @property
    def right(self) -> bool:
        return not self.findings and self.all.right

    def table(self) -> str:
        return "\n".join([HEADER, *(str(self.rows[name]) for name in sorted(self.rows)), str(self.all)])

    def as_json(self) -> dict[str, object]:
        rows = [asdict(row) for row in self.rows.values()]
        facts = {"not_staged": self.not_staged, "findings": self.findings}
        return {"seed": self.seed, "right": self.right, "rows": rows, **facts}


def run(services: Services, results: Results, *, minutes: float, rate: float, every: bool) -> None:
    """Stage faults until the time is over, with `every` each of them at least once.

    Stops early at the first that does harm, as nothing after it would prove anything.
    """
    with Lab(services, services.folder / "lab") as lab:
        campaign = Campaign(lab, rate=rate)
        campaign.prepare()
        started = time.monotonic()
        for fault in in_random_order(results.asked, random.Random(results.seed)):
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
                *(f"            note: {note}" for note in outcome.errors),
                sep="\n",
                flush=True,
            )
            if not verdict.clean:
                return


def self_test() -> int:
    """Try all mutations and print a table; returns the exit code."""
    needed = {mutation.fault for mutation in MUTATIONS if mutation.fault}
    skipped = _missing(needed)
    mutations = [mutation for mutation in MUTATIONS if mutation.fault not in skipped]
    print(f"Starting PostgreSQL (two), RabbitMQ and Redis, then {len(mutations)} shops in turn …", flush=True)
    print(f"{'mutation':<42}{'expected':<10}{'got':<8}first finding", flush=True)
    failed = 0
    with private_services() as services:
        for mutation in mutations:
            verdict = try_mutation(services, mutation)
            expected, got = "red" if mutation.harmful else "green", "green" if verdict.clean else "red"
            failed += got != expected
            finding = textwrap.shorten(next(iter(verdict.findings), ""), 100)
            print(f"{mutation.title:<42}{expected:<10}{got:<8}{finding}", flush=True)
    print("The fault tests notice what they should." if not failed else f"{failed} verdicts are wrong.")
    return 1 if failed else 0


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    if options.list:
        for fault in FAULTS.values():
            print(f"{fault.name:<30}{fault.summary}")
        return 0
    Interrupts().install()
    try:
        return self_test() if options.self_test else _campaign(options)
    except (Unusable, StackError, NotQuiet) as error:
        print(f"The shop could not be started: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("\nInterrupted.", flush=True)
    return 1


def _missing(faults: Iterable[str]) -> dict[str, str]:
    """Install what the faults need where that is possible, and say what is still missing, by fault."""
    install_tools()
    missing = {name: why for name in faults if (why := FAULTS[name].missing())}
    for name, why in missing.items():
        print(f"Skipped: {name} ({why})", flush=True)
    return missing


def _campaign(options: Namespace) -> int:
    seed = options.seed if options.seed is not None else random.randrange(10**6)
    asked = list(dict.fromkeys(options.only or FAULTS))
    skipped = _missing(asked)
    results = Results(seed=seed, asked=[name for name in asked if name not in skipped])
    print(f"Seed {results.seed}. Starting PostgreSQL (two), RabbitMQ, Redis and a shop …", flush=True)
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
        options.json.write_text(json.dumps({**results.as_json(), "skipped": skipped}, indent=2) + "\n")
    if not results.rows:
        print("No fault was staged.")
        return 1
    if results.right:
        print(f"Nothing was lost, doubled or oversold{' so far' if interrupted else ''}.")
    if left_out := results.not_staged:
        print(f"Not staged: {len(left_out)} of {len(results.asked)} faults ({', '.join(left_out)}).")
    return 0 if results.right else 1


def _options(arguments: Sequence[str] | None) -> Namespace:
    parser = command.parser("faults", __doc__)
    add = parser.add_argument
    minutes = "how long; faults that are not reached are named at the end (default: %(default)s)"
    add("--minutes", type=command.positive, default=10, help=minutes)
    only = "only these faults (see --list), each at least once, however long it takes"
    add("--only", nargs="+", metavar="NAME", choices=list(FAULTS), help=only)
    add("--rate", type=command.positive, default=RATE, help="orders a second (default: %(default)s)")
    add("--seed", type=int, help="of the order of the faults (default: a random one)")
    add("--list", action="store_true", help="name the faults and end")
    broken = "break the shop itself in six ways, one after another, and see that each is found out"
    add("--self-test", action="store_true", help=broken)
    return parser.parse_args(arguments)
