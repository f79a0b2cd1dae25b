"""Faults of events that fail or overtake each other, and crowds that want the same thing."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence
from uuid import uuid4

from lab.client import RequestFailed
from lab.faults import traffic
from lab.faults.lab import Lab
from lab.faults.ledger import Ledger, Promise
from lab.faults.staging import HEALED, WAIT_SECONDS, Staging, fault, require, wait_for
from lab.faults.traffic import SKUS, Customer, all_at_once, new_customers
from sharding import numbers

RUSH_PIECES = 100
RUSH_REQUESTS = 5_000
RUSH_CUSTOMERS = 32

PAY_EARLY = """
from uuid import uuid4
from django.utils import timezone
from eventing.recorded import Metadata
from payments import handlers
from payments.commands import RequestPayment
order = {{"order_id": {order}, "customer_id": {customer}, "amount": {total}, "currency": "EUR"}}
payment = RequestPayment(**order, payment_id=str(uuid4()), token="tok_ok", at=timezone.now())
handlers.request_payment(payment, Metadata(correlation_id=uuid4().hex))
"""
REDRIVE = """
from eventing import deadletters
from eventing.models import DeadLetter
from eventing.publishing import Publisher
with Publisher() as publisher:
    for letter in DeadLetter.objects.filter(status="open", stream_id={order}):
        deadletters.redrive(letter, publisher, by="faults")
"""

# Replays, and dies when a message is with the broker and its row does not say so yet, or at once after that.
REPLAY = """
import os, signal, sys
import django
django.setup()
from django.core.management import call_command
from eventing import replay
save, when = replay._save, sys.argv[1]

def die(run):
    if when == "after":
        save(run)
    os.kill(os.getpid(), signal.SIGKILL)

if when != "never":
    replay._save = die
call_command("replay", *sys.argv[2:])
"""


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
    wait_for(lambda: lab.failures("inventory") == before + 10, "ten failures")
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


@fault
def replay_killed(lab: Lab, ledger: Ledger) -> Staging:
    """Messages are lost; the replay that brings them back is killed again and again, and goes on each time."""
    [customer] = new_customers(lab, ledger, 1)
    promises = [customer.place({SKUS[0]: 1}) for _ in range(5)]
    for promise in promises:
        customer.wait_for(promise, "confirmed", seconds=WAIT_SECONDS)
    wait_for(lambda: len(messages_of(lab, customer)) == 2 * len(promises), "two messages for each order")
    messages = messages_of(lab, customer)
    with lab.connect() as default:
        default.execute("DELETE FROM notifications_message WHERE customer_id = %s", [customer.customer_id])
    begin = ["--subscriber=notifications", "--forget", "--with-outside-effects", "--rate=3"]
    begin += [f"--stream=order-{numbers.to_text(promise.order_id)}" for promise in promises]
    for when in ("before", "after", "before", "never"):
        sender = lab.shell.spawn("-c", REPLAY, when, *begin, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        code = sender.wait(WAIT_SECONDS)
        require(code == (0 if when == "never" else -signal.SIGKILL), f"the replay ended with {code}")
        begin = ["--subscriber=notifications", "--resume"]
    yield 1
    yield HEALED
    found = messages_of(lab, customer)
    require(found == messages, f"{len(found)} of {len(messages)} messages are there after the replay")


def messages_of(lab: Lab, customer: Customer) -> list[tuple[str, str]]:
    with lab.connect() as default:
        query = "SELECT event_id, channel FROM notifications_message WHERE customer_id = %s ORDER BY event_id, channel"
        return default.execute(query, [customer.customer_id]).fetchall()


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
    sku = f"RARE-{uuid4().hex[:8].upper()}"
    traffic.add_product(lab, ledger, sku, RUSH_PIECES)

    def place(customer: Customer) -> list[Promise]:
        return [customer.place({sku: 1}, may_be_rejected=True) for _ in range(-(-RUSH_REQUESTS // RUSH_CUSTOMERS))]

    promises = [promise for mine in all_at_once(new_customers(lab, ledger, RUSH_CUSTOMERS), place) for promise in mine]
    yield 0
    # Five thousand orders are work, not damage: the rush lasts until each of them is decided.
    wait_for(lambda: all_decided(lab, promises), "an answer to every order of the rush", seconds=5 * WAIT_SECONDS)
    yield HEALED
    with lab.connect() as default:
        row = default.execute("SELECT reserved FROM inventory_stock WHERE sku = %s", [sku]).fetchone()
    require(row == (RUSH_PIECES,), f"{row} of {RUSH_PIECES} pieces are reserved after {len(promises)} orders")


def all_decided(lab: Lab, promises: Sequence[Promise]) -> bool:
    orders = [promise.order_id for promise in promises]
    for alias in lab.databases:
        if alias != "default":
            with lab.connect(alias) as shard:
                query = "SELECT 1 FROM orders_order WHERE id = ANY(%s) AND status = 'placed' LIMIT 1"
                if shard.execute(query, [orders]).fetchone() is not None:
                    return False
    return True


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
