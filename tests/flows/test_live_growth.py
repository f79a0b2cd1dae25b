"""A shop gets one more order database, as docs/explanation/sharding.md says, and goes on there."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from config.roles import PROCESSES
from lab.harness import ROOT
from lab.harness.installations import temporary_installation
from lab.harness.stack import Stack
from lab.programs import questions
from sharding import numbers
from tests import profile, programs
from tests.live import Live
from tests.waiting import wait_until

CONFIRMING = ("web", "relay", "worker-inventory", "worker-coupons", "worker-orders")


@contextmanager
def running(env: Mapping[str, str], folder: Path, services: Sequence[str] = tuple(PROCESSES)) -> Iterator[Live]:
    with Stack(env=env, log_dir=folder, services=services) as stack, closing(Live(stack, dict(env))) as live:
        yield live


def manage(env: Mapping[str, str], *arguments: str) -> str:
    command = [sys.executable, "manage.py", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **env}, check=True, capture_output=True, text=True
    ).stdout


@pytest.mark.services
@pytest.mark.slow
def test_a_shop_grows_by_a_database_and_keeps_its_orders(tmp_path: Path) -> None:
    given = {"DEBUG": "1", "SECRET_KEY": secrets.token_urlsafe(50), "SEED_OPTIONS": "--reference-data"}
    name = "_".join(filter(None, ["wharf", profile.RUN, profile.WORKER, "growth"]))
    with temporary_installation(name, tmp_path, given, shards=4) as small:
        large = small | {"ORDER_SHARDS": "5"}
        with running(small, tmp_path, CONFIRMING) as live:
            live.product("GROWS", 1_000)
            clients = live.shoppers(8)
            placed = [(client, client.place(("GROWS", 1))) for client in clients]
            for client, number in placed:
                client.wait_for(number, "confirmed")

        assert "orders_4 is ready and empty" in manage(large, "reshard", "add-database", "orders_4")
        *planned, total = manage(large, "reshard", "plan").splitlines()
        assert all(" --to orders_4 " in step for step in planned)
        assert total.startswith(f"{len(planned)} moves")
        with running(large, tmp_path) as live:
            for client, number in placed:
                client.base_url = live.url
                client.close()
                assert client.order(number)["status"] == "confirmed"
            moved = {numbers.bucket_of(numbers.parse(number)) for _, number in placed[:2]}
            for bucket in moved:
                assert f"Bucket {bucket} is in orders_4" in manage(
                    large, "reshard", "move", "--bucket", str(bucket), "--to", "orders_4", "--drop-source"
                )
            for client, number in placed:
                client.pay(number)
                client.wait_for(number, "paid")
                client.wait_for(client.place(("GROWS", 1)), "confirmed")
            wait_until(lambda: not any(live.call(questions.pending).values()), seconds=30)
            report = live.call(questions.audit)
            assert [check["name"] for check in report["checks"] if check["violations"]] + report["unavailable"] == []
            assert live.stock("GROWS") == (1_000, 16, 984)
            owners = live.call(programs.owners)
        assert {owners[bucket] for bucket in moved} == {"orders_4"}
