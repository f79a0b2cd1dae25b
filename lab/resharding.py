"""What customers notice of buckets that move, and whether anything gets lost on the way.

    python -m lab.resharding --moves 20 --kills 5

It runs a shop of its own on the services: gives one bucket a customer with many orders, finds out how many orders a
second the shop takes and handles, lets them flow at half of that, and moves the bucket from database to database.
Before each move it looks at the same flow without one; after it the flow pauses and the shop is audited.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from lab.client import Client
from lab.faults.moves import FINISH, GO_ON, movers
from lab.faults.traffic import NEW_PRODUCT
from lab.flow import NEW_CUSTOMERS, Flow, Request
from lab.pending import unpublished
from lab.shell import Shell, ShellError
from lab.stack import ROOT
from lab.temporary import SHARDS, temporary_stack
from resharding.steps import Step
from sharding.numbers import BUCKETS, bucket_of_customer

SKU = "MOVES"
STOCK = 1_000_000
CUSTOMERS = 16
OF_BUCKET = 2  # of them live in the bucket that moves
WARM_UP_SECONDS = 5.0
CAPACITY_SECONDS = 10.0
BASE_SECONDS = 8.0
QUIET_SECONDS = 60.0
KILLED_AT = (Step.COPIED, Step.CLOSED, Step.DETACHED, Step.ATTACHED, Step.SWITCHED)

ASKED_BLOCKED_MS = 500
ASKED_RATIO = 1.5

HOT_CUSTOMER = """
from django.db.models import Count
from orders.models import Order
from sharding import shards
found = []
for alias in shards.aliases():
    by_customer = Order.objects.using(alias).values("customer_id").annotate(orders=Count("id")).order_by("-orders")
    found += [(row["orders"], row["customer_id"], alias) for row in by_customer[:1]]
answer = max(found)
"""
MOVE = """
import time
from resharding import moving
started = time.monotonic()
move = moving.start({bucket}, {target!r}, drop_source=True)
moving.run(move)
answer = [move.rows, move.closed_ms, time.monotonic() - started]
"""
FOUND = """
from orders import selectors
from sharding import numbers
answer = len(selectors.several([numbers.parse(number) for number in {numbers!r}]).items)
"""
AUDIT = """
from datetime import timedelta
from monitoring.audit import audit
report = audit(settle=timedelta(0)).as_dict()
answer = [report["clean"], [check for check in report["checks"] if check["violations"]]]
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Rates in orders a second, latencies in milliseconds. `others_*` are of buckets that stay where they are."""

    rows: int
    moves: int
    killed: int
    capacity: float
    rate: float
    requests: int
    failed: int
    failed_while_killed: int
    failures: list[str]
    seconds_to_move: float
    closed_ms_p50: float
    closed_ms_max: float
    bucket_ms_max: float
    others_ms_p99_before: float
    others_ms_p99_meanwhile: float
    audits_clean: int
    findings: list[Any]
    orders_lost: int

    @property
    def ratio(self) -> float:
        return self.others_ms_p99_meanwhile / self.others_ms_p99_before


def measure(orders: int, moves: int, kills: int, folder: Path) -> Report:
    env = {"DEBUG": "0", "HTTPS": "false", "ALLOWED_HOSTS": "127.0.0.1", "SECRET_KEY": secrets.token_urlsafe(50)}
    env |= {"SEED_OPTIONS": "--reference-data", "EMAIL_URL": "dummymail://"}
    with temporary_stack("wharf_resharding", folder, env) as stack, closing(Shell(stack.env)) as shell:
        say(f"writing {orders:,} orders of one customer …")
        seed = ["manage.py", "seed", "--orders", str(orders + 400), "--hot-customer", str(orders)]
        # Invented orders are for development installations only.
        for_seed = {**os.environ, **stack.env, "DEBUG": "1"}
        subprocess.run([sys.executable, *seed], cwd=ROOT, env=for_seed, check=True, stdout=sys.stderr)
        _, customer, home = shell.run(HOT_CUSTOMER)
        bucket = bucket_of_customer(customer)
        shell.run(NEW_PRODUCT.format(sku=SKU, price=1_000, stock=STOCK))
        elsewhere = [(bucket + 8 * number + 1) % BUCKETS for number in range(CUSTOMERS - OF_BUCKET)]
        tokens = shell.run(NEW_CUSTOMERS.format(buckets=[bucket] * OF_BUCKET + elsewhere))
        clients = [Client(stack.url, token=token) for token in tokens]

        capacity = _capacity(clients, shell)
        flow = Flow(clients, SKU, rate=capacity / 2)
        say(f"the shop takes {capacity:.0f} orders a second; bucket {bucket} moves while {flow.rate:.0f} a second flow")
        results: list[tuple[int, int, float]] = []
        before: list[Request] = []
        meanwhile: list[Request] = []
        killed: list[Request] = []
        clean, findings = 0, []
        killed_moves = set(random.sample(range(moves), kills))
        with movers(shell) as move_and_die, flow.running():
            for number in range(moves):
                target = f"orders_{(int(home.rpartition('_')[2]) + 1) % SHARDS}"
                time.sleep(WARM_UP_SECONDS)
                flow.take()
                time.sleep(BASE_SECONDS)
                before += flow.take()
                if number in killed_moves:
                    move_and_die(bucket, target, KILLED_AT[number % len(KILLED_AT)])
                    home = shell.run(FINISH.format(how=GO_ON, bucket=bucket))
                    killed += flow.take()
                    say(f"{number + 1} of {moves}: to {home}, its mover killed")
                else:
                    rows, closed_ms, seconds = shell.run(MOVE.format(bucket=bucket, target=target))
                    results.append((rows, closed_ms, seconds))
                    home = target
                    meanwhile += flow.take()
                    say(f"{number + 1} of {moves}: {rows:,} rows to {home} in {seconds:.1f} s, closed {closed_ms} ms")
                flow.going.clear()
                is_clean, found = _audit(shell)
                clean += is_clean
                findings += found
                flow.going.set()
        lost = _lost(shell, flow.placed)
        failures = [request.failure for request in before + meanwhile if request.failure]
        return Report(
            rows=max(rows for rows, _, _ in results),
            moves=moves,
            killed=kills,
            capacity=capacity,
            rate=flow.rate,
            requests=len(before) + len(meanwhile) + len(killed),
            failed=len(failures),
            failed_while_killed=sum(bool(request.failure) for request in killed),
            failures=sorted(set(failures))[:5],
            seconds_to_move=median(seconds for _, _, seconds in results),
            closed_ms_p50=median(closed for _, closed, _ in results),
            closed_ms_max=max(closed for _, closed, _ in results),
            bucket_ms_max=max((request.seconds * 1000 for request in meanwhile if _in_bucket(request)), default=0.0),
            others_ms_p99_before=_p99_ms(before),
            others_ms_p99_meanwhile=_p99_ms(meanwhile),
            audits_clean=clean,
            findings=findings[:5],
            orders_lost=lost,
        )


def _capacity(clients: Sequence[Client], shell: Shell) -> float:
    """Orders a second that the shop takes and handles, until nothing of them is on its way any more."""
    flow = Flow(clients, SKU)
    with flow.running():
        time.sleep(WARM_UP_SECONDS)
        flow.going.clear()
        _wait_until_quiet(shell)
        flow.take()
        began = time.monotonic()
        flow.going.set()
        time.sleep(CAPACITY_SECONDS)
        flow.going.clear()
        _wait_until_quiet(shell)
        seconds = time.monotonic() - began
        requests = flow.take()
    taken = sum(not request.failure for request in requests)
    if not taken:
        raise SystemExit(f"The shop takes no orders: {requests[0].failure if requests else 'it does not answer'}")
    return taken / seconds


def _p99_ms(requests: Sequence[Request]) -> float:
    return quantiles([request.seconds * 1000 for request in requests if not _in_bucket(request)], n=100)[-1]


def _in_bucket(request: Request) -> bool:
    return request.customer < OF_BUCKET


def _wait_until_quiet(shell: Shell) -> bool:
    """Wait until nothing is on its way; False if that takes too long."""
    deadline = time.monotonic() + QUIET_SECONDS
    while any(unpublished(shell).values()):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def _audit(shell: Shell) -> tuple[bool, list[Any]]:
    deadline = time.monotonic() + QUIET_SECONDS
    while _wait_until_quiet(shell):
        clean, found = shell.run(AUDIT)
        if clean or time.monotonic() > deadline:
            return clean, found
    return False, ["the shop did not become quiet"]


def _lost(shell: Shell, placed: Sequence[str]) -> int:
    """How many of the accepted orders nobody can find."""
    found = 0
    for start in range(0, len(placed), 500):
        found += shell.run(FOUND.format(numbers=list(placed[start : start + 500])))
    return len(placed) - found


def lines(report: Report) -> list[dict[str, Any]]:
    """What was measured, beside what is asked and whether that is met."""

    def line(what: str, measured: str, asked: str = "", good: bool | None = None) -> dict[str, Any]:
        return {"what": what, "measured": measured, "asked": asked, "good": good}

    all_clean = report.audits_clean == report.moves
    return [
        line("rows of the bucket that moves", f"{report.rows:,}"),
        line("moves, of these with a mover killed", f"{report.moves}, {report.killed}"),
        line("orders a second, half of capacity", f"{report.rate:.0f}"),
        line("requests", f"{report.requests:,}"),
        line("failed requests", f"{report.failed}", "0", not report.failed),
        line("failed requests while a mover was dead", f"{report.failed_while_killed}"),
        line("orders lost", f"{report.orders_lost}", "0", not report.orders_lost),
        line("a move, p50", f"{report.seconds_to_move:.1f} s"),
        line("bucket closed for writes, p50", f"{report.closed_ms_p50:.0f} ms"),
        line(
            "bucket closed for writes, longest",
            f"{report.closed_ms_max:.0f} ms",
            f"≤ {ASKED_BLOCKED_MS} ms",
            report.closed_ms_max <= ASKED_BLOCKED_MS,
        ),
        line("slowest request to the bucket", f"{report.bucket_ms_max:.0f} ms"),
        line("other buckets' p99 before", f"{report.others_ms_p99_before:.0f} ms"),
        line("other buckets' p99 while it moves", f"{report.others_ms_p99_meanwhile:.0f} ms"),
        line("ratio of these", f"{report.ratio:.2f}", f"≤ {ASKED_RATIO}", report.ratio <= ASKED_RATIO),
        line("audits clean after a move", f"{report.audits_clean} of {report.moves}", "all", all_clean),
    ]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="lab.resharding", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--orders", type=int, default=8_000, help="orders in the bucket that moves (default: 8000)")
    parser.add_argument("--moves", type=int, default=20, help="how often it moves (default: 20)")
    parser.add_argument("--kills", type=int, default=5, help="how often its mover is killed (default: 5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to a file, too")
    options = parser.parse_args(arguments)
    if options.orders < 1 or not 0 <= options.kills < options.moves:
        parser.error("there must be an order, and more moves than kills")
    with tempfile.TemporaryDirectory(prefix="wharf-") as folder:
        try:
            report = measure(options.orders, options.moves, options.kills, Path(folder))
        except ShellError as error:
            say(str(error))
            return 1
    for line in lines(report):
        print(f"{line['what']:<38}{line['measured']:>14}{line['asked']:>12}")
    for trouble in (*report.failures, *report.findings):
        print(f"trouble: {trouble}")
    if options.json:
        options.json.write_text(json.dumps(asdict(report), indent=2) + "\n")
    return 1 if any(line["good"] is False for line in lines(report)) else 0


if __name__ == "__main__":
    sys.exit(main())
