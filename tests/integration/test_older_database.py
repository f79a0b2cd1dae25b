"""A database of an earlier commit migrates and works. The dump is of a seeded shop, before the folders were layered."""

from __future__ import annotations

import gzip
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
DUMPS = Path(__file__).with_name("fixtures") / "older_database"
ORDERS = 20  # in the dump

pytestmark = [pytest.mark.once, pytest.mark.slow]


@pytest.fixture
def older(tmp_path: Path) -> dict[str, str]:
    """The environment of an embedded shop whose databases are those of the dump."""
    for dump in DUMPS.glob("*.sql.gz"):
        connection = sqlite3.connect(tmp_path / dump.name.replace(".sql.gz", ".sqlite3"))
        connection.executescript(gzip.decompress(dump.read_bytes()).decode())
        connection.close()
    without = ("DATABASE_URL", "ORDER_SHARD_URLS", "REDIS_URL", "CELERY_BROKER_URL", "TEST_RUN")
    environment = {name: value for name, value in os.environ.items() if name not in without}
    return environment | {
        "PROFILE": "embedded",
        "DEMO_DIR": str(tmp_path),
        "DJANGO_SETTINGS_MODULE": "config.settings",
    }


def manage(environment: dict[str, str], *arguments: str) -> str:
    command = [sys.executable, "manage.py", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def audited_orders(environment: dict[str, str]) -> int:
    """How many orders the audit has folded from their events; it fails if it finds anything wrong."""
    report: dict[str, Any] = json.loads(manage(environment, "audit", "--json", "--settle=0"))
    assert report["clean"], report
    checked: dict[str, int] = {check["name"]: check["checked"] for check in report["checks"]}
    return checked["read_model_matches_events"]


def test_an_older_database_migrates_takes_orders_and_stays_sound(older: dict[str, str]) -> None:
    manage(older, "migrate_all")
    manage(older, "migrate", "--check")
    assert audited_orders(older) == ORDERS
    manage(older, "seed", f"--orders={ORDERS + 5}")
    assert audited_orders(older) == ORDERS + 5
