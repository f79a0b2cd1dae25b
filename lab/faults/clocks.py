"""Faults of clocks, with Debian's faketime: one that is minutes off, and one that is set days ahead and back again.

Only the time of day is faked. The monotonic clock goes on, as it does when somebody sets a machine's time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, LiteralString
from urllib.request import urlopen

from lab.faults.catalogue import WAIT_SECONDS, FaultFailed, Stage, Staging, add, new_customers, require, wait_for
from lab.faults.infrastructure import ORDERS, TRIES, orders_due_soon
from lab.faults.lab import Lab
from lab.harness.instances import faketime_library
from lab.oracle import Ledger, Promise
from lab.programs import questions
from sharding import numbers

SKEW = 290  # seconds; up to five minutes are promised to change nothing
STEP = 37 * 3600
NEAR = 5.0  # seconds by which a measured difference may be wrong
TERM = 20.0  # seconds to pay in; the orders must be paid, and the clock stepped, before they are over
LATE_SECONDS = 60  # that a periodic task may be late beyond its interval: busy workers may miss one message
SHORT = 60  # seconds between two runs: tasks that run less often are not waited for

Turn = Callable[[float], None]


def missing() -> str:
    return "" if faketime_library() else "faketime is not installed"


@contextmanager
def clocks_of(lab: Lab, *services: str) -> Iterator[Turn]:
    """Restart services so that their clocks can be turned: by so many seconds from the true time, 0 at first."""
    library = faketime_library()
    require(library is not None, missing())
    file = lab.folder / f"clock-{'-'.join(services)}"

    def turn(seconds: float) -> None:
        new = Path(f"{file}.new")
        new.write_text(f"{seconds:+.0f}\n")
        new.rename(file)

    turn(0)
    faked = {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_CACHE_DURATION": "1",  # seconds until it is read again
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",  # or Python would compile everything anew
    }
    try:
        for service in services:
            lab.start_anew(service, faked)
        wait_for(lambda: bool(_page(lab, "healthz")), "a web server that answers")
        yield turn
    finally:
        for service in services:
            lab.start_anew(service, {})


# --- What is promised meanwhile -------------------------------------------------------------------------------------


def wait_until_noticed(lab: Lab, process: str, seconds: float) -> None:
    """Wait until `/metrics` has the difference, and `/readyz` a line about it."""

    def noticed() -> bool:
        line = rf'^wharf_clock_ahead_seconds{{process="{process}[^"]*"}} (\S+)$'
        found = re.search(line, _page(lab, "metrics"), re.MULTILINE)
        return found is not None and abs(float(found[1]) - seconds) < NEAR

    wait_for(noticed, f"the clock of {process} is {seconds:+} s off on /metrics", WAIT_SECONDS)
    words = f"the clock of {process}[^ ]* is [0-9.]+ s {'ahead of' if seconds > 0 else 'behind'} the database's"
    wait_for(lambda: bool(re.search(words, _page(lab, "readyz"))), f"the clock of {process} is off on /readyz")


def _page(lab: Lab, name: str) -> str:
    try:
        with urlopen(f"{lab.url}/{name}", timeout=10) as response:  # noqa: S310  (our own http URL)
            return str(response.read().decode())
    except OSError:
        return ""  # it is just starting


class DueSoon:
    """Orders of which some are paid in time and the others never. Their databases' clocks say when that is over."""

    def __init__(self, lab: Lab, ledger: Ledger) -> None:
        self._lab = lab
        [customer] = new_customers(lab, ledger, 1)
        for attempt in range(1, TRIES + 1):
            promises = orders_due_soon(lab, customer, 2 * ORDERS, attempt * TERM)
            paid, self._unpaid = promises[:ORDERS], promises[ORDERS:]
            self._due = {promise.order_id: self._ask("expires_at", promise)[0] for promise in self._unpaid}
            if all(self._due.values()) and all(customer.pay(promise) for promise in paid):
                return
        raise FaultFailed(f"{TRIES} times orders could not be paid in time")

    def wait_until_over(self) -> None:
        """Wait until the clock has cancelled those that nobody paid. Raises FaultFailed if it did so too early."""
        wait_for(lambda: all(map(self._is_over, self._unpaid)), "the end of orders that nobody paid")

    def _is_over(self, promise: Promise) -> bool:
        status, now = self._ask("status, clock_timestamp()", promise)
        early = self._due[promise.order_id] - now
        number = numbers.to_text(promise.order_id)
        require(status == "confirmed" or early < timedelta(0), f"{number} was {status} {early} before its deadline")
        return bool(status == "cancelled")

    def _ask(self, columns: LiteralString, promise: Promise) -> Any:
        query: LiteralString = f"SELECT {columns} FROM orders_order WHERE id = %s"
        for row in self._lab.query(query, promise.order_id, aliases=self._lab.shards):
            return row
        raise FaultFailed(f"order {numbers.to_text(promise.order_id)} is missing")


# --- The faults ------------------------------------------------------------------------------------------------------


def skewed(service: str, process: str) -> Stage:
    """The clock of a service is minutes ahead of the others, then minutes behind; `process` is what names it."""

    def stage(lab: Lab, ledger: Ledger) -> Staging:
        with clocks_of(lab, service) as turn:
            for seconds in (SKEW, -SKEW):
                turn(seconds)
                orders = DueSoon(lab, ledger)
                wait_until_noticed(lab, process, seconds)
                orders.wait_until_over()
            yield 2

    return stage


def stepped(lab: Lab, ledger: Ledger) -> Staging:
    """Beat and the worker of periodic tasks are 37 h ahead for a while, then right again."""
    with clocks_of(lab, "beat", "worker-notifications") as turn:
        orders = DueSoon(lab, ledger)
        turn(STEP)
        for process in ("beat", "notifications"):
            wait_until_noticed(lab, process, STEP)
        orders.wait_until_over()
        turn(0)
        set_right_at = lab.call(questions.database_time)
        for name, seconds in runs_after(lab, set_right_at).items():
            require(seconds < LATE_SECONDS, f"“{name}” ran {seconds:.0f} s too late after the clock was set right")
        yield 1


def runs_after(lab: Lab, moment: datetime) -> Mapping[str, float]:
    """After how many seconds each periodic task that runs often has run again, beyond its interval."""
    late: dict[str, float] = {}

    def all_again() -> bool:
        schedules = lab.call(questions.periodic_tasks, SHORT)
        for name, (interval, finished) in schedules.items():
            if finished and name not in late and finished > moment:
                late[name] = (finished - moment).total_seconds() - interval
        return len(late) == len(schedules)

    wait_for(all_again, "another run of every periodic task", SHORT + WAIT_SECONDS)
    return late


for service in ("beat", "web", "relay", "worker-orders", "worker-notifications"):
    summary = f"the clock of {service} is {SKEW} s ahead of all others, then as much behind"
    add(f"{service}-skewed", summary, skewed(service, service.removeprefix("worker-")), missing)
summary = "the clocks of beat and of the worker of periodic tasks are set 37 h ahead, then right again"
add("clocks-stepped", summary, stepped, missing)
