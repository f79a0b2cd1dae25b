"""Measure how fast the shop is, beside what the machine does at best. The client is wrk, which is written in C.

It runs shops of its own on the services, on databases and queues that are gone afterwards. Each figure is measured
several times; the table shows the median and how far the runs lie apart.
"""

from __future__ import annotations

import json
import math
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import quantiles

import psutil

from lab import command
from lab.bench import compiled, reading, shards
from lab.client import Client
from lab.figures import FLOOR, Asked, Figure, at_least, at_most, clean, figure
from lab.harness import say, wait_until
from lab.harness.installations import production, temporary_installation
from lab.harness.instances import Unusable
from lab.harness.shell import Shell
from lab.harness.system import System, temporary_system
from lab.programs import parts, questions, shop
from lab.traffic import Traffic, meanwhile

SHARDS = 2
CUSTOMERS = 32
SKUS = [f"BENCH-{number}" for number in range(1, 11)]
STOCK = 1_000_000
LOW_RATE = 10.0
FIRST_RATE = 100.0
BEHIND_SECONDS = 2.0
GROUPS = ("floor", "parts", "reads", "accept", "flow", "memory", "history")
DRAIN_SECONDS = 180
UNLIMITED = {"EVENTING_MAX_LAG_SECONDS": "0"}  # more is asked of the shop than it should take


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How long and how often everything is measured. `share` is the part of the events of `lab.programs.parts`."""

    runs: int = 3
    seconds: int = 10
    share: float = 1.0
    sustain: int = 60
    precision: float = 1.1  # a rate that is too high is found within this factor
    history_orders: int = 100_000
    history_rounds: int = reading.ROUNDS


QUICK = Effort(runs=1, seconds=3, share=0.1, sustain=5, precision=1.5, history_orders=1_000, history_rounds=3)


def measure(groups: Sequence[str], effort: Effort, folder: Path, shards: int) -> list[Figure]:
    """Raises Unusable, StackError, ShellError or NotQuiet if something that is needed cannot be had."""
    figures: list[Figure] = []
    if {"floor", "parts"} & set(groups):
        figures += _alone(groups, effort, folder, shards)
    if {"reads", "accept", "flow", "memory"} & set(groups):
        say("starting a shop …")
        with temporary_system("wharf_bench", folder, production(**UNLIMITED), shards=shards) as system:
            figures += Bench(system, effort, folder).measure(groups)
    if "history" in groups:
        say("history …")
        figures += _history(effort, folder)
    return figures


# --- Without a shop ---------------------------------------------------------------------------------------------------


def _alone(groups: Sequence[str], effort: Effort, folder: Path, shards: int) -> list[Figure]:
    figures = []
    with (
        temporary_installation("wharf_bench", folder, production(**UNLIMITED), shards=shards) as env,
        Shell(env) as shell,
    ):
        shell.run("manage.py", "migrate_all", quiet=True)
        shell.run("manage.py", "setup_broker", quiet=True)
        if "floor" in groups:
            say("the floor: pgbench …")
            rates = [compiled.floor(env["DATABASE_URL"], seconds=effort.seconds) for _ in range(effort.runs)]
            figures.append(figure(FLOOR, rates, "orders/s"))
        if "parts" in groups:
            say("parts of the pipeline …")
            figures += _parts(shell.call(parts.measure, effort.share, effort.runs))
    return figures


def _parts(found: dict[str, list[float]]) -> list[Figure]:
    ratios = [batch / single for batch, single in zip(found["consume 64"], found["consume 1"], strict=True)]
    consumed = [
        figure(f"inventory consumes, batches of {size}", found[f"consume {size}"], "events/s", asked)
        for size, asked in {**dict.fromkeys(parts.EVENTS), 64: at_least(15_200)}.items()
    ]
    return [
        figure("broker: publish, confirmed one by one", found["broker publish"], "messages/s"),
        figure("broker: consume, acknowledged one by one", found["broker consume"], "messages/s"),
        figure("relay publishes", found["relay"], "events/s", at_least(10_000)),
        *consumed,
        figure("batches of 64 against single events", ratios, "times", at_least(8)),
        figure("reservations of one hot product", found["hot"], "reservations/s", at_least(2_000)),
    ]


# --- With a shop ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Sustained:
    """How the shop kept up with orders at a rate; `oldest` in seconds, from placed to confirmed in milliseconds.

    `missing` is the part of the orders that should have been taken and were neither taken nor on their way at the end.
    """

    rate: float
    missing: float
    oldest: float
    p50: float
    p99: float

    @property
    def kept_up(self) -> bool:
        behind = self.oldest >= BEHIND_SECONDS or self.p99 >= 1_000 * BEHIND_SECONDS
        return self.missing <= 0.1 and not behind

    def __str__(self) -> str:
        return (
            f"{'kept up' if self.kept_up else 'fell behind'} ({self.rate:.0f} taken, oldest event {self.oldest:.1f} s,"
            f" confirmed after {self.p50:.0f} ms, 99 of 100 within {self.p99:.0f} ms)"
        )


class Bench:
    """A running shop with products and customers, of which everything is measured."""

    def __init__(self, system: System, effort: Effort, folder: Path) -> None:
        self.system, self.effort = system, effort
        system.call(shop.products, dict.fromkeys(SKUS, STOCK))
        people = system.call(shop.people, buckets=[number * 37 % 128 for number in range(CUSTOMERS)])
        self.customer_id = people[0].customer_id
        self.clients = [Client(system.url, token=person.token) for person in people]
        tokens = [person.token for person in people]
        body = json.dumps({"lines": [{"sku": sku, "quantity": 1} for sku in SKUS[:2]]})
        self.place = partial(compiled.place_orders, system.url, tokens, body, folder)
        for client in self.clients:
            client.wait_for(client.place((SKUS[0], 1)), "confirmed")

    def measure(self, groups: Sequence[str]) -> list[Figure]:
        figures: list[Figure] = []
        if "reads" in groups:
            say("reads …")
            figures += self._reads()
        if "accept" in groups:
            say("placing orders …")
            figures += self._accept()
        if "flow" in groups:
            say("orders to the end …")
            highest, sustained = self._highest_rate()
            figures += sustained
            figures += self._latencies("at half of that rate", highest / 2, 99, at_most(1_000))
            figures += self._latencies("at 10 orders/s", LOW_RATE, 95, at_most(200))
        if "memory" in groups:
            figures += self._memory()
        if "accept" in groups or "flow" in groups:
            say("auditing …")
            figures.append(clean(self.system.call(questions.audit)))
        return figures

    def drain(self) -> None:
        """Wait until every event was handled. Raises NotQuiet, Unusable."""
        if dead := self.system.wait_until_quiet(DRAIN_SECONDS)["dead"]:
            raise Unusable(f"{dead} events ended as dead letters")

    def _reads(self) -> list[Figure]:
        number = self.clients[0].place((SKUS[0], 1))
        self.clients[0].wait_for(number, "confirmed")
        cookie = {"Cookie": f"sessionid={self.system.call(shop.session, self.customer_id)}"}
        pages: list[tuple[str, str, dict[str, str], Asked | None]] = [
            ("product as JSON, cached", f"/api/v1/products/{SKUS[0]}", {}, at_least(12_000)),
            ("catalogue page, cached", "/", {}, at_least(3_000)),
            ("catalogue page of somebody signed in", "/", cookie, None),
            ("order page", f"/orders/{number}/", cookie, None),
        ]
        figures = []
        for name, path, headers, asked in pages:
            ask = partial(compiled.get, self.system.url + path, seconds=self.effort.seconds, headers=headers)
            runs = [ask().rate for _ in range(self.effort.runs)]
            figures.append(figure(name, runs, "requests/s", asked))
        return figures

    def _accept(self) -> list[Figure]:
        """What the web server takes while nobody reacts: relay and workers are frozen, and handle it all afterwards."""
        self.drain()
        effort, processes = self.effort, self.system.processes
        others = [name for name in processes.pids if name != "web"]
        for name in others:
            processes.kill(name, signal.SIGSTOP)
        at_best = [self.place(seconds=effort.seconds) for _ in range(effort.runs)]
        rate = sorted(answered.rate for answered in at_best)[len(at_best) // 2]
        at_ease = [self.place(seconds=effort.seconds, rate=0.7 * rate) for _ in range(effort.runs)]
        accepted = sum(answered.requests for answered in at_best + at_ease)
        for name in others:
            processes.kill(name, signal.SIGCONT)
        began = time.monotonic()
        self.drain()
        handled = accepted / (time.monotonic() - began)
        asked = at_least(0.20, of_floor=True)
        return [
            figure("orders accepted over HTTP", [one.rate for one in at_best], "orders/s", asked),
            figure("  p50", [one.p50 for one in at_best], "ms"),
            figure("  p99", [one.p99 for one in at_best], "ms"),
            figure("  p99 at 70 % of that rate", [one.p99 for one in at_ease], "ms", at_most(50)),
            figure("  these orders handled by everybody afterwards", handled, "orders/s"),
        ]

    def _highest_rate(self) -> tuple[float, list[Figure]]:
        """The highest rate at which orders are confirmed as they come, found by trying; also as figures."""
        effort = self.effort
        good, bad = 0.0, float("inf")
        rate = FIRST_RATE
        step = max(1.5, effort.precision)
        while not good or bad / good > effort.precision:
            if rate < 1:
                raise Unusable("the shop does not keep up with one order a second")
            found = self._sustain(rate, effort.seconds)
            good, bad = (rate, bad) if found.kept_up else (good, rate)
            rate = good * step if bad == float("inf") else (good * bad) ** 0.5 if good else bad / step
        while not (found := self._sustain(good, effort.sustain)).kept_up:
            good *= 0.9
        name = f"orders confirmed as they come, for {effort.sustain} s"
        return good, [
            figure(name, found.rate, "orders/s", at_least(0.12, of_floor=True)),
            figure("  placed → confirmed: p50", found.p50, "ms"),
            figure("  placed → confirmed: p99", found.p99, "ms"),
            figure("  oldest unpublished event", found.oldest, "s", at_most(BEHIND_SECONDS)),
        ]

    def _sustain(self, rate: float, seconds: int) -> Sustained:
        since = datetime.now(UTC)
        oldest: list[float] = []
        with meanwhile(lambda: oldest.append(self.system.call(questions.oldest_unpublished)), every=0.25):
            answered = self.place(seconds=seconds, rate=rate)
            while answered.requests < 2 and (datetime.now(UTC) - since).total_seconds() < DRAIN_SECONDS:
                answered = self.place(seconds=seconds, rate=rate)  # a busy machine takes longer for what is compared
        self.drain()
        confirmed = self.system.call(questions.confirmation_times, since)
        if len(confirmed) < 2:
            return Sustained(rate=0.0, missing=1.0, oldest=max(oldest), p50=math.inf, p99=math.inf)
        milliseconds = quantiles(confirmed, n=100)
        on_their_way = 1 + min(compiled.CONNECTIONS, rate * answered.p99 / 1_000)
        found = Sustained(
            rate=answered.rate,
            missing=1 - (answered.requests + on_their_way) / (rate * seconds),
            oldest=max(oldest),
            p50=milliseconds[49],
            p99=milliseconds[98],
        )
        say(f"{rate:.0f} orders/s for {seconds} s: {found}")
        return found

    def _latencies(self, when: str, rate: float, percentile: int, asked: Asked) -> list[Figure]:
        """Milliseconds from placed to confirmed while orders come at a rate."""
        middle, high = [], []
        for _ in range(self.effort.runs):
            since = datetime.now(UTC)
            with Traffic(self.clients, lambda client: client.place((SKUS[0], 1)), rate=rate) as traffic:
                time.sleep(self.effort.seconds)
                if not wait_until(lambda: len(traffic.requests) - len(traffic.failures) >= 2, DRAIN_SECONDS):
                    raise Unusable(f"two orders were not placed within {DRAIN_SECONDS} s")
            self.drain()
            milliseconds = quantiles(self.system.call(questions.confirmation_times, since), n=100)
            middle.append(milliseconds[49])
            high.append(milliseconds[percentile - 1])
        name = f"placed → confirmed {when}"
        return [
            figure(f"{name}: p50", middle, "ms"),
            figure(f"{name}: p{percentile}", high, "ms", asked),
        ]

    def _memory(self) -> list[Figure]:
        """The largest process of each service, its share of what processes have in common included only once (PSS)."""
        figures = []
        for name, leader in self.system.processes.pids.items():
            first = psutil.Process(leader)
            largest = max(one.memory_full_info().pss for one in (first, *first.children(recursive=True)))
            asked = at_most(120 if name == "web" else 100)
            figures.append(figure(f"memory, {name}: largest process", largest / 2**20, "MiB", asked))
        return figures


# --- With a past ------------------------------------------------------------------------------------------------------


def _history(effort: Effort, folder: Path) -> list[Figure]:
    """Writing, reading and rebuilding what has happened; `script/shards` does it with a million orders."""
    with temporary_installation("wharf_bench", folder, {"DEBUG": "1"}) as env, Shell(env) as shell:
        return shards.history(shell, effort.history_orders, rounds=effort.history_rounds)


# --- The program ------------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    parser = command.parser("bench", __doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="everything once and shortly: does it work?")
    count = command.number(int, 1)
    add("--seconds", type=count, metavar="N", help="how long each run of a figure takes")
    add("--sustain", type=count, metavar="N", help="for how many seconds the highest rate is kept up")
    databases = f"order databases, all on one server here (default: {SHARDS}, one a core of a small machine)"
    add("--shards", type=count, default=SHARDS, metavar="N", help=databases)
    add("--share", type=command.positive, metavar="X", help="of the events that parts are measured with")
    precision = "the factor within which the highest rate is found"
    add("--precision", type=command.number(float, 1, above=True), metavar="X", help=precision)
    add("--only", nargs="+", choices=GROUPS, default=GROUPS, metavar="GROUP", help=", ".join(GROUPS))
    options = parser.parse_args(arguments)
    chosen = {name: getattr(options, name) for name in ("seconds", "sustain", "share", "precision")}
    effort = replace(QUICK if options.quick else Effort(), **{k: v for k, v in chosen.items() if v is not None})
    started = time.monotonic()
    measured = partial(measure, options.only, effort, shards=options.shards)
    code = command.report(measured, options.json, strict=False, shards=options.shards)
    say(f"{time.monotonic() - started:.0f} s in all")
    return code
