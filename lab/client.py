"""A customer of the API, for the laboratory and for tests of the whole system."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit
from uuid import uuid4

from lab.oracle import Ledger, Promise
from sharding import numbers

FINAL = frozenset({"rejected", "delivered", "cancelled", "refunded"})
POLL_SECONDS = 0.05
PAUSE_SECONDS = 0.2  # before a request is repeated
INSIST_SECONDS = 60
REQUEST_SECONDS = 10
UNANSWERED = (OSError, http.client.HTTPException, ValueError)  # ValueError: half an answer


class RequestFailed(Exception):
    """The shop answered with a problem; `status` and `code` say which."""

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        self.status = status
        self.code = problem.get("code", "")
        super().__init__(f"{status} {self.code}: {problem.get('detail', '')}")


class WaitedTooLong(Exception):
    """The order did not get into the state in time."""


class GaveUp(Exception):
    """There was no answer in time; nobody knows whether the request had its effect."""


def order_body(items: Mapping[str, int], coupon: str | None = None) -> dict[str, Any]:
    """What an order looks like in JSON."""
    lines = [{"sku": sku, "quantity": quantity} for sku, quantity in items.items()]
    return {"lines": lines} | ({"coupon": coupon} if coupon else {})


@dataclass(slots=True)
class Client:
    """One customer with one connection; not to be shared by threads. `timeout` in seconds.

    With `insist` a request that gets no answer, or a 429 or 5xx, is repeated for so many seconds before it raises
    GaveUp.
    """

    base_url: str
    username: str = "demo"
    password: str = "demo"  # noqa: S105 (the login that a demo prints)
    token: str = ""
    timeout: float = 30
    insist: float = 0
    _connection: http.client.HTTPConnection | None = field(default=None, repr=False)

    def request(
        self, method: str, path: str, body: Any = None, *, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Ask the API once; status and answer. Raises OSError or http.client.HTTPException without an answer."""
        url = urlsplit(self.base_url)
        if self._connection is None:
            self._connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=self.timeout)
        all_headers = {"Content-Type": "application/json", **(headers or {})}
        if self.token:
            all_headers["Authorization"] = f"Bearer {self.token}"
        try:
            self._connection.request(method, f"/api/v1/{path}", None if body is None else json.dumps(body), all_headers)
            response = self._connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException):
            self.close()
            raise
        return response.status, json.loads(answer) if answer else {}

    def ask(self, method: str, path: str, body: Any = None, *, key: str | None = None) -> dict[str, Any]:
        """Ask until there is an answer that stays. Raises RequestFailed, GaveUp; see `request` without `insist`."""
        headers = {"Idempotency-Key": key} if key else {}
        deadline = time.monotonic() + self.insist
        while True:
            try:
                status, answer = self.request(method, path, body, headers=headers)
            except UNANSWERED:
                if not self.insist:
                    raise
                status, answer = 0, {}
            passing = status in (0, 429) or status >= 500 or answer.get("code") == "idempotency_in_flight"
            if not (passing and self.insist):
                if status >= 400:
                    raise RequestFailed(status, answer)
                return answer
            if time.monotonic() > deadline:
                raise GaveUp(f"{method} {path}: {status} {answer}")
            time.sleep(PAUSE_SECONDS)

    def sign_in(self) -> Self:
        self.token = self.ask("POST", "token", {"username": self.username, "password": self.password})["access_token"]
        return self

    def products(self) -> list[dict[str, Any]]:
        """The first page of the catalogue."""
        items: list[dict[str, Any]] = self.ask("GET", "products?limit=100")["items"]
        return items

    def place(self, *wanted: tuple[str, int], coupon: str | None = None, key: str | None = None) -> str:
        """Place an order and return its number. Raises RequestFailed."""
        return str(self.ask("POST", "orders", order_body(dict(wanted), coupon), key=key or uuid4().hex)["number"])

    def order(self, number: str) -> dict[str, Any]:
        return self.ask("GET", f"orders/{number}")

    def events(self, number: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self.ask("GET", f"orders/{number}/events")["items"]
        return items

    def pay(self, number: str, payment_token: str = "tok_ok") -> None:  # noqa: S107 (a name of the sandbox's)
        self.ask("POST", f"orders/{number}/pay", {"payment_token": payment_token})

    def cancel(self, number: str) -> None:
        self.ask("POST", f"orders/{number}/cancel", {})

    def wait_for(self, number: str, *statuses: str, seconds: float = 20) -> dict[str, Any]:
        """Ask until the order has one of these statuses; raises WaitedTooLong, at once if it can never have them."""
        deadline = time.monotonic() + seconds
        while True:
            order = self.order(number)
            if order["status"] in statuses:
                return order
            if order["status"] in FINAL or time.monotonic() > deadline:
                raise WaitedTooLong(f"order {number} is {order['status']}, not {' or '.join(statuses)}: {order}")
            time.sleep(POLL_SECONDS)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


@dataclass(slots=True)
class Customer:
    """A customer who insists on answers, and whose promises are kept in a ledger."""

    url: str
    customer_id: int
    token: str
    ledger: Ledger
    insist: float = INSIST_SECONDS
    client: Client = field(init=False)

    def __post_init__(self) -> None:
        self.client = Client(self.url, token=self.token, timeout=REQUEST_SECONDS, insist=self.insist)
        self.ledger.customers.add(self.customer_id)

    def place(
        self, items: dict[str, int], *, coupon: str | None = None, key: str | None = None, may_be_rejected: bool = False
    ) -> Promise:
        """Place an order, again and again under the same key until there is an answer. Raises RequestFailed, GaveUp."""
        try:
            answer = self.client.ask("POST", "orders", order_body(items, coupon), key=key or uuid4().hex)
        except (GaveUp, *UNANSWERED):
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
            self.client.pay(numbers.to_text(promise.order_id))
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
            self.client.cancel(numbers.to_text(promise.order_id))
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
        return str(self.client.order(numbers.to_text(promise.order_id))["status"])

    def wait_for(self, promise: Promise, *statuses: str, seconds: float = 30) -> None:
        """Raises WaitedTooLong if the order does not get into one of these states."""
        self.client.wait_for(numbers.to_text(promise.order_id), *statuses, seconds=seconds)
