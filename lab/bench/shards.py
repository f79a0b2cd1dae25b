"""What a million orders on eight databases cost: writing, reading, rebuilding, auditing, and moving a bucket.

It makes databases of its own on the services, fills them, measures, and removes them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from lab import command
from lab.bench import moves, reading
from lab.figures import Figure, at_least, clean, figure
from lab.harness import say
from lab.harness.installations import temporary_installation
from lab.harness.shell import Shell
from lab.harness.stack import Stack
from lab.harness.system import System
from lab.programs import questions

ORDERS_PER_SECOND = 5_000
EVENTS_PER_SECOND = 20_000
REST_SECONDS = 300


def history(shell: Shell, orders: int, *, rounds: int = reading.ROUNDS) -> list[Figure]:
    """Fill a shop's databases with so many orders, and read and rebuild them."""
    _run(shell, "migrate_all")
    _run(shell, "seed")
    seconds = _run(shell, "seed", "--orders", str(orders))
    figures = [_rate("orders written in bulk", orders, seconds, "orders/s", ORDERS_PER_SECOND)]
    figures += shell.call(reading.measure, rounds=rounds, at_least=orders)
    events = shell.call(questions.events)
    seconds = _run(shell, "rebuild", "--projection", "orders")
    return [*figures, _rate("read model rebuilt", events, seconds, "events/s", EVENTS_PER_SECOND)]


def _run(shell: Shell, *arguments: str) -> float:
    """Run a command of manage.py; returns how many seconds it took."""
    say(f"$ python manage.py {' '.join(arguments)}")
    started = time.monotonic()
    shell.run("manage.py", *arguments)
    return time.monotonic() - started


def _rate(name: str, number: int, seconds: float, unit: str, asked: float | None = None) -> Figure:
    return figure(name, number / seconds, unit, None if asked is None else at_least(asked))


def measure(orders: int, folder: Path) -> list[Figure]:
    """Fill databases with so many orders, and measure everything but moves."""
    with temporary_installation("wharf_shards", folder, {"DEBUG": "1"}) as env, Shell(env) as shell:
        figures = history(shell, orders)
        say("publishing what the seed's own orders have left to be published …")
        # The audit takes an event that waits for a lost one.
        with Stack(env=env, log_dir=folder / "log") as stack:
            System(stack, shell).wait_until_quiet(REST_SECONDS, has_past=True)
        started = time.monotonic()
        audit = shell.call(questions.audit)
        return [*figures, _rate("audited", orders, time.monotonic() - started, "orders/s"), clean(audit)]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = command.parser("shards", __doc__)
    add = parser.add_argument
    orders = "orders in the databases (default: %(default)s)"
    add("--orders", type=command.number(int, 1_000), default=1_000_000, help=orders)
    moves.add_arguments(parser, "--bucket-orders")
    options = parser.parse_args(arguments)
    moves.check_arguments(parser, options)

    def measure_both(folder: Path) -> list[Figure]:
        figures = measure(options.orders, folder)
        if options.moves:
            figures += moves.measure(options.bucket_orders, options.moves, options.kills, folder / "moves")
        return figures

    return command.report(measure_both, options.json)
