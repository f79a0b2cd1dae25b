"""Customers who place, pay and cancel orders while things break, and who insist on an answer."""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import uuid4

from lab.client import Client, RequestFailed
from lab.faults.lab import Lab
from lab.faults.ledger import Ledger, Promise
from sharding import numbers

T = TypeVar("T")

COUPON = "FAULTS-TEN"  # ten percent off, for everybody
SKUS = [f"FAULTS-{number}" for number in range(1, 6)]
PRICE = 1_000
PLENTY = 1_000_000
RATE = 8.0  # orders a second: two cores keep up, so the recovery is the fault's and not that of a backlog
INSIST_SECONDS = 60
REQUEST_SECONDS = 10
STEP = 17  # between the numbers of customers, so that eight of them are on all shards
PAUSE_SECONDS = 0.2
UNANSWERED = (OSError, http.client.HTTPException, ValueError)  # ValueError: half an answer

NEW_CUSTOMERS = """
from django.contrib.auth.models import User
from django.db.models import Max
from django.utils import timezone
from api import tokens
last = User.objects.aggregate(last=Max("pk"))["last"] or 0
numbers = [last + {step} * number for number in range(1, {count} + 1)]
users = [User.objects.create(pk=number, username=f"faults-{{number}}") for number in numbers]
answer = [(user.pk, tokens.issue(user.pk, timezone.now())) for user in users]
"""
NEW_PRODUCT = """
from uuid import uuid4
from django.utils import timezone
from eventing.recorded import Metadata
from inventory import handlers
handlers.add_category(slug="faults", name="Faults")
handlers.add_product(sku={sku!r}, name={sku!r}, category="faults", price={price}, currency="EUR")
handlers.receive_stock({sku!r}, {stock}, "delivery", timezone.now(), Metadata(correlation_id=uuid4().hex))
"""
NEW_COUPON = """
from coupons.models import Coupon
Coupon.objects.create(code={code!r}, kind="percentage", value=1000, currency="EUR", total_limit={limit!r})
"""


class GaveUp(Exception):
    """There was no answer within INSIST_SECONDS; nobody knows whether the request had its effect."""


def add_product(lab: Lab, ledger: Ledger, sku: str, stock: int) -> None:
    lab.shell.run(NEW_PRODUCT.format(sku=sku, price=PRICE, stock=stock))
    ledger.stock[sku] = stock


def add_coupon(lab: Lab, code: str, limit: int | None = None) -> None:
    lab.shell.run(NEW_COUPON.format(code=code, limit=limit))


def new_customers(lab: Lab, ledger: Ledger, count: int) -> list[Customer]:
    """Customers of their own, who are signed in."""
    people = lab.shell.run(NEW_CUSTOMERS.format(count=count, step=STEP))
    ledger.customers |= {customer_id for customer_id, _ in people}
    return [Customer(lab.url, customer_id, token, ledger) for customer_id, token in people]


@dataclass(slots=True)
class Customer:
    """One customer with one connection; not to be shared by threads."""

    url: str
    customer_id: int
    token: str
    ledger: Ledger
    client: Client = field(init=False)

    def __post_init__(self) -> None:
        self.client = Client(self.url, token=self.token, timeout=REQUEST_SECONDS)

    def place(
        self, items: dict[str, int], *, coupon: str | None = None, key: str | None = None, may_be_rejected: bool = False
    ) -> Promise:
        """Place an order, again and again under the same key until there is an answer.

        Raises RequestFailed if it is refused, GaveUp.
        """
        body: dict[str, Any] = {"lines": [{"sku": sku, "quantity": quantity} for sku, quantity in items.items()]}
        if coupon:
            body["coupon"] = coupon
        headers = {"Idempotency-Key": key or uuid4().hex}
        try:
            answer = self._insist("POST", "orders", body, headers)
        except GaveUp:
            self.ledger.give_up()
            raise
        promise = Promise(
            order_id=numbers.parse(answer["number"]),
            customer_id=self.customer_id,
            items=items,
            coupon=coupon,
            total=answer["total"],
            may_be_rejected=may_be_rejected,
        )
        self.ledger.accept(promise)
        return promise

    def pay(self, promise: Promise) -> bool:
        """Ask to pay; False if the order is not confirmed yet, or cannot be paid any more. Raises GaveUp."""
        asked_before = promise.pay_asked
        promise.pay_asked = True
        try:
            self._insist("POST", f"orders/{numbers.to_text(promise.order_id)}/pay", {"payment_token": "tok_ok"})
        except RequestFailed as refusal:
            # An earlier copy of this request was not answered, but heard.
            promise.pay_accepted |= refusal.code in ("payment_in_progress", "already_paid")
            promise.pay_asked = asked_before or promise.pay_accepted
            return promise.pay_accepted
        promise.pay_accepted = True
        return True

    def cancel(self, promise: Promise) -> bool:
        """Ask to cancel; False if the order is paid already. Raises GaveUp."""
        asked_before = promise.cancel_asked
        promise.cancel_asked = True
        try:
            self._insist("POST", f"orders/{numbers.to_text(promise.order_id)}/cancel", {})
        except RequestFailed:
            promise.cancel_asked = asked_before
            return False
        promise.cancel_accepted = True
        return True

    def pay_and_cancel(self, promise: Promise) -> bool:
        """Change one's mind while the payment is on its way: whoever comes first wins. Raises GaveUp."""
        if not self.pay(promise):
            return False
        self.cancel(promise)
        return True

    def status(self, promise: Promise) -> str:
        return str(self._insist("GET", f"orders/{numbers.to_text(promise.order_id)}")["status"])

    def wait_for(self, promise: Promise, *statuses: str, seconds: float = 30) -> None:
        """Raises GaveUp if the order does not get into one of these states."""
        deadline = time.monotonic() + seconds
        while (status := self.status(promise)) not in statuses:
            if time.monotonic() > deadline:
                raise GaveUp(f"order {numbers.to_text(promise.order_id)} is {status}, not {' or '.join(statuses)}")
            time.sleep(0.1)

    def _insist(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> dict[str, Any]:
        deadline = time.monotonic() + INSIST_SECONDS
        while True:
            try:
                status, answer = self.client.request(method, path, body, headers=headers)
            except UNANSWERED:
                status, answer = 0, {}
            again = status in (0, 429) or status >= 500 or answer.get("code") == "idempotency_in_flight"
            if not again:
                if status >= 400:
                    raise RequestFailed(status, answer)
                return answer
            if time.monotonic() > deadline:
                raise GaveUp(f"{method} {path}: {status} {answer}")
            time.sleep(PAUSE_SECONDS)


class Traffic:
    """Orders at a rate, by several customers at once, until it is stopped."""

    def __init__(self, lab: Lab, ledger: Ledger, *, customers: int = 8, rate: float = RATE) -> None:
        self._lab = lab
        self.ledger = ledger
        self._number = customers
        self._pause = customers / rate
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self.errors: list[str] = []

    def __enter__(self) -> Traffic:
        customers = new_customers(self._lab, self.ledger, self._number)
        self._threads = [threading.Thread(target=self._shop, args=[customer], daemon=True) for customer in customers]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def stop(self) -> None:
        """No new requests; those on their way get their answers."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _shop(self, customer: Customer) -> None:
        plans: list[tuple[Promise, Callable[[Promise], bool]]] = []
        while not self._stop.wait(random.uniform(0.5, 1.5) * self._pause):
            try:
                promise = customer.place(
                    {sku: random.randint(1, 2) for sku in random.sample(SKUS, random.randint(1, 3))},
                    coupon=COUPON if random.random() < 0.25 else None,
                )
                plan = random.choice([customer.pay, customer.pay, customer.cancel, customer.pay_and_cancel, None])
                if plan is not None:
                    plans.append((promise, plan))
                plans = [(promise, ask) for promise, ask in plans if not self._is_over(promise, ask)]
            except GaveUp as error:
                self.errors.append(str(error))
            except RequestFailed as refusal:
                self.errors.append(f"an order was refused: {refusal}")
            except Exception as error:
                self.errors.append(f"{type(error).__name__}: {error}")
                raise

    @staticmethod
    def _is_over(promise: Promise, ask: Callable[[Promise], bool]) -> bool:
        """Ask now and then, so that some are cancelled before, some after they are confirmed."""
        return random.random() < 0.5 and ask(promise)


def all_at_once(customers: Sequence[Customer], act: Callable[[Customer], T]) -> list[T]:
    """Each customer does this in a thread of their own, starting together."""
    results: list[T] = []
    failed: list[BaseException] = []
    start = threading.Barrier(len(customers))

    def work(customer: Customer) -> None:
        try:
            start.wait(timeout=60)
            results.append(act(customer))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=[customer], daemon=True) for customer in customers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return results
