"""A load test runs from its beginning to its report, and fails when the shop has come to harm."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from loadtest.load.shop import NAME
from loadtest.stack import ROOT
from tests.waiting import wait_until

CHARTS = ["Throughput", "Latency", "Queues and outboxes", "Outbox lag", "Stock", "Users"]
PROMISES = """
audit
outboxes and queues empty
dead letters
requests that failed
accepted orders that are missing
orders that are neither confirmed nor rejected
products whose stock does not agree with their orders
orders rejected with stock for all
"""
START_SECONDS = 120
RUN_SECONDS = 300

pytestmark = [pytest.mark.services, pytest.mark.slow]


def start(report: Path, database_url: str, minutes: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "loadtest.load.run", "--scenario", "steady-orders", "--headless"]
    command += ["--users", "5", "--minutes", minutes, "--drain-seconds", "120", "--report", str(report)]
    env = {**os.environ, "DATABASE_URL": database_url}
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_whole_shop_passes_and_its_report_has_everything(tmp_path: Path, database_url: str) -> None:
    report = tmp_path / "report.html"
    with start(report, database_url, minutes="0.2") as running:
        printed, said = running.communicate(timeout=RUN_SECONDS)

    assert running.returncode == 0, printed + said
    assert re.search(r"^steady-orders .* passed$", printed, re.MULTILINE)
    page = report.read_text()
    assert re.findall(r'role="img" aria-label="([^,"]+)', page) == CHARTS
    lines = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert all("polyline" in line or "circle" in line for line in lines)
    for promise in PROMISES.strip("\n").splitlines():
        assert f"<td>{promise}</td>" in page
    for fact in ("cpu", "date", "python", "locust", "PostgreSQL", "RabbitMQ", "place an order"):
        assert fact in page
    assert not re.search(r"""(src|href)=|url\(|@import|https?://""", page)


def test_a_shop_whose_stock_was_tampered_with_fails(tmp_path: Path, database_url: str) -> None:
    report = tmp_path / "report.html"
    database = urlsplit(database_url)._replace(path=f"/{NAME}").geturl()

    def add_a_piece() -> bool:
        """Once there is a product that the customers order."""
        with suppress(psycopg.Error), psycopg.connect(database, autocommit=True) as shop:
            statement = "UPDATE inventory_stock SET on_hand = on_hand + 1, available = available + 1"
            return shop.execute(f"{statement} WHERE sku LIKE 'LOAD-%-1' AND reserved > 0").rowcount == 1
        return False

    with start(report, database_url, minutes="0.1") as running:
        try:
            wait_until(add_a_piece, START_SECONDS)
        finally:
            printed, said = running.communicate(timeout=RUN_SECONDS)

    assert running.returncode == 1, printed + said
    assert re.search(r"^steady-orders .* FAILED$", printed, re.MULTILINE)
    assert "audit: NOT CLEAN" in printed
    page = report.read_text()
    assert "What the audit has found" in page
    assert re.search(r"stock_matches_ledger: 1 \(LOAD-\w+-1\)", page)
