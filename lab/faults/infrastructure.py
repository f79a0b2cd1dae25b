"""Faults of processes, broker, databases and cache."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import cycle
from pathlib import Path
from urllib.parse import urlsplit

import redis

from config.roles import PROCESSES
from lab.client import Customer
from lab.faults.catalogue import (
    HEALED,
    SKUS,
    WAIT_SECONDS,
    FaultFailed,
    Stage,
    Staging,
    add,
    fault,
    new_customers,
    require,
    wait_for,
)
from lab.faults.lab import Lab
from lab.harness.instances import set_memory_alarm, start_nginx, stop
from lab.harness.proxy import SLOW
from lab.harness.shell import Shell
from lab.oracle import Ledger, Promise
from lab.programs import breaking, questions
from lab.traffic import meanwhile
from sharding import numbers

TERMINATE = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)
AFTER_COMMIT = "after their commit and before the acknowledgement"
ORDERS = 3
TRIES = 5  # on a busy machine an order may be due before it can be paid
LONGEST_TERM = 12.0


# --- Processes ------------------------------------------------------------------------------------------------------


def deaths(point: str) -> Stage:
    """For 6 s processes die at a point every 2 s: now alone, now with their whole service."""

    def stage(lab: Lab, ledger: Ledger) -> Staging:
        before = lab.deaths(point)
        whole_service = cycle((True, False))
        with ExitStack() as afterwards:
            afterwards.callback(lab.cancel, "die-*")
            with meanwhile(lambda: lab.order_death(point, whole_service=next(whole_service)), every=2):
                yield 6
                wait_for(lambda: lab.deaths(point) > before, f"a death at {point}")

    return stage


for name, point, summary in (
    ("web-killed", "web-after-commit", "The web server is killed between commit and answer"),
    ("worker-killed-before-commit", "worker-before-commit", "Workers are killed before their commit, every 2 s"),
    ("worker-killed-after-commit", "worker-after-commit", f"Workers are killed {AFTER_COMMIT}, every 2 s"),
    ("relay-killed", "relay-before-delete", "The relay is killed between publishing and deleting"),
):
    add(name, summary, deaths(point))


@contextmanager
def orders_accepted(ledger: Ledger, without: str) -> Iterator[None]:
    """Raises FaultFailed if no order is accepted meanwhile."""
    before = len(ledger)
    yield
    require(len(ledger) > before, f"no order was accepted {without}")


# --- Broker ---------------------------------------------------------------------------------------------------------


@fault
def broker_stopped(lab: Lab, ledger: Ledger) -> Staging:
    """The broker is stopped for 20 s, then started again; orders are accepted meanwhile."""
    with lab.services.broker.stopped(), orders_accepted(ledger, "without the broker"):
        yield 20


@fault
def broker_killed(lab: Lab, ledger: Ledger) -> Staging:
    """The broker is killed with messages in its queues and in flight, then started again."""
    with ExitStack() as away:
        with lab.frozen("worker-inventory"):
            wait_for(lambda: lab.pending()["messages"] > 0, "a message in a queue")
            away.enter_context(lab.services.broker.stopped(by_force=True))
        yield 2


@fault
def confirms_lost(lab: Lab, ledger: Ledger) -> Staging:
    """The broker's answers, publisher confirms among them, are lost with the connections."""
    lab.broker_proxy.hold_answers()
    try:
        yield 3
    finally:
        lab.broker_proxy.cut()
        lab.broker_proxy.mend()


@fault
def confirms_late(lab: Lab, ledger: Ledger) -> Staging:
    """The broker's answers come 12 s late, when publishers have given up waiting for them."""
    lab.broker_proxy.hold_answers()
    try:
        yield 12
    finally:
        lab.broker_proxy.release_answers()


@fault
def delivered_thrice(lab: Lab, ledger: Ledger) -> Staging:
    """Every message is delivered three times, in random order."""
    with lab.thrice():
        yield 6


@fault
def broker_alarm(lab: Lab, ledger: Ledger) -> Staging:
    """The broker is under a memory alarm for 15 s and takes no messages; orders are accepted meanwhile."""
    with ExitStack() as alarm, orders_accepted(ledger, "under the alarm"):
        alarm.callback(set_memory_alarm, lab.services.broker.directory, on=False)
        set_memory_alarm(lab.services.broker.directory, on=True)
        yield 15


@fault
def broker_emptied(lab: Lab, ledger: Ledger) -> Staging:
    """The broker loses all that it has while its queues are empty, and comes back without queues and exchanges."""
    with lab.frozen("relay"):  # what is in a queue would be lost with it; events wait in the outboxes
        wait_for(lambda: lab.call(questions.in_queues, delayed=True) == 0, "empty queues")
        with lab.services.broker.stopped(by_force=True):
            shutil.rmtree(lab.services.broker.directory / "mnesia")
    yield 5
    yield HEALED
    missing = lab.call(questions.missing_topology)
    require(missing == [], f"the broker still has no {missing}")


# --- Databases ------------------------------------------------------------------------------------------------------


@fault
def shards_restarted(lab: Lab, ledger: Ledger) -> Staging:
    """The PostgreSQL server of half of the shards is killed, and restarted after 3 s."""
    with lab.services.shards.stopped(by_force=True):
        yield 3


@fault
def connections_terminated(lab: Lab, ledger: Ledger) -> Staging:
    """All connections to all databases are terminated, three times."""
    for _ in range(3):
        for alias in lab.databases:
            with lab.connect(alias) as admin:
                admin.execute(TERMINATE)
        time.sleep(1)
    yield 1


@fault
def databases_read_only(lab: Lab, ledger: Ledger) -> Staging:
    """The default database and half of the shards can only be read for 10 s, as after a failover."""
    aliases = ["default", *lab.shards[1::2]]

    def let(value: str) -> None:
        for alias in aliases:
            with lab.connect(alias) as admin:
                admin.execute("SET default_transaction_read_only = off")
                name = lab.databases[alias].rpartition("/")[2]
                admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = {value}")
                admin.execute(TERMINATE)

    let("on")
    try:
        yield 10
    finally:
        let("off")


@fault
def transaction_held_open(lab: Lab, ledger: Ledger) -> Staging:
    """Two transactions stay open for 15 s while others commit; then one commits and one is rolled back."""
    customers = new_customers(lab, ledger, 2)
    with Shell(lab.env) as first, Shell(lab.env) as second:
        held = [
            (customer.customer_id, *shell.call(breaking.hold_order, customer.customer_id, SKUS[0]))
            for customer, shell in zip(customers, (first, second), strict=True)
        ]
        yield 15
        first.call_within(WAIT_SECONDS, breaking.end_order, commit=True)
        second.call_within(WAIT_SECONDS, breaking.end_order, commit=False)
    (customer_id, order_id, total), (_, rolled_back, _) = held
    ledger.accept(Promise(order_id=order_id, customer_id=customer_id, items={SKUS[0]: 1}, total=total))
    yield HEALED
    events = lab.query("SELECT 1 FROM eventing_event WHERE stream_id = %s", rolled_back, aliases=[*lab.databases])
    require(not events, f"order {numbers.to_text(rolled_back)} was rolled back and is there")


# --- Redis ----------------------------------------------------------------------------------------------------------


@fault
def redis_flushed(lab: Lab, ledger: Ledger) -> Staging:
    """Redis forgets everything, again and again."""
    with redis.Redis.from_url(lab.services.redis.url) as client:
        for _ in range(10):
            client.flushall()
            time.sleep(0.3)
        yield 1


@fault
def redis_stopped(lab: Lab, ledger: Ledger) -> Staging:
    """Redis is stopped for 5 s; orders are accepted meanwhile."""
    with lab.services.redis.stopped(), orders_accepted(ledger, "without Redis"):
        yield 5


@fault
def slow_clients(lab: Lab, ledger: Ledger) -> Staging:
    """The proxy has hundreds of idle clients, and of slow ones; orders come through it meanwhile."""
    with tempfile.TemporaryDirectory(prefix="wharf-nginx-") as folder, ExitStack() as clients:
        proxy = start_nginx(Path(folder), upstream=urlsplit(lab.url).netloc)
        clients.callback(stop, proxy)
        for slow in SLOW.values():
            for _ in range(slow.clients):
                clients.enter_context(slow.connect(proxy.url))
        [customer] = new_customers(lab, ledger, 1)
        through_proxy = Customer(proxy.url, customer.customer_id, customer.token, ledger)
        for _ in range(10):
            through_proxy.place({SKUS[0]: 1})
        yield 5
        through_proxy.place({SKUS[0]: 1})


# --- Processes that are alive and do nothing, over the deadline of orders that are paid ------------------------------


def orders_due_soon(lab: Lab, customer: Customer, number: int, term: float) -> list[Promise]:
    """Orders that are confirmed, and that the clock cancels after `term` seconds unless they are paid."""
    promises = []
    for _ in range(number):
        order_id, total = lab.call(breaking.place_due_soon, customer.customer_id, SKUS[0], term)
        promise = Promise(
            order_id=order_id, customer_id=customer.customer_id, items={SKUS[0]: 1}, total=total, may_expire=True
        )
        customer.ledger.accept(promise)
        promises.append(promise)
    for promise in promises:
        customer.wait_for(promise, "confirmed", "cancelled", seconds=WAIT_SECONDS)
    return promises


def freezing(service: str) -> Stage:
    """Orders are paid seconds before their deadline, and the service is frozen until long after it."""

    def stage(lab: Lab, ledger: Ledger) -> Staging:
        [customer] = new_customers(lab, ledger, 1)
        for _ in range(TRIES):
            term = min(LONGEST_TERM, lab.freeze_seconds / 2)
            promises = orders_due_soon(lab, customer, ORDERS, term)
            paid = 0
            if service == "web":  # nobody can pay while it is frozen
                paid = sum(map(customer.pay, promises))
            with lab.frozen(service):
                if paid or (service != "web" and sum(map(customer.pay, promises))):
                    yield lab.freeze_seconds
                    return
        raise FaultFailed(f"{TRIES} times no order could be paid within {term:.0f} s")

    return stage


for name in PROCESSES:
    add(f"{name}-frozen", f"{name} is frozen for 40 s, over the deadline of orders that are being paid", freezing(name))
