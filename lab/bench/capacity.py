"""What an order costs, by process and by size of the shop: the arithmetic of capacity starts with these figures.

It runs one shop after another on the services, lets orders come at a rate that each of them can take, and adds up the
CPU time of everything that belongs to it, the services included, until the last event was handled.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from statistics import median

import psutil

from lab import command
from lab.bench.command import UNLIMITED, Bench, Effort
from lab.figures import Figure, figure
from lab.harness import say
from lab.harness.installations import production
from lab.harness.stack import Processes
from lab.harness.system import temporary_system
from lab.programs import questions

SERVICES = {"postgres": "PostgreSQL", "beam.smp": "RabbitMQ", "redis-server": "Redis"}
WARM_UP_SECONDS = 3
SECONDS_A_DAY = 86_400


def measure(shards: int, concurrency: int, rate: float, seconds: int, folder: Path) -> list[Figure]:
    """Milliseconds of CPU time an order, by who spends it, the largest spender first. Raises Unusable."""
    env = production(**UNLIMITED, WORKER_CONCURRENCY=str(concurrency))
    with temporary_system("wharf_capacity", folder, env, shards=shards) as system:
        bench = Bench(system, Effort(), folder)
        bench.place(seconds=WARM_UP_SECONDS, rate=rate)
        bench.drain()
        since = datetime.now(UTC)
        before, written = cpu_seconds(system.processes), system.call(questions.written)
        answered = bench.place(seconds=seconds, rate=rate)
        bench.drain()
        orders = answered.requests
        transactions, disk, log = (
            (now - then) / orders for now, then in zip(system.call(questions.written), written, strict=True)
        )
        used = cpu_seconds(system.processes) - before
        confirmed = median(system.call(questions.confirmation_times, since))
    spent = {name: 1000 * used_seconds / orders for name, used_seconds in used.most_common()}
    total = sum(spent.values())
    shop = f"{shards} order shards, {concurrency} processes a worker"
    found = [
        ("orders taken", answered.rate, "orders/s"),
        ("placed → confirmed, p50", confirmed, "ms"),
        ("transactions", transactions, ""),
        ("databases grow by", disk / 1024, "KiB"),
        ("write-ahead log", log / 1024, "KiB"),
        *((f"  CPU of {name}", milliseconds, "ms") for name, milliseconds in spent.items()),
        ("CPU of an order", total, "ms"),
        ("orders a day and core", SECONDS_A_DAY * 1000 / total, "orders"),
    ]
    return [figure(f"{shop}: {name}", value, unit) for name, value, unit in found]


def cpu_seconds(processes: Processes) -> Counter[str]:
    """CPU seconds so far of the shop's services, and of those that they use."""
    leaders = {pid: name for name, pid in processes.pids.items()}
    used: Counter[str] = Counter()
    for process in psutil.process_iter(["name", "cpu_times"]):
        try:
            name = leaders.get(os.getpgid(process.pid)) or SERVICES.get(process.info["name"])
        except ProcessLookupError:  # it has ended
            continue
        if name and (times := process.info["cpu_times"]):
            # With the time of its children that have ended: PostgreSQL's processes do with their connections.
            used[name] += times.user + times.system + times.children_user + times.children_system
    return used


def main(arguments: Sequence[str] | None = None) -> int:
    parser = command.parser("capacity", __doc__)
    add = parser.add_argument
    add("--rate", type=command.positive, default=150.0, help="orders a second (default: 150)")
    add("--seconds", type=command.number(int, 1), default=15, help="for how long (default: 15)")
    add("--shards", type=int, nargs="+", default=[1, 4, 8], help="order shards (default: 1 4 8)")
    add("--concurrency", type=int, nargs="+", default=[2], help="processes of each worker (default: 2)")
    options = parser.parse_args(arguments)

    def measure_each(folder: Path) -> list[Figure]:
        figures = []
        for shards, concurrency in product(options.shards, options.concurrency):
            say(f"{shards} order shards, {concurrency} processes a worker …")
            figures += measure(shards, concurrency, options.rate, options.seconds, folder / f"{shards}-{concurrency}")
        return figures

    return command.report(measure_each, options.json)
