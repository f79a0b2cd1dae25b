"""Each role of `manage.py run`, as a process: it says what it is, does its work, and ends when it is told to."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from urllib.request import urlopen

import pytest

from config.roles import PROCESSES
from tests import programs
from tests.live import Live
from tests.waiting import wait_until

pytestmark = pytest.mark.services

SAID = {
    "web": r"web: http://127\.0\.0\.1:\d+/, 2 processes with 16 threads each",
    "relay": r"relay: 9 databases \(default, orders_0, .*\)",
    "worker-notifications": "worker: notifications, tasks, 2 processes",
    "beat": "beat: periodic tasks",
}
WORKER = "notifications-tasks"  # which takes the background tasks


def has_loaded_pages(pid: int) -> bool:
    """Whether the process has loaded what only the API needs."""
    return "pydantic_core" in Path(f"/proc/{pid}/maps").read_text()


def answers(url: str) -> bool:
    try:
        with urlopen(f"{url}/healthz", timeout=5):  # noqa: S310  (our own http URL)
            return True
    except OSError:
        return False


def test_an_order_takes_its_way_through_all_roles(live: Live) -> None:
    live.product("ROLES", 1)
    client = live.client()
    number = client.place(("ROLES", 1))
    client.wait_for(number, "confirmed")
    client.pay(number)
    client.wait_for(number, "paid")
    last = live.call(programs.last_run_of, WORKER)
    wait_until(lambda: live.call(programs.last_run_of, WORKER) > last, seconds=60)  # by beat, and the worker of `tasks`


@pytest.mark.parametrize("name", SAID)
def test_a_role_says_what_it_is_and_ends_when_it_is_told_to(live: Live, name: str) -> None:
    running = live.processes.running[name]
    said = (live.processes.log_dir / f"{name}.log").read_text(errors="replace").splitlines()
    assert [line for line in said if re.fullmatch(SAID[name], line)]
    if Path("/proc/self/maps").exists():
        assert not has_loaded_pages(running.pid)
    running.ask_to_end()
    try:
        wait_until(lambda: not running.is_running, seconds=30)
        assert running.code == 0
        assert not running.has_group(), "and so do its children"
    finally:
        live.processes.restart(name)
        wait_until(lambda: answers(live.url), seconds=90)


def test_a_worker_takes_all_queues_if_none_is_named(live: Live) -> None:
    queues = {name for names in PROCESSES.values() if names[0] == "worker" for name in names[1:]}
    wait_until(lambda: all(live.call(programs.consumers)[name] == 1 for name in queues), seconds=60)
    worker = live.spawn("manage.py", "run", "worker")
    try:
        wait_until(lambda: all(live.call(programs.consumers)[name] == 2 for name in queues), seconds=60)
        worker.send_signal(signal.SIGQUIT)
        assert worker.wait(timeout=60) == 0
    finally:
        worker.kill()
        worker.wait()


def test_the_processes_of_the_web_server_write_their_numbers_where_each_can_read_them(live: Live) -> None:
    live.client().products()
    wait_until(lambda: any((live.processes.log_dir / "metrics").glob("counter_*.db")), seconds=30)
