"""The audit of a shop that is at work: no false alarm while orders flow, and clean when all is quiet."""

from __future__ import annotations

import json
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from lab.client import Client, RequestFailed
from lab.programs import questions
from tests import programs
from tests.live import Live
from tests.waiting import wait_until

SHOPPERS = 4
AUDITS = 5
ORDERS = 10  # that the last of these looks at


def audited(live: Live, settle: float) -> dict[str, Any]:
    return live.call(questions.audit, settle)


def broken(report: dict[str, Any]) -> dict[str, list[str]]:
    return {check["name"]: check["offenders"] for check in report["checks"] if check["violations"]}


def checked(report: dict[str, Any]) -> dict[str, int]:
    return {check["name"]: check["checked"] for check in report["checks"]}


def shop_until(done: threading.Event, client: Client) -> int:
    """Place orders, and pay, cancel or leave them; returns how many."""
    placed = 0
    while not done.is_set():
        number = client.place(("AUDIT", 1), coupon="AUDIT" if placed % 2 else None)
        placed += 1
        with suppress(RequestFailed):  # not confirmed yet, or cancelled before it could be paid
            if placed % 3 == 0:
                client.cancel(number)
            elif placed % 3 == 1:
                client.wait_for(number, "confirmed")
                client.pay(number)
    return placed


def test_auditing_while_orders_flow_gives_no_false_alarm(live: Live) -> None:
    live.product("AUDIT", 10_000)
    live.call(programs.add_coupon, "AUDIT")
    done = threading.Event()
    with ThreadPoolExecutor(SHOPPERS) as pool:
        shopping = [pool.submit(shop_until, done, client) for client in live.shoppers(SHOPPERS)]
        reports = []

        def has_seen_enough() -> bool:
            reports.append(audited(live, settle=1.5))
            return len(reports) >= AUDITS and checked(reports[-1])["read_model_matches_events"] >= ORDERS

        try:
            wait_until(has_seen_enough, seconds=60)
        finally:
            done.set()
        placed = sum(one.result(timeout=120) for one in shopping)

    assert [broken(report) for report in reports if broken(report)] == []
    assert [report["unavailable"] for report in reports if report["unavailable"]] == []

    wait_until(lambda: broken(audited(live, settle=0)) == {}, seconds=60)
    looked_at = checked(audited(live, settle=0))
    assert looked_at["read_model_matches_events"] >= placed
    assert looked_at["stock_set_aside_once"] >= placed


def test_the_command_audits_a_running_shop(live: Live) -> None:
    client = live.client()
    live.product("AUDIT-2", 5)
    client.wait_for(client.place(("AUDIT-2", 1)), "confirmed")

    command = live.spawn("manage.py", "audit", "--json", "--settle", "5", stdout=subprocess.PIPE)
    said, _ = command.communicate(timeout=120)

    assert command.returncode == 0, said
    assert json.loads(said)["clean"] is True
