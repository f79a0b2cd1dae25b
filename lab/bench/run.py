"""Measures how fast the shop is on the services profile, beside what the machine does at best in the same minutes.

It runs shops of its own on the services, on databases and queues that are gone afterwards. Each figure is measured
several times; the table shows the median and how far the runs lie apart.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import quantiles
from typing import Any

from lab import reading, sharded
from lab.bench import floor, wrk
from lab.bench.figures import FLOOR, Asked, Figure, as_json, table
from lab.client import Client
from lab.faults.traffic import NEW_PRODUCT
from lab.flow import NEW_CUSTOMERS, Flow
from lab.pending import pending
from lab.probes import Unusable
from lab.shell import Shell
from lab.stack import Stack, StackError
from lab.temporary import temporary_installation, temporary_stack

SHARDS = 2
CUSTOMERS = 32
SKUS = [f"BENCH-{number}" for number in range(1, 11)]
STOCK = 1_000_000
LOW_RATE = 10.0
FIRST_RATE = 100.0
BEHIND_SECONDS = 2.0
GROUPS = ("floor", "parts", "reads", "accept", "flow", "memory", "history")
DRAIN_SECONDS = 180

# As in production, but for what the shop is not asked here.
PRODUCTION = {
    "DEBUG": "0",
    "HTTPS": "false",
    "ALLOWED_HOSTS": "127.0.0.1",
    "EMAIL_URL": "dummymail://",
    "SEED_OPTIONS": "--reference-data",
    "EVENTING_MAX_LAG_SECONDS": "0",  # more is asked of it than it should take
}
# Milliseconds from placed to confirmed, of the orders placed since a moment.
CONFIRMED = """
from datetime import datetime
from django.db import connections
from sharding import shards
answer = []
for alias in shards.aliases():
    with connections[alias].cursor() as cursor:
        cursor.execute(
            "SELECT extract(epoch FROM confirmed.recorded_at - placed.recorded_at) * 1000"
            " FROM eventing_event AS placed JOIN eventing_event AS confirmed"
            " ON confirmed.stream_id = placed.stream_id AND confirmed.category = placed.category"
            " WHERE placed.version = 1 AND placed.category = 'order' AND confirmed.type = 'order.confirmed'"
            " AND placed.recorded_at >= %s",
            [datetime.fromisoformat({since!r})],
        )
        answer += [float(milliseconds) for (milliseconds,) in cursor.fetchall()]
"""
# A session of a customer who has placed the order, for its page.
SESSION = """
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from orders import selectors
from sharding import numbers
user = User.objects.get(pk=selectors.get(numbers.parse({number!r})).customer_id)
session = SessionStore()
session[SESSION_KEY] = str(user.pk)
session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
session[HASH_SESSION_KEY] = user.get_session_auth_hash()
session.save()
answer = session.session_key
"""
OLDEST = """
from eventing.relay import oldest_seconds
from sharding import shards
answer = max(oldest_seconds(alias) for alias in ("default", *shards.aliases()))
"""
AUDIT = """
from datetime import timedelta
from monitoring.audit import audit
answer = audit(settle=timedelta(0)).clean
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How long and how often everything is measured. `share` is the part of the events of `lab.bench.parts`."""

    runs: int
    seconds: int
    share: float
    sustain_seconds: int
    precision: float  # a rate that is too high is found within this factor
    history_orders: int
    history_rounds: int


FULL = Effort(
    runs=3,
    seconds=10,
    share=1.0,
    sustain_seconds=60,
    precision=1.1,
    history_orders=100_000,
    history_rounds=reading.ROUNDS,
)
QUICK = Effort(runs=1, seconds=3, share=0.1, sustain_seconds=5, precision=1.5, history_orders=1_000, history_rounds=3)


def measure(groups: Sequence[str], effort: Effort, folder: Path, shards: int) -> list[Figure]:
    """Raises Unusable or StackError if something that is needed cannot be had."""
    figures: list[Figure] = []
    if {"floor", "parts"} & set(groups):
        figures += _alone(groups, effort, folder, shards)
    if {"reads", "accept", "flow", "memory"} & set(groups):
        env = PRODUCTION | {"SECRET_KEY": secrets.token_urlsafe(50)}
        say("starting a shop …")
        with (
            temporary_stack("wharf_bench", folder, env, shards=shards) as stack,
            closing(Shell(stack.env)) as shell,
        ):
            figures += _shop(groups, effort, folder, stack, shell)
    if "history" in groups:
        say("history …")
        figures += _history(effort, folder)
    return figures


# --- Without a shop ---------------------------------------------------------------------------------------------------


def _alone(groups: Sequence[str], effort: Effort, folder: Path, shards: int) -> list[Figure]:
    figures = []
    given = PRODUCTION | {"SECRET_KEY": secrets.token_urlsafe(50)}
    with temporary_installation("wharf_bench", folder, given, shards=shards) as env, closing(Shell(env)) as shell:
        _manage(shell, "migrate_all")
        _manage(shell, "setup_broker")
        if "floor" in groups:
            say("the floor: pgbench …")
            url = env["DATABASE_URL"]
            rates = [floor.orders_a_second(url, folder, seconds=effort.seconds) for _ in range(effort.runs)]
            figures.append(Figure(name=FLOOR, unit="orders/s", runs=rates))
        if "parts" in groups:
            say("parts of the pipeline …")
            figures += _parts(shell, effort)
    return figures


def _manage(shell: Shell, *arguments: str) -> None:
    process = shell.spawn("manage.py", *arguments, stdout=subprocess.DEVNULL)
    if process.wait() != 0:
        raise Unusable(f"manage.py {' '.join(arguments)} failed")


def _parts(shell: Shell, effort: Effort) -> list[Figure]:
    process = shell.spawn(
        "-m", "lab.bench.parts", f"--share={effort.share}", f"--runs={effort.runs}", stdout=subprocess.PIPE
    )
    printed, _ = process.communicate()
    if process.returncode != 0:
        raise Unusable("lab.bench.parts failed")
    found: dict[str, list[float]] = json.loads(printed)
    figures = [
        Figure(name="broker: publish, confirmed one by one", unit="messages/s", runs=found["broker publish"]),
        Figure(name="broker: consume, acknowledged one by one", unit="messages/s", runs=found["broker consume"]),
        Figure(name="relay publishes", unit="events/s", runs=found["relay"], asked=Asked(limit=10_000)),
    ]
    for size in (1, 16, 64, 256):
        asked = Asked(limit=15_200) if size == 64 else None
        figures.append(
            Figure(
                name=f"inventory consumes, batches of {size}",
                unit="events/s",
                runs=found[f"consume {size}"],
                asked=asked,
            )
        )
    ratios = [batch / single for batch, single in zip(found["consume 64"], found["consume 1"], strict=True)]
    figures.append(Figure(name="batches of 64 against single events", unit="times", runs=ratios, asked=Asked(limit=8)))
    figures.append(
        Figure(
            name="reservations of one hot product", unit="reservations/s", runs=found["hot"], asked=Asked(limit=2_000)
        )
    )
    return figures


# --- With a shop ------------------------------------------------------------------------------------------------------


def _shop(groups: Sequence[str], effort: Effort, folder: Path, stack: Stack, shell: Shell) -> list[Figure]:
    for sku in SKUS:
        shell.run(NEW_PRODUCT.format(sku=sku, price=1_000, stock=STOCK))
    tokens = shell.run(NEW_CUSTOMERS.format(buckets=[number * 37 % 128 for number in range(CUSTOMERS)]))
    clients = [Client(stack.url, token=token) for token in tokens]
    for client in clients:
        client.wait_for(client.place((SKUS[0], 1)), "confirmed")
    figures: list[Figure] = []
    if "reads" in groups:
        say("reads …")
        figures += _reads(stack.url, clients[0], effort, folder, shell)
    if "accept" in groups or "flow" in groups:
        say("placing orders …")
        figures += _orders(groups, stack, tokens, clients, effort, folder, shell)
    if "memory" in groups:
        figures += _memory(stack)
    if "accept" in groups or "flow" in groups:
        say("auditing …")
        figures.append(Figure(name="audit", unit="clean", runs=[float(shell.run(AUDIT))], asked=Asked(limit=1)))
    return figures


def _reads(url: str, client: Client, effort: Effort, folder: Path, shell: Shell) -> list[Figure]:
    number = client.place((SKUS[0], 1))
    client.wait_for(number, "confirmed")
    cookie = {"Cookie": f"sessionid={shell.run(SESSION.format(number=number))}"}
    pages: list[tuple[str, str, dict[str, str], Asked | None]] = [
        ("product as JSON, cached", f"/api/v1/products/{SKUS[0]}", {}, Asked(limit=12_000)),
        ("catalogue page, cached", "/", {}, Asked(limit=3_000)),
        ("catalogue page of somebody signed in", "/", cookie, None),
        ("order page", f"/orders/{number}/", cookie, None),
    ]
    figures = []
    for name, path, headers, asked in pages:
        runs = []
        for _ in range(effort.runs):
            answered = wrk.get(url + path, folder, seconds=effort.seconds, headers=headers)
            if answered.refused or answered.failed:
                raise Unusable(
                    f"{path}: {answered.refused} refused and {answered.failed} failed of {answered.requests}"
                )
            runs.append(answered.rate)
        figures.append(Figure(name=name, unit="requests/s", runs=runs, asked=asked))
    return figures


def _orders(
    groups: Sequence[str],
    stack: Stack,
    tokens: Sequence[str],
    clients: Sequence[Client],
    effort: Effort,
    folder: Path,
    shell: Shell,
) -> list[Figure]:
    lines = [{"sku": sku, "quantity": 1} for sku in SKUS[:2]]
    body = json.dumps({"lines": lines})

    def place(rate: float | None, seconds: int) -> wrk.Answered:
        answered = wrk.place_orders(stack.url, tokens, body, folder, seconds=seconds, rate=rate)
        if answered.refused or answered.failed:
            raise Unusable(f"{answered.refused} orders refused and {answered.failed} failed of {answered.requests}")
        return answered

    figures: list[Figure] = []
    if "accept" in groups:
        figures += _accept(place, effort, stack, shell)
    if "flow" in groups:
        say("orders to the end …")
        highest, sustained = _highest_rate(place, effort, shell)
        figures += sustained
        figures += _latencies(
            "at half of that rate", highest / 2, 99, Asked(limit=1_000, at_most=True), clients, effort, shell
        )
        low = Asked(limit=200, at_most=True)
        figures += _latencies("at 10 orders/s", LOW_RATE, 95, low, clients, effort, shell)
    return figures


Place = Callable[[float | None, int], wrk.Answered]


def _accept(place: Place, effort: Effort, stack: Stack, shell: Shell) -> list[Figure]:
    """What the web server takes while nobody reacts: relay and workers are frozen, and handle it all afterwards."""
    drain(shell)
    others = [name for name in stack.pids if name != "web"]
    for name in others:
        stack.kill(name, signal.SIGSTOP)
    at_best = [place(None, effort.seconds) for _ in range(effort.runs)]
    rate = sorted(answered.rate for answered in at_best)[len(at_best) // 2]
    at_ease = [place(0.7 * rate, effort.seconds) for _ in range(effort.runs)]
    accepted = sum(answered.requests for answered in at_best + at_ease)
    for name in others:
        stack.kill(name, signal.SIGCONT)
    with _timed() as seconds:
        drain(shell)
    return [
        Figure(
            name="orders accepted over HTTP",
            unit="orders/s",
            runs=[answered.rate for answered in at_best],
            asked=Asked(limit=0.20, of_floor=True),
        ),
        Figure(name="  p50", unit="ms", runs=[answered.p50 for answered in at_best]),
        Figure(name="  p99", unit="ms", runs=[answered.p99 for answered in at_best]),
        Figure(
            name="  p99 at 70 % of that rate",
            unit="ms",
            runs=[answered.p99 for answered in at_ease],
            asked=Asked(limit=50, at_most=True),
        ),
        Figure(name="  these orders handled by everybody afterwards", unit="orders/s", runs=[accepted / seconds()]),
    ]


def _highest_rate(place: Place, effort: Effort, shell: Shell) -> tuple[float, list[Figure]]:
    """The highest rate at which orders are confirmed as they come, found by trying; also as figures."""
    good, bad = 0.0, float("inf")
    rate = FIRST_RATE
    step = max(1.5, effort.precision)
    while not good or bad / good > effort.precision:
        if rate < 1:
            raise Unusable("the shop does not keep up with one order a second")
        kept = _sustain(place, rate, effort.seconds, shell)
        say(f"{rate:.0f} orders/s: {kept}")
        good, bad = (rate, bad) if kept.up else (good, rate)
        rate = good * step if bad == float("inf") else (good * bad) ** 0.5 if good else bad / step
    kept = _sustain(place, good, effort.sustain_seconds, shell)
    while not kept.up:
        say(f"{good:.0f} orders/s for {effort.sustain_seconds} s: {kept}")
        good *= 0.9
        kept = _sustain(place, good, effort.sustain_seconds, shell)
    return good, [
        Figure(
            name=f"orders confirmed as they come, for {effort.sustain_seconds} s",
            unit="orders/s",
            runs=[kept.rate],
            asked=Asked(limit=0.12, of_floor=True),
        ),
        Figure(name="  placed → confirmed: p50", unit="ms", runs=[kept.p50]),
        Figure(name="  placed → confirmed: p99", unit="ms", runs=[kept.p99]),
        Figure(
            name="  oldest unpublished event",
            unit="s",
            runs=[kept.oldest],
            asked=Asked(limit=BEHIND_SECONDS, at_most=True),
        ),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """How the shop kept up with orders at a rate; `oldest` in seconds, from placed to confirmed in milliseconds.

    `missing` is the part of the orders that should have been taken and were neither taken nor on their way at the end.
    """

    rate: float
    missing: float
    oldest: float
    p50: float
    p99: float

    @property
    def up(self) -> bool:
        behind = self.oldest >= BEHIND_SECONDS or self.p99 >= 1_000 * BEHIND_SECONDS
        return self.missing <= 0.1 and not behind

    def __str__(self) -> str:
        return (
            f"{'kept up' if self.up else 'fell behind'} ({self.rate:.0f} taken, oldest event {self.oldest:.1f} s,"
            f" confirmed after {self.p50:.0f} ms, 99 of 100 within {self.p99:.0f} ms)"
        )


def _sustain(place: Place, rate: float, seconds: int, shell: Shell) -> Kept:
    since = datetime.now(UTC)
    oldest = [0.0]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.25):
            oldest.append(float(shell.run(OLDEST)))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        answered = place(rate, seconds)
        while answered.requests < 2 and (datetime.now(UTC) - since).total_seconds() < DRAIN_SECONDS:
            answered = place(rate, seconds)  # a busy machine takes longer for what is compared
    finally:
        done.set()
        watching.join()
    drain(shell)
    confirmed = shell.run(CONFIRMED.format(since=since.isoformat()))
    if len(confirmed) < 2:
        return Kept(rate=0.0, missing=1.0, oldest=max(oldest), p50=math.inf, p99=math.inf)
    milliseconds = quantiles(confirmed, n=100)
    on_their_way = 1 + min(wrk.CONNECTIONS, rate * answered.p99 / 1_000)
    return Kept(
        rate=answered.rate,
        missing=1 - (answered.requests + on_their_way) / (rate * seconds),
        oldest=max(oldest),
        p50=milliseconds[49],
        p99=milliseconds[98],
    )


def _latencies(
    when: str, rate: float, percentile: int, asked: Asked, clients: Sequence[Client], effort: Effort, shell: Shell
) -> list[Figure]:
    """Milliseconds from placed to confirmed while orders come at a rate."""
    middle, high = [], []
    for _ in range(effort.runs):
        since = datetime.now(UTC)
        flow = Flow(clients, SKUS[0], rate=rate)
        with flow.running():
            time.sleep(effort.seconds)
            _wait(lambda: len(flow.placed) > 1, "two orders were not placed")  # noqa: B023 (within this run)
        drain(shell)
        milliseconds = quantiles(shell.run(CONFIRMED.format(since=since.isoformat())), n=100)
        middle.append(milliseconds[49])
        high.append(milliseconds[percentile - 1])
    return [
        Figure(name=f"placed → confirmed {when}: p50", unit="ms", runs=middle),
        Figure(name=f"placed → confirmed {when}: p{percentile}", unit="ms", runs=high, asked=asked),
    ]


def drain(shell: Shell) -> None:
    """Wait until every event was handled. Raises Unusable if that takes longer than DRAIN_SECONDS."""
    _wait(lambda: not any(pending(shell).values()), "the shop did not come to rest")


def _wait(condition: Callable[[], bool], failed: str) -> None:
    deadline = time.monotonic() + DRAIN_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise Unusable(f"{failed} within {DRAIN_SECONDS} s")
        time.sleep(0.1)


@contextmanager
def _timed() -> Iterator[Callable[[], float]]:
    """A stopwatch, which stands still afterwards."""
    began = time.monotonic()
    ended: list[float] = []
    yield lambda: (ended[0] if ended else time.monotonic()) - began
    ended.append(time.monotonic())


def _memory(stack: Stack) -> list[Figure]:
    """The largest process of each service, its share of what processes have in common included only once (PSS)."""
    figures = []
    for name, leader in stack.pids.items():
        sizes = [_mebibytes(pid) for pid in _group(leader)]
        asked = Asked(limit=120 if name == "web" else 100, at_most=True)
        figures.append(Figure(name=f"memory, {name}: largest process", unit="MiB", runs=[max(sizes)], asked=asked))
    return figures


def _group(leader: int) -> list[int]:
    """The processes of a group, by its leader."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        if int(fields[2]) == leader:
            found.append(int(stat.parent.name))
    return found


def _mebibytes(pid: int) -> float:
    try:
        lines = (Path("/proc") / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:")), 0.0)


# --- With a past ------------------------------------------------------------------------------------------------------


def _history(effort: Effort, folder: Path) -> list[Figure]:
    """Writing, reading and rebuilding what has happened; `script/shards` does it with a million orders."""
    orders = effort.history_orders
    with temporary_installation("wharf_bench", folder, {"DEBUG": "1"}) as env:
        seconds = sharded.fill(orders, env)
        figures = [
            Figure(
                name="orders written in bulk",
                unit="orders/s",
                runs=[orders / seconds],
                asked=Asked(limit=sharded.ORDERS_PER_SECOND),
            )
        ]
        for figure in sharded.read(orders, folder, env, rounds=effort.history_rounds):
            asked = None if figure["asked"] is None else Asked(limit=figure["asked"], at_most=True)
            figures.append(Figure(name=figure["what"], unit=figure["unit"], runs=[figure["measured"]], asked=asked))
        events, seconds = sharded.rebuild(env)
        asked = Asked(limit=sharded.EVENTS_PER_SECOND)
        figures.append(Figure(name="read model rebuilt", unit="events/s", runs=[events / seconds], asked=asked))
    return figures


# --- The program ------------------------------------------------------------------------------------------------------


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    model = ""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = f"{len(models)} x {models[0].partition(':')[2].strip()}" if models else ""
    packages = ("django", "celery", "kombu", "psycopg", "granian")
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": model,
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="script/bench",
        description="Measure how fast the shop is, beside what the machine does at best. The client is wrk, which is"
        " written in C.",
    )
    parser.add_argument("--quick", action="store_true", help="everything once and shortly: does it work?")
    parser.add_argument("--seconds", type=int, metavar="N", help="how long each run of a figure takes")
    parser.add_argument("--sustain", type=int, metavar="N", help="for how many seconds the highest rate is kept up")
    parser.add_argument(
        "--shards",
        type=int,
        default=SHARDS,
        metavar="N",
        help=f"order databases, all on one server here (default: {SHARDS}, one a core of a small machine)",
    )
    parser.add_argument("--share", type=float, metavar="X", help="of the events that parts are measured with")
    parser.add_argument(
        "--precision", type=float, metavar="X", help="the factor within which the highest rate is found"
    )
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=GROUPS, metavar="GROUP", help=", ".join(GROUPS))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to a file, too")
    options = parser.parse_args(arguments)
    effort = QUICK if options.quick else FULL
    if options.shards < 1:
        parser.error("--shards must be at least 1")
    if options.seconds is not None:
        if options.seconds < 1:
            parser.error("--seconds must be at least 1")
        effort = replace(effort, seconds=options.seconds)
    if options.sustain is not None:
        if options.sustain < 1:
            parser.error("--sustain must be at least 1")
        effort = replace(effort, sustain_seconds=options.sustain)
    if options.share is not None:
        effort = replace(effort, share=options.share)
    if options.precision is not None:
        if options.precision <= 1:
            parser.error("--precision must be more than 1")
        effort = replace(effort, precision=options.precision)
    started = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="wharf-") as folder:
            figures = measure(options.only, effort, Path(folder), options.shards)
    except (Unusable, StackError) as error:
        say(str(error))
        return 1
    print(table(figures))
    say(f"{time.monotonic() - started:.0f} s in all")
    if options.json:
        found = {"machine": machine(), "shards": options.shards, "figures": as_json(figures)}
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
