"""A load test runs from its beginning to its report: it passes, and fails when the shop has come to harm."""

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

from lab.harness import ROOT
from lab.load.command import NAME
from tests.waiting import wait_until

CHARTS = ["Throughput", "Latency", "Queues and outboxes", "Outbox lag", "Stock", "Users"]
PROMISES = """
requests
requests that failed
outboxes and queues empty after
processes that ended by themselves
orders accepted
lost
doubled
oversold
audit
orders in the databases
orders rejected with stock for all
"""
START_SECONDS = 120
RUN_SECONDS = 300

pytestmark = [pytest.mark.services, pytest.mark.slow]


def test_one_shop_passes_until_its_stock_is_tampered_with(tmp_path: Path, database_url: str) -> None:
    report = tmp_path / "report.html"
    database = urlsplit(database_url)._replace(path=f"/{NAME}").geturl()
    command = [sys.executable, "-m", "lab", "load", "--headless", "--users", "5", "--minutes", "0.15"]
    command += ["--scenario", "steady-orders", "--scenario", "steady-orders"]
    command += ["--drain-seconds", "120", "--report", str(report)]
    env = {**os.environ, "DATABASE_URL": database_url}

    products: list[str] = []  # that customers order, of each scenario one

    def add_a_piece() -> bool:
        """Once the customers of the second scenario order."""
        with suppress(psycopg.Error), psycopg.connect(database, autocommit=True) as shop:
            ordered = shop.execute("SELECT sku FROM inventory_stock WHERE sku LIKE 'LOAD-%-1' AND reserved > 0")
            products.extend(sku for (sku,) in ordered if sku not in products)
            if len(products) == 2:
                statement = "UPDATE inventory_stock SET on_hand = on_hand + 1, available = available + 1"
                return shop.execute(f"{statement} WHERE sku = %s", [products[1]]).rowcount == 1
        return False

    with subprocess.Popen(
        command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        try:
            wait_until(add_a_piece, START_SECONDS)
        finally:
            printed, said = running.communicate(timeout=RUN_SECONDS)

    assert running.returncode == 1, printed + said
    assert re.findall(r"^steady-orders .* (\w+)$", printed, re.MULTILINE) == ["passed", "FAILED"], printed + said
    assert re.search(r"^    lost: \d+ \(", printed, re.MULTILINE)
    assert "    audit: 0 clean, asked ≥ 1" in printed
    page = report.read_text()
    assert "What was found" in page
    assert f"stock_matches_ledger: 1 ({products[1]})" in page
    assert re.findall(r'role="img" aria-label="([^,"]+)', page) == 2 * CHARTS
    lines = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert all("polyline" in line or "circle" in line for line in lines)
    for promise in PROMISES.strip("\n").splitlines():
        assert page.count(f"<td>{promise}</td>") == 2
    for fact in ("cpu", "date", "python", "locust", "PostgreSQL", "RabbitMQ", "place an order"):
        assert fact in page
    assert not re.search(r"""(src|href)=|url\(|@import|https?://""", page)
