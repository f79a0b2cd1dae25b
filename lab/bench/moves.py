"""What customers notice of buckets that move, and whether anything gets lost on the way.

It runs a shop of its own on the services: gives one bucket a customer with many orders, finds out how many orders a
second the shop takes and handles, lets them flow at half of that, and moves the bucket from database to database.
Before each move it looks at the same flow without one; after it the flow pauses and the shop is judged.
"""

from __future__ import annotations

import random
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median, quantiles

from lab import command
from lab.client import Customer
from lab.figures import Figure, at_most, figure, none
from lab.harness import say
from lab.harness.installations import SHARDS, production
from lab.harness.shell import Shell, ShellError
from lab.harness.system import NotQuiet, System, temporary_system
from lab.oracle import Ledger, Verdict
from lab.programs import breaking, questions, shop
from lab.traffic import Request, Traffic
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
MOVE_SECONDS = 600.0
KILLED_AT = (Step.COPIED, Step.CLOSED, Step.DETACHED, Step.ATTACHED, Step.SWITCHED)
ASKED_BLOCKED_MS = 500
ASKED_RATIO = 1.5


def measure(orders: int, moves: int, kills: int, folder: Path) -> list[Figure]:
    """Raises ShellError, NotQuiet."""
    with temporary_system("wharf_moves", folder, production()) as system, Shell(system.shell.env) as mover:
        say(f"writing {orders:,} orders of one customer …")
        # Invented orders are for development installations only.
        with Shell(system.shell.env | {"DEBUG": "1"}) as seeding:
            seeding.run("manage.py", "seed", "--orders", str(orders + 400), "--hot-customer", str(orders))
        customer_id, home = system.call(questions.fullest_customer)
        bucket = bucket_of_customer(customer_id)
        system.call(shop.products, {SKU: STOCK})
        ledger = Ledger(stock={SKU: STOCK})
        elsewhere = [(bucket + 8 * number + 1) % BUCKETS for number in range(CUSTOMERS - OF_BUCKET)]
        people = system.call(shop.people, buckets=[bucket] * OF_BUCKET + elsewhere)
        customers = [Customer(system.url, one.customer_id, one.token, ledger, insist=0) for one in people]
        capacity = _capacity(system, customers)
        traffic = Traffic(customers, _order, rate=capacity / 2)
        say(f"the shop takes {capacity:.0f} orders a second; bucket {bucket} moves while half of that flows")
        results: list[tuple[int, int, float]] = []
        before: list[Request] = []
        meanwhile: list[Request] = []
        killed: list[Request] = []
        verdicts: list[Verdict] = []
        killed_moves = set(random.sample(range(moves), kills))
        with traffic:
            for number in range(moves):
                target = f"orders_{(int(home.rpartition('_')[2]) + 1) % SHARDS}"
                time.sleep(WARM_UP_SECONDS)
                traffic.take()
                time.sleep(BASE_SECONDS)
                before += traffic.take()
                if number in killed_moves:
                    step = KILLED_AT[number % len(KILLED_AT)]
                    mover.call_within(MOVE_SECONDS, breaking.move_and_die, bucket, target, step)
                    home = system.call(breaking.end_moves, bucket)
                    killed += traffic.take()
                    say(f"{number + 1} of {moves}: to {home}, its mover killed")
                else:
                    began = time.monotonic()
                    rows, closed_ms = system.call(breaking.move, bucket, target)
                    results.append((rows, closed_ms, time.monotonic() - began))
                    home = target
                    meanwhile += traffic.take()
                    say(f"{number + 1} of {moves}: {rows:,} rows to {home}, closed {closed_ms} ms")
                traffic.going.clear()
                verdicts.append(_verdict(system, ledger))
                traffic.going.set()
    failures = [request.failure for request in before + meanwhile if request.failure]
    harm = [verdict for verdict in verdicts if not verdict.clean]
    of_bucket = [request.seconds * 1000 for request in meanwhile if request.customer < OF_BUCKET]
    closed = [float(closed_ms) for _, closed_ms, _ in results]
    p99s = [_p99_ms(before), _p99_ms(meanwhile)]
    return [
        figure("rows of the bucket that moves", max(rows for rows, _, _ in results)),
        figure("moves", moves),
        figure("  of these with a mover killed", kills),
        figure("orders a second, half of capacity", capacity / 2, "orders/s"),
        figure("requests", len(before) + len(meanwhile) + len(killed)),
        none("failed requests", sorted(set(failures)), len(failures)),
        figure("failed requests while a mover was dead", sum(bool(request.failure) for request in killed)),
        none("orders lost", [finding for one in harm for finding in one.findings], sum(one.lost for one in harm)),
        none("moves after which a promise was broken", [], len(harm)),
        figure("a move, p50", median(seconds for _, _, seconds in results), "s"),
        figure("bucket closed for writes, p50", median(closed), "ms"),
        figure("bucket closed for writes, longest", max(closed), "ms", at_most(ASKED_BLOCKED_MS)),
        figure("slowest request to the bucket", max(of_bucket, default=0.0), "ms"),
        figure("other buckets' p99 before", p99s[0], "ms"),
        figure("other buckets' p99 while it moves", p99s[1], "ms"),
        figure("ratio of these", p99s[1] / p99s[0], "times", at_most(ASKED_RATIO)),
    ]


def _order(customer: Customer) -> None:
    customer.place({SKU: 1})


def _capacity(system: System, customers: Sequence[Customer]) -> float:
    """Orders a second that the shop takes and handles, until nothing of them is on its way any more."""
    with Traffic(customers, _order) as traffic:
        time.sleep(WARM_UP_SECONDS)
        traffic.going.clear()
        system.wait_until_quiet(QUIET_SECONDS, has_past=True)
        traffic.take()
        began = time.monotonic()
        traffic.going.set()
        time.sleep(CAPACITY_SECONDS)
        traffic.going.clear()
        system.wait_until_quiet(QUIET_SECONDS, has_past=True)
        seconds = time.monotonic() - began
        requests = traffic.take()
    taken = sum(not request.failure for request in requests)
    if not taken:
        raise ShellError(f"the shop takes no orders: {requests[0].failure if requests else 'it does not answer'}")
    return taken / seconds


def _p99_ms(requests: Sequence[Request]) -> float:
    return quantiles([one.seconds * 1000 for one in requests if one.customer >= OF_BUCKET], n=100)[-1]


def _verdict(system: System, ledger: Ledger) -> Verdict:
    """Judge when everything is quiet, again until nothing is found or too much time has passed."""
    deadline = time.monotonic() + QUIET_SECONDS
    while True:
        try:
            system.wait_until_quiet(QUIET_SECONDS, has_past=True)
        except NotQuiet as error:
            verdict = Verdict()
            verdict.find("lost", "what did not become quiet", [error])
            return verdict
        verdict = system.judge(ledger)
        if verdict.clean or time.monotonic() > deadline:
            return verdict


def add_arguments(parser: ArgumentParser, orders: str) -> None:
    add = parser.add_argument
    add(orders, type=command.number(int, 1), default=8_000, help="orders in the bucket that moves (default: 8000)")
    add("--moves", type=command.number(int, 0), default=20, help="how often it moves (default: 20; 0: not at all)")
    add("--kills", type=command.number(int, 0), default=5, help="how often its mover is killed (default: 5)")


def check_arguments(parser: ArgumentParser, options: Namespace) -> None:
    if options.moves and options.kills >= options.moves:
        parser.error("there must be more moves than kills")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = command.parser("lab moves", __doc__)
    add_arguments(parser, "--orders")
    options = parser.parse_args(arguments)
    check_arguments(parser, options)
    return command.report(partial(measure, options.orders, options.moves, options.kills), options.json)
