"""What a million orders on eight databases cost: writing, reading, rebuilding, auditing, and moving a bucket.

    script/shards --orders 1000000 --moves 20 --kills 5

It makes databases of its own on the services, fills them, measures, and removes them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from lab import reading, resharding
from lab.pending import unpublished
from lab.shell import Shell
from lab.stack import ROOT, Stack
from lab.temporary import SHARDS, temporary_installation

ORDERS_PER_SECOND = 5_000
EVENTS_PER_SECOND = 20_000
REST_SECONDS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line of the table. `good` is None where nobody asks for anything."""

    what: str
    measured: str
    asked: str = ""
    good: bool | None = None


def run(*arguments: str, env: Mapping[str, str], may_fail: bool = False) -> float:
    """Run Python as part of the shop, with its output to see; returns how many seconds it took."""
    say(f"$ python {' '.join(arguments)}")
    started = time.monotonic()
    ended = subprocess.run([sys.executable, *arguments], cwd=ROOT, env={**os.environ, **env}, stdout=sys.stderr)
    if ended.returncode and not may_fail:
        raise SystemExit(f"{' '.join(arguments)} ended with {ended.returncode}")
    return time.monotonic() - started


def measure(orders: int, folder: Path) -> list[Line]:
    """Fill databases with so many orders, and measure everything but moves."""
    with temporary_installation("wharf_shards", folder, {"DEBUG": "1"}) as env:
        seconds = fill(orders, env)
        lines = [_rate("orders written in bulk", orders, seconds, ORDERS_PER_SECOND, "orders/s")]
        for figure in read(orders, folder, env):
            asked = "" if figure["asked"] is None else f"≤ {figure['asked']:g}"
            good = None if figure["asked"] is None else figure["measured"] <= figure["asked"]
            measured = f"{figure['measured']:.2f} {figure['unit']}"
            lines.append(Line(what=figure["what"], measured=measured, asked=asked, good=good))
        events, seconds = rebuild(env)
        lines.append(_rate("read model rebuilt", events, seconds, EVENTS_PER_SECOND, "events/s"))
        _publish(env, folder / "log")
        report = folder / "audit.json"
        with report.open("w") as out:
            started = time.monotonic()
            command = [sys.executable, "manage.py", "audit", "--json"]
            clean = subprocess.run(command, cwd=ROOT, env={**os.environ, **env}, stdout=out).returncode == 0
        lines.append(_rate("audited", orders, time.monotonic() - started, None, "orders/s"))
        lines.append(Line(what="audit", measured="clean" if clean else "NOT CLEAN", asked="clean", good=clean))
    return lines


def fill(orders: int, env: Mapping[str, str]) -> float:
    """Make the databases, with so many orders in them; returns how many seconds the bulk of them took."""
    run("manage.py", "migrate_all", env=env)
    run("manage.py", "seed", env=env)
    return run("manage.py", "seed", "--orders", str(orders), env=env)


def read(orders: int, folder: Path, env: Mapping[str, str], *, rounds: int = reading.ROUNDS) -> list[dict[str, Any]]:
    """What reading costs in databases with so many orders: the figures of `lab.reading`."""
    file = folder / "reading.json"
    options = ["--rounds", str(rounds), "--at-least", str(orders), "--json", str(file)]
    run("-m", "lab.reading", *options, env=env, may_fail=True)
    figures: list[dict[str, Any]] = json.loads(file.read_text())
    return figures


def rebuild(env: Mapping[str, str]) -> tuple[int, float]:
    """Make the read model anew; returns of how many events, and in how many seconds."""
    events = 0
    for number in range(SHARDS):
        with psycopg.connect(f"{env['DATABASE_URL']}_orders_{number}", autocommit=True) as shard:
            events += shard.execute("SELECT count(*) FROM eventing_event").fetchall()[0][0]
    return events, run("manage.py", "rebuild", "--projection", "orders", env=env)


def _publish(env: Mapping[str, str], log_dir: Path) -> None:
    """Run the shop until its outboxes and queues are empty: the audit takes an event that waits for a lost one."""
    say("publishing what the seed's own orders have left to be published …")
    with Stack(env=env, log_dir=log_dir) as stack, closing(Shell(stack.env)) as shell:
        deadline = time.monotonic() + REST_SECONDS
        while any((left := unpublished(shell)).values()):
            if time.monotonic() > deadline:
                raise SystemExit(f"the shop did not come to rest: {left}")
            time.sleep(0.5)


def _rate(what: str, number: int, seconds: float, asked: int | None, unit: str) -> Line:
    rate = number / seconds
    return Line(
        what=what,
        measured=f"{rate:,.0f} {unit}",
        asked="" if asked is None else f"≥ {asked:,}",
        good=None if asked is None else rate >= asked,
    )


def table(lines: Sequence[Line]) -> str:
    width = max(len(line.what) for line in lines)
    return "\n".join(
        f"{line.what:<{width}}{line.measured:>20}{line.asked:>12}{'  MISSED' if line.good is False else ''}"
        for line in lines
    )


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="script/shards", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--orders", type=int, default=1_000_000, help="orders in the databases (default: 1000000)")
    parser.add_argument("--moves", type=int, default=20, help="how often a bucket moves (default: 20; 0: not at all)")
    parser.add_argument("--kills", type=int, default=5, help="how often its mover is killed (default: 5)")
    parser.add_argument("--bucket-orders", type=int, default=8_000, help="orders in that bucket (default: 8000)")
    options = parser.parse_args(arguments)
    if options.orders < 1_000 or options.bucket_orders < 1:
        parser.error("there must be at least 1000 orders, and one in the bucket")
    if options.moves and not 0 <= options.kills < options.moves:
        parser.error("there must be more moves than kills")
    lines: list[Line] = []
    with tempfile.TemporaryDirectory(prefix="wharf-") as folder:
        lines += measure(options.orders, Path(folder))
    if options.moves:
        with tempfile.TemporaryDirectory(prefix="wharf-") as folder:
            report = resharding.measure(options.bucket_orders, options.moves, options.kills, Path(folder))
        lines += [Line(**line) for line in resharding.lines(report)]
        for trouble in (*report.failures, *report.findings):
            say(f"trouble: {trouble}")
    print(table(lines))
    return 1 if any(line.good is False for line in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
