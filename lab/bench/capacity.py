"""What an order costs, by process and by size of the shop: the arithmetic of capacity starts with these figures.

    script/capacity --rate 150 --shards 1 4 8 --concurrency 1 2

It runs one shop after another on the services, lets orders come at a rate that each of them can take, and adds up the
CPU time of everything that belongs to it, the services included, until the last event was handled.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from os import sysconf
from pathlib import Path

from lab.bench import wrk
from lab.bench.run import CONFIRMED, CUSTOMERS, PRODUCTION, SKUS, STOCK, drain, say
from lab.faults.traffic import NEW_PRODUCT
from lab.flow import NEW_CUSTOMERS
from lab.shell import Shell
from lab.stack import Stack
from lab.temporary import temporary_stack

SERVICES = {"postgres": "PostgreSQL", "beam.smp": "RabbitMQ", "redis-server": "Redis"}
# Of all databases of the shop together: transactions, bytes on disk, bytes of the write-ahead log.
WRITTEN = """
from django.db import connections
with connections["default"].cursor() as cursor:
    name = connections["default"].settings_dict["NAME"]
    cursor.execute(
        "SELECT sum(xact_commit), sum(pg_database_size(datid)), pg_current_wal_lsn() - '0/0'::pg_lsn"
        " FROM pg_stat_database WHERE datname = %s OR datname LIKE %s", [name, name + "_orders_%"])
    answer = [float(number) for number in cursor.fetchone()]
"""
WARM_UP_SECONDS = 3
TICKS = sysconf("SC_CLK_TCK")
SECONDS_A_DAY = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Milliseconds of CPU time an order, by who spends it. `confirmed_ms` is the median from placed to confirmed.

    `disk_bytes` is what the databases grow by with an order, `log_bytes` what is written ahead for it.
    """

    shards: int
    concurrency: int
    rate: float
    confirmed_ms: float
    transactions: float
    disk_bytes: float
    log_bytes: float
    by_process: Mapping[str, float]

    @property
    def total(self) -> float:
        return sum(self.by_process.values())


def measure(shards: int, concurrency: int, rate: float, seconds: int, folder: Path) -> Cost:
    """Raises Unusable if orders were refused."""
    env = PRODUCTION | {"SECRET_KEY": secrets.token_urlsafe(50), "WORKER_CONCURRENCY": str(concurrency)}
    with temporary_stack("wharf_capacity", folder, env, shards=shards) as stack, closing(Shell(stack.env)) as shell:
        for sku in SKUS:
            shell.run(NEW_PRODUCT.format(sku=sku, price=1_000, stock=STOCK))
        tokens = shell.run(NEW_CUSTOMERS.format(buckets=[number * 37 % 128 for number in range(CUSTOMERS)]))
        body = json.dumps({"lines": [{"sku": sku, "quantity": 1} for sku in SKUS[:2]]})

        def place(how_long: int) -> wrk.Answered:
            return wrk.place_orders(stack.url, tokens, body, folder, seconds=how_long, rate=rate)

        place(WARM_UP_SECONDS)
        drain(shell)
        since = shell.run("from django.utils import timezone\nanswer = timezone.now().isoformat()")
        before, written = _cpu_seconds(stack), shell.run(WRITTEN)
        answered = place(seconds)
        drain(shell)
        grown = [(now - then) / answered.requests for now, then in zip(shell.run(WRITTEN), written, strict=True)]
        spent = {name: used - before.get(name, 0.0) for name, used in _cpu_seconds(stack).items()}
        confirmed = sorted(shell.run(CONFIRMED.format(since=since)))
        return Cost(
            shards=shards,
            concurrency=concurrency,
            rate=answered.rate,
            confirmed_ms=confirmed[len(confirmed) // 2],
            transactions=grown[0],
            disk_bytes=grown[1],
            log_bytes=grown[2],
            by_process={name: 1000 * used / answered.requests for name, used in spent.items()},
        )


def _cpu_seconds(stack: Stack) -> dict[str, float]:
    """CPU seconds so far of the shop's services, and of those that they use."""
    leaders = {pid: name for name, pid in stack.pids.items()}
    used: dict[str, float] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            head, _, tail = stat.read_text().rpartition(")")
        except OSError:  # it has ended
            continue
        fields = tail.split()
        name = leaders.get(int(fields[2])) or SERVICES.get(head.partition("(")[2])
        if name:
            # With the time of its children that have ended: PostgreSQL's processes do with their connections.
            used[name] = used.get(name, 0.0) + sum(map(int, fields[11:15])) / TICKS
    return used


def table(costs: Sequence[Cost]) -> str:
    """A column for each shop, the largest spender first, and what the sums mean for a day of one core."""
    names = sorted(costs[0].by_process, key=lambda name: -costs[0].by_process[name])
    rows: list[tuple[str, list[str]]] = [
        ("order shards", [str(cost.shards) for cost in costs]),
        ("processes a worker service", [str(cost.concurrency) for cost in costs]),
        ("orders/s", [f"{cost.rate:.0f}" for cost in costs]),
        ("placed → confirmed, p50, ms", [f"{cost.confirmed_ms:.0f}" for cost in costs]),
        ("transactions", [f"{cost.transactions:.1f}" for cost in costs]),
        ("databases grow by, KiB", [f"{cost.disk_bytes / 1024:.1f}" for cost in costs]),
        ("write-ahead log, KiB", [f"{cost.log_bytes / 1024:.1f}" for cost in costs]),
        *((f"{name}, ms", [f"{cost.by_process.get(name, 0.0):.2f}" for cost in costs]) for name in names),
        ("CPU of an order, ms", [f"{cost.total:.2f}" for cost in costs]),
        ("orders a day and core", [f"{SECONDS_A_DAY * 1000 / cost.total:,.0f}" for cost in costs]),
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}" + "".join(f"{value:>14}" for value in values) for name, values in rows)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="script/capacity", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rate", type=float, default=150.0, help="orders a second (default: 150)")
    parser.add_argument("--seconds", type=int, default=15, help="for how long (default: 15)")
    parser.add_argument("--shards", type=int, nargs="+", default=[1, 4, 8], help="order shards (default: 1 4 8)")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[2], help="processes of each worker (default: 2)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to a file, too")
    options = parser.parse_args(arguments)
    costs = []
    for shards in options.shards:
        for concurrency in options.concurrency:
            say(f"{shards} order shards, {concurrency} processes a worker …")
            with tempfile.TemporaryDirectory(prefix="wharf-") as folder:
                started = time.monotonic()
                costs.append(measure(shards, concurrency, options.rate, options.seconds, Path(folder)))
                say(f"{costs[-1].total:.2f} ms an order ({time.monotonic() - started:.0f} s)")
    print(table(costs))
    if options.json:
        options.json.write_text(json.dumps([asdict(cost) for cost in costs], indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
