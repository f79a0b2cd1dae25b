"""The faults: each stages one in a laboratory, heals it, and may look at the outcome.

A fault is a generator. It injects, yields how many seconds it is to last under traffic, heals, and may yield a second
time: it is resumed when everything is quiet, to check what only it can know.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from uuid import uuid4

import redis

from loadtest.client import RequestFailed
from loadtest.faults import traffic
from loadtest.faults.lab import Lab
from loadtest.faults.ledger import Ledger, Promise
from loadtest.faults.traffic import SKUS, Customer, all_at_once, new_customers
from sharding import numbers

WAIT_SECONDS = 30
HEALED = 0.0  # the second yield of a fault

# Places an order whose transaction stays open, with its event and outbox row written, until it is told how to end.
HELD_ORDER = """
import sys
from uuid import uuid4
import django
django.setup()
from eventing import store
from eventing.recorded import Metadata
from storefront import checkout

class RolledBack(Exception):
    pass

def append_and_wait(*args, **options):
    recorded = append(*args, **options)
    print(recorded[0].stream_id, sum(line.quantity * line.unit_price for line in recorded[0].event.lines), flush=True)
    if sys.stdin.readline().strip() != "commit":
        raise RolledBack
    return recorded

append, store.append = store.append, append_and_wait
customer, sku = int(sys.argv[1]), sys.argv[2]
try:
    checkout.place(customer, [(sku, 1)], None, key=uuid4().hex, metadata=Metadata(correlation_id=uuid4().hex))
except RolledBack:
    pass
"""
PAY_EARLY = """
from uuid import uuid4
from django.utils import timezone
from eventing.recorded import Metadata
from payments import handlers
from payments.commands import RequestPayment
payment = {{"order_id": {order}, "customer_id": {customer}, "amount": {total}, "currency": "EUR", "token": "tok_ok"}}
handlers.request_payment(RequestPayment(**payment, at=timezone.now()), Metadata(correlation_id=uuid4().hex))
"""
REDRIVE = """
from eventing import deadletters
from eventing.models import DeadLetter
from eventing.publishing import Publisher
with Publisher() as publisher:
    for letter in DeadLetter.objects.filter(status="open", stream_id={order}):
        deadletters.redrive(letter, publisher)
"""


Staging = Generator[float, None, None]
Stage = Callable[[Lab, Ledger], Staging]


class FaultFailed(Exception):
    """The fault could not be staged, or what only it can know is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    name: str
    summary: str
    stage: Stage


FAULTS: dict[str, Fault] = {}


def fault(stage: Stage) -> Stage:
    """Enter a fault under the name of its function; its docstring is the summary."""
    name = stage.__name__.replace("_", "-")
    FAULTS[name] = Fault(name=name, summary=(stage.__doc__ or "").strip().rstrip("."), stage=stage)
    return stage


def require(condition: bool, text: str) -> None:
    if not condition:
        raise FaultFailed(text)


def wait_for(condition: Callable[[], bool], what: str, seconds: float = WAIT_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        require(time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}")
        time.sleep(0.02)


# --- Processes ------------------------------------------------------------------------------------------------------


def deaths(lab: Lab, point: str, seconds: float, *, every: float) -> Staging:
    """Processes die at a point again and again: now alone, now with their whole service."""
    before = lab.deaths(point)
    stop = threading.Event()

    def kill() -> None:
        whole_service = True
        while not stop.is_set():
            lab.order_death(point, whole_service=whole_service)
            whole_service = not whole_service
            stop.wait(every)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield seconds
        wait_for(lambda: lab.deaths(point) > before, f"a death at {point}")
    finally:
        stop.set()
        killer.join()
        lab.cancel_deaths()


@fault
def web_killed(lab: Lab, ledger: Ledger) -> Staging:
    """The web server is killed between commit and answer."""
    yield from deaths(lab, "web-after-commit", 6, every=2)


@fault
def worker_killed_before_commit(lab: Lab, ledger: Ledger) -> Staging:
    """Workers are killed before their commit, every 2 s."""
    yield from deaths(lab, "worker-before-commit", 6, every=2)


@fault
def worker_killed_after_commit(lab: Lab, ledger: Ledger) -> Staging:
    """Workers are killed after their commit and before the acknowledgement, every 2 s."""
    yield from deaths(lab, "worker-after-commit", 6, every=2)


@fault
def relay_killed(lab: Lab, ledger: Ledger) -> Staging:
    """The relay is killed between publishing and deleting."""
    yield from deaths(lab, "relay-before-delete", 6, every=2)


# --- Broker ---------------------------------------------------------------------------------------------------------


@fault
def broker_stopped(lab: Lab, ledger: Ledger) -> Staging:
    """The broker is stopped for 20 s, then started again; orders are accepted meanwhile."""
    lab.services.broker.stop()
    before = len(ledger)
    try:
        yield 20
        require(len(ledger) > before, "no order was accepted without the broker")
    finally:
        lab.services.broker.start()


@fault
def broker_killed(lab: Lab, ledger: Ledger) -> Staging:
    """The broker is killed with messages in its queues and in flight, then started again."""
    with lab.frozen("worker-inventory"):
        wait_for(lambda: lab.pending()["messages"] > 0, "a message in a queue")
        lab.services.broker.kill()
    try:
        yield 2
    finally:
        lab.services.broker.start()


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


# --- Databases ------------------------------------------------------------------------------------------------------


@fault
def shards_restarted(lab: Lab, ledger: Ledger) -> Staging:
    """The PostgreSQL server of half of the shards is killed, and restarted after 3 s."""
    lab.services.shards.kill()
    try:
        yield 3
    finally:
        lab.services.shards.start()


@fault
def connections_terminated(lab: Lab, ledger: Ledger) -> Staging:
    """All connections to all databases are terminated, three times."""
    for _ in range(3):
        for alias in lab.databases:
            with lab.connect(alias) as admin:
                admin.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
        time.sleep(1)
    yield 1


@fault
def transaction_held_open(lab: Lab, ledger: Ledger) -> Staging:
    """Two transactions stay open for 15 s while others commit; then one commits and one is rolled back."""
    first, second = new_customers(lab, ledger, 2)
    with ExitStack() as stack:
        committed = stack.enter_context(held_order(lab, first, "commit"))
        rolled_back = stack.enter_context(held_order(lab, second, "rollback"))
        yield 15
    ledger.accept(committed)
    yield HEALED
    for alias in lab.databases:
        with lab.connect(alias) as database:
            row = database.execute("SELECT 1 FROM eventing_event WHERE stream_id = %s", [rolled_back.order_id])
            require(
                row.fetchone() is None, f"order {numbers.to_text(rolled_back.order_id)} was rolled back and is there"
            )


@contextmanager
def held_order(lab: Lab, customer: Customer, end: str) -> Iterator[Promise]:
    """An order in a transaction that is open meanwhile, and ends with `commit` or `rollback`."""
    process = lab.shell.spawn("-c", HELD_ORDER, str(customer.customer_id), SKUS[0], stdin=-1, stdout=-1)
    try:
        order_id, total = (process.stdout.readline() if process.stdout else "").split()
        yield Promise(
            order_id=int(order_id),
            customer_id=customer.customer_id,
            items={SKUS[0]: 1},
            coupon=None,
            total=int(total),
        )
        process.communicate(f"{end}\n", timeout=WAIT_SECONDS)
        require(process.returncode == 0, f"the open transaction ended with code {process.returncode}")
    finally:
        process.kill()
        process.wait()


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
    lab.services.redis.stop()
    before = len(ledger)
    try:
        yield 5
        require(len(ledger) > before, "no order was accepted without Redis")
    finally:
        lab.services.redis.start()


# --- Events ---------------------------------------------------------------------------------------------------------


@fault
def poison_event(lab: Lab, ledger: Ledger) -> Staging:
    """An event in the middle of a batch fails for good; the others go through, and a redrive mends it."""
    [customer] = new_customers(lab, ledger, 1)
    with lab.frozen("relay"):
        promises = [customer.place({SKUS[0]: 1}) for _ in range(11)]
        poison = promises.pop(5)
        lab.order_failures("inventory", "order.placed", [poison.order_id])
    for promise in promises:
        customer.wait_for(promise, "confirmed", seconds=WAIT_SECONDS)
    wait_for(lambda: lab.pending()["dead"] == 1, "the poison event as a dead letter")
    require(customer.status(poison) == "placed", "the poison event had an effect")
    yield 1
    lab.cancel_failures()
    lab.shell.run(REDRIVE.format(order=poison.order_id))


@fault
def compensation_fails(lab: Lab, ledger: Ledger) -> Staging:
    """Giving stock back for a cancelled order fails ten times and then works."""
    [customer] = new_customers(lab, ledger, 1)
    promise = customer.place({SKUS[1]: 2})
    customer.wait_for(promise, "confirmed")
    before = lab.failures("inventory")
    lab.order_failures("inventory", "order.cancelled", [promise.order_id], times=10)
    customer.cancel(promise)
    yield 1
    wait_for(lambda: lab.failures("inventory") == before + 10, "ten failures", seconds=2 * WAIT_SECONDS)
    yield HEALED
    lab.cancel_failures()


@fault
def cancellation_overtakes(lab: Lab, ledger: Ledger) -> Staging:
    """Cancellations reach inventory and coupons before the placements."""
    customers = new_customers(lab, ledger, 5)
    for customer in customers:
        with lab.frozen("relay"):
            promise = customer.place({SKUS[2]: 1}, coupon=traffic.COUPON)
            # The placement fails once and waits for a second; the cancellation passes it meanwhile.
            for subscriber in ("inventory", "coupons"):
                lab.order_failures(subscriber, "order.placed", [promise.order_id], times=2)
            customer.cancel(promise)
        wait_for(lambda: lab.failures("inventory") > 0, "the placement's failure")
    yield 1
    yield HEALED
    lab.cancel_failures()


@fault
def payment_overtakes(lab: Lab, ledger: Ledger) -> Staging:
    """Payments are captured before the orders are confirmed."""
    for customer in new_customers(lab, ledger, 5):
        with lab.frozen("relay"):
            promise = customer.place({SKUS[3]: 1})
            lab.order_failures("orders", "inventory.stock_reserved", [promise.order_id], times=2)
            pay = PAY_EARLY.format(order=promise.order_id, customer=customer.customer_id, total=promise.total)
            lab.shell.run(pay)
            promise.pay_accepted = True
    yield 1
    yield HEALED
    lab.cancel_failures()


# --- Crowds ---------------------------------------------------------------------------------------------------------


@fault
def coupon_rush(lab: Lab, ledger: Ledger) -> Staging:
    """64 customers want one coupon that may be used once."""
    code = f"ONCE-{uuid4().hex[:8].upper()}"
    traffic.add_coupon(lab, code, limit=1)

    def place(customer: Customer) -> bool:
        try:
            customer.place({SKUS[4]: 1}, coupon=code, may_be_rejected=True)
        except RequestFailed as refusal:  # it was quoted after somebody had redeemed it
            require(refusal.code == "coupon_used_up", str(refusal))
            return False
        return True

    placed = sum(all_at_once(new_customers(lab, ledger, 64), place))
    require(placed > 0, "nobody could place an order with the coupon")
    yield 0
    yield HEALED
    with lab.connect() as default:
        row = default.execute("SELECT redeemed FROM coupons_coupon WHERE code = %s", [code]).fetchone()
        require(row == (1,), f"the coupon is redeemed {row} times")


@fault
def stock_rush(lab: Lab, ledger: Ledger) -> Staging:
    """5,000 requests for 100 pieces, by 32 customers at once."""
    sku, pieces, requests, crowd = f"RARE-{uuid4().hex[:8].upper()}", 100, 5_000, 32
    traffic.add_product(lab, ledger, sku, pieces)

    def place(customer: Customer) -> list[Promise]:
        return [customer.place({sku: 1}, may_be_rejected=True) for _ in range(-(-requests // crowd))]

    promises = [promise for mine in all_at_once(new_customers(lab, ledger, crowd), place) for promise in mine]
    yield 0
    yield HEALED
    with lab.connect() as default:
        row = default.execute("SELECT reserved FROM inventory_stock WHERE sku = %s", [sku]).fetchone()
    require(row == (pieces,), f"{row} of {pieces} pieces are reserved after {len(promises)} orders")


@fault
def same_key(lab: Lab, ledger: Ledger) -> Staging:
    """The same request with the same idempotency key is fired 50 times at once."""
    [customer] = new_customers(lab, ledger, 1)
    key = uuid4().hex
    copies = [Customer(customer.url, customer.customer_id, customer.token, Ledger()) for _ in range(50)]
    promises = all_at_once(copies, lambda copy: copy.place({SKUS[0]: 1}, key=key))
    require(len({promise.order_id for promise in promises}) == 1, "the same key has made several orders")
    ledger.accept(promises[0])
    yield 0


def in_random_order(names: list[str], rng: random.Random) -> Iterator[Fault]:
    """All of these, shuffled, again and again."""
    while True:
        rng.shuffle(names)
        for name in names:
            yield FAULTS[name]
