"""Faults of events that fail or overtake each other, many who want the same, and buckets that move."""

from __future__ import annotations

import signal
from typing import Final
from uuid import uuid4

from lab.client import Customer, RequestFailed
from lab.faults.catalogue import (
    COUPON,
    HEALED,
    SKUS,
    WAIT_SECONDS,
    Staging,
    fault,
    new_customers,
    new_product,
    require,
    wait_for,
)
from lab.faults.lab import Lab
from lab.harness.shell import Shell
from lab.oracle import Ledger, Promise
from lab.programs import breaking, shop
from lab.traffic import all_at_once
from resharding.steps import Step
from sharding import numbers

RUSH_PIECES = 100
RUSH_REQUESTS = 5_000
RUSH_CUSTOMERS = 32
# How often a mover is killed: after each step, and whether the next one gives up or goes on.
TRIALS = [(step, False) for step in Step] + [(step, True) for step in (Step.COPIED, Step.CLOSED, Step.DETACHED)]

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
    lab.cancel("fail-*", "failures-*")
    lab.call(breaking.redrive, poison.order_id)


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
    lab.cancel("fail-*", "failures-*")


@fault
def cancellation_overtakes(lab: Lab, ledger: Ledger) -> Staging:
    """Cancellations reach inventory and coupons before the placements."""
    customers = new_customers(lab, ledger, 5)
    for customer in customers:
        with lab.frozen("relay"):
            promise = customer.place({SKUS[2]: 1}, coupon=COUPON)
            # The placement fails once and waits for a second; the cancellation passes it meanwhile.
            for subscriber in ("inventory", "coupons"):
                lab.order_failures(subscriber, "order.placed", [promise.order_id], times=2)
            customer.cancel(promise)
        wait_for(lambda: lab.failures("inventory") > 0, "the placement's failure")
    yield 1
    yield HEALED
    lab.cancel("fail-*", "failures-*")


@fault
def payment_overtakes(lab: Lab, ledger: Ledger) -> Staging:
    """Payments are captured before the orders are confirmed."""
    for customer in new_customers(lab, ledger, 5):
        with lab.frozen("relay"):
            promise = customer.place({SKUS[3]: 1})
            lab.order_failures("orders", "inventory.stock_reserved", [promise.order_id], times=2)
            lab.call(breaking.pay_early, promise.order_id, customer.customer_id, promise.total)
            promise.pay_accepted = True
    yield 1
    yield HEALED
    lab.cancel("fail-*", "failures-*")


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
        code = lab.shell.exit_code(breaking.replay_and_die, when, *begin)
        require(code == (0 if when == "never" else -signal.SIGKILL), f"the replay ended with {code}")
        begin = ["--subscriber=notifications", "--resume"]
    yield 1
    yield HEALED
    found = messages_of(lab, customer)
    require(found == messages, f"{len(found)} of {len(messages)} messages are there after the replay")


def messages_of(lab: Lab, customer: Customer) -> list[tuple[str, str]]:
    query: Final = "SELECT event_id, channel FROM notifications_message WHERE customer_id = %s ORDER BY 1, 2"
    return lab.query(query, customer.customer_id)


# --- Crowds ---------------------------------------------------------------------------------------------------------


@fault
def coupon_rush(lab: Lab, ledger: Ledger) -> Staging:
    """64 customers want one coupon that may be used once."""
    code = f"ONCE-{uuid4().hex[:8].upper()}"
    lab.call(shop.coupon, code, 1)

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
    redeemed = lab.query("SELECT redeemed FROM coupons_coupon WHERE code = %s", code)
    require(redeemed == [(1,)], f"the coupon is redeemed {redeemed} times")


@fault
def stock_rush(lab: Lab, ledger: Ledger) -> Staging:
    """5,000 requests for 100 pieces, by 32 customers at once."""
    sku = new_product(lab, ledger, RUSH_PIECES)

    def place(customer: Customer) -> list[Promise]:
        return [customer.place({sku: 1}, may_be_rejected=True) for _ in range(-(-RUSH_REQUESTS // RUSH_CUSTOMERS))]

    promises = all_at_once(new_customers(lab, ledger, RUSH_CUSTOMERS), place)
    orders = [promise.order_id for mine in promises for promise in mine]
    yield 0
    # Five thousand orders are work, not damage: the rush lasts until each of them is decided.
    query: Final = "SELECT 1 FROM orders_order WHERE id = ANY(%s) AND status = 'placed' LIMIT 1"
    wait_for(
        lambda: not lab.query(query, orders, aliases=lab.shards),
        "an answer to every order of the rush",
        seconds=5 * WAIT_SECONDS,
    )
    yield HEALED
    reserved = lab.query("SELECT reserved FROM inventory_stock WHERE sku = %s", sku)
    require(reserved == [(RUSH_PIECES,)], f"{reserved} of {RUSH_PIECES} pieces are reserved for {len(orders)} orders")


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


# --- Moves ----------------------------------------------------------------------------------------------------------


@fault
def mover_killed(lab: Lab, ledger: Ledger) -> Staging:
    """A bucket is moved under its customers, its mover killed at each step; the next one goes on or gives up."""
    bucket = numbers.bucket_of_customer(max(ledger.customers))  # that of somebody who is ordering just now
    with Shell(lab.env) as mover:
        for number, (step, give_up) in enumerate(TRIALS):
            home = lab.call(breaking.end_moves, bucket)
            target = next(alias for alias in lab.shards[number % len(lab.shards) :] + lab.shards if alias != home)
            code = mover.call_within(WAIT_SECONDS, breaking.move_and_die, bucket, target, step)
            require(code == -signal.SIGKILL, f"the mover ended with {code} instead of dying at {step.value}")
            owner = lab.call(breaking.end_moves, bucket, give_up=give_up)
            what = f"{'giving up' if give_up else 'going on'} after {step.value}"
            require(owner == (home if give_up else target), f"{what} left it in {owner}")
            attached = lab.call(breaking.databases_with, bucket)
            require(attached == [owner], f"{what} left it in {attached}")
    yield 1
    yield HEALED
