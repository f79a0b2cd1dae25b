"""The benchmark runs, and its report has every figure. How fast this machine is just now is not asked."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtest.instances import start_postgresql, stop
from loadtest.stack import ROOT

FIGURES = """
floor: pgbench writes an order
broker: publish, confirmed one by one
broker: consume, acknowledged one by one
relay publishes
inventory consumes, batches of 1
inventory consumes, batches of 16
inventory consumes, batches of 64
inventory consumes, batches of 256
batches of 64 against single events
reservations of one hot product
product as JSON, cached
catalogue page, cached
catalogue page of somebody signed in
order page
orders accepted over HTTP
  p50
  p99
orders placed until all are handled by everybody
placed → confirmed at half of that rate: p50
placed → confirmed at half of that rate: p99
placed → confirmed at 10 orders/s: p50
placed → confirmed at 10 orders/s: p95
memory, web: largest process
memory, relay: largest process
audit
"""


@pytest.fixture
def database_url(tmp_path: Path) -> Iterator[str]:
    """A PostgreSQL of its own: that of the machine may not have connections for a further shop while others run."""
    directory = tmp_path / "postgresql"
    directory.mkdir()
    instance = start_postgresql(directory)
    try:
        yield instance.url
    finally:
        stop(instance)
        shutil.rmtree((directory / "data").resolve(), ignore_errors=True)  # elsewhere if root has started it


@pytest.mark.services
@pytest.mark.slow
def test_the_benchmark_measures_everything_it_promises(tmp_path: Path, database_url: str) -> None:
    report = tmp_path / "bench.json"
    command = [sys.executable, "-m", "loadtest.bench.run", "--quick", "--seconds", "1", "--json", str(report)]
    env = {**os.environ, "DATABASE_URL": database_url}
    ended = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)

    assert ended.returncode == 0, ended.stderr
    written = json.loads(report.read_text())
    figures = {figure["name"]: figure for figure in written["figures"]}
    assert set(FIGURES.strip("\n").splitlines()) <= figures.keys()
    assert all(figure["median"] > 0 and figure["unit"] for figure in figures.values())
    assert figures["audit"]["met"] is True
    assert written["machine"]["python"]
    for name in figures:
        assert name in ended.stdout
