"""Compiled clients: `pgbench` says what PostgreSQL alone does, `wrk` asks as fast as it is answered."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg

from lab.harness.instances import Unusable, postgresql_programs
from lab.harness.services import install

HERE = Path(__file__).parent
FLOOR_CLIENTS = 8
CONNECTIONS = 64  # that orders are placed on
RESULT = re.compile(r"^RESULT (\d+) (\d+) (\d+) (\d+) (\S+) (\S+)$", re.MULTILINE)


def floor(database_url: str, *, seconds: int) -> float:
    """Orders a second that pgbench writes: the rows of an order in one transaction. Raises Unusable without it."""
    programs = postgresql_programs()
    pgbench = None if programs is None else programs / "pgbench"
    if pgbench is None or not pgbench.exists():
        raise Unusable("pgbench is not installed; it comes with PostgreSQL's server")
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute((HERE / "floor_tables.sql").read_bytes())
    options = ["--no-vacuum", f"--client={FLOOR_CLIENTS}", "--jobs=2", f"--time={seconds}"]
    command = [str(pgbench), *options, f"--file={HERE / 'floor_order.sql'}", database_url]
    ended = subprocess.run(command, capture_output=True, text=True)
    found = re.search(r"^tps = ([0-9.]+)", ended.stdout, re.MULTILINE)
    if ended.returncode or found is None:
        raise Unusable(f"pgbench failed: {ended.stderr.strip()}")
    return float(found[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """`rate` in requests a second, times in milliseconds. `refused`: answered with an error, `failed`: not at all."""

    rate: float
    requests: int
    refused: int
    failed: int
    p50: float
    p99: float


def get(url: str, *, seconds: int, headers: Mapping[str, str]) -> Answered:
    """Raises Unusable if a request was refused or failed."""
    return _wrk(url, seconds=seconds, connections=8, headers=headers)


def place_orders(
    url: str, tokens: Sequence[str], body: str, folder: Path, *, seconds: int, rate: float | None = None
) -> Answered:
    """Each request is a new order of one of the customers, whose tokens these are. Raises Unusable as `get` does.

    They come at `rate` a second, or as fast as CONNECTIONS get answers.
    """
    file = folder / "orders.txt"
    file.write_text("\n".join([body, *tokens]))
    arguments = [str(file), *([] if rate is None else [str(rate)])]
    return _wrk(url, arguments, seconds=seconds, connections=CONNECTIONS)


def _wrk(
    url: str, arguments: Sequence[str] = (), *, seconds: int, connections: int, headers: Mapping[str, str] | None = None
) -> Answered:
    if shutil.which("wrk") is None:
        install(["wrk"])
    if (program := shutil.which("wrk")) is None:
        raise Unusable("wrk is not installed (Debian: apt install wrk)")
    command = [program, "--threads=1", f"--connections={connections}", f"--duration={seconds}s", "--timeout=10s"]
    command += [f"--header={name}: {value}" for name, value in (headers or {}).items()]
    command += [f"--script={HERE / 'requests.lua'}", url, "--", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True)
    found = RESULT.search(ended.stdout)
    if found is None:
        raise Unusable(f"wrk failed: {ended.stdout} {ended.stderr}")
    requests, microseconds, refused, failed = (int(number) for number in found.groups()[:4])
    if refused or failed:
        raise Unusable(f"{url}: {refused} refused and {failed} failed of {requests}")
    return Answered(
        rate=(requests - refused) / (microseconds / 1e6),
        requests=requests,
        refused=refused,
        failed=failed,
        p50=float(found[5]),
        p99=float(found[6]),
    )
