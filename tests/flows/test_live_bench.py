"""The benchmark runs, and its report has every figure. How fast this machine is just now is not asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lab.harness import ROOT

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
  p99 at 70 % of that rate
  these orders handled by everybody afterwards
orders confirmed as they come, for 1 s
  placed → confirmed: p50
  placed → confirmed: p99
  oldest unpublished event
placed → confirmed at half of that rate: p50
placed → confirmed at half of that rate: p99
placed → confirmed at 10 orders/s: p50
placed → confirmed at 10 orders/s: p95
memory, web: largest process
memory, relay: largest process
orders written in bulk
history of a customer, in the database, p95
history of a customer, whole request, p95
back office: first page, p95
read model rebuilt
audit
"""


@pytest.mark.services
@pytest.mark.slow
def test_the_benchmark_measures_everything_it_promises(tmp_path: Path, database_url: str) -> None:
    report = tmp_path / "bench.json"
    command = [sys.executable, "-m", "lab", "bench", "--quick", "--json", str(report)]
    command += ["--seconds", "1", "--sustain", "1", "--share", "0.02", "--precision", "4"]
    command += ["--shards", os.environ["ORDER_SHARDS"]]  # of which there are templates
    env = {**os.environ, "DATABASE_URL": database_url}
    ended = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=900)

    assert ended.returncode == 0, ended.stderr
    written = json.loads(report.read_text())
    figures = {figure["name"]: figure for figure in written["figures"]}
    assert set(FIGURES.strip("\n").splitlines()) <= figures.keys()
    assert all(figure["unit"] for figure in figures.values())
    assert {name for name, figure in figures.items() if figure["median"] <= 0} <= {"  oldest unpublished event"}
    assert figures["audit"]["met"] is True
    assert written["machine"]["python"]
    for name in figures:
        assert name in ended.stdout
