"""A customer of the API, for load tests and for tests of the whole system."""

from __future__ import annotations

import http.client
import json
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

FINAL = frozenset({"rejected", "delivered", "cancelled", "refunded"})
POLL_SECONDS = 0.02


class RequestFailed(Exception):
    """The shop answered with a problem; `status` and `code` say which."""

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        self.status = status
        self.code = problem.get("code", "")
        super().__init__(f"{status} {self.code}: {problem.get('detail', '')}")


class WaitedTooLong(Exception):
    """The order did not get into the state in time."""


@dataclass(slots=True)
class Client:
    """One customer with one connection; not to be shared by threads. `timeout` in seconds."""

    base_url: str
    username: str = "demo"
    password: str = "demo"  # noqa: S105 (the login that a demo prints)
    token: str = ""
    timeout: float = 30
    _connection: http.client.HTTPConnection | None = field(default=None, repr=False)

    def request(
        self, method: str, path: str, body: Any = None, *, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Ask the API and return status and answer. Raises OSError or http.client.HTTPException without an answer."""
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

    def _ask(self, method: str, path: str, body: Any = None, **headers: str) -> dict[str, Any]:
        status, answer = self.request(method, path, body, headers={k.replace("_", "-"): v for k, v in headers.items()})
        if status >= 400:
            raise RequestFailed(status, answer)
        return answer

    def sign_in(self) -> Client:
        self.token = self._ask("POST", "token", {"username": self.username, "password": self.password})["access_token"]
        return self

    def products(self) -> list[dict[str, Any]]:
        """The first page of the catalogue."""
        items: list[dict[str, Any]] = self._ask("GET", "products?limit=100")["items"]
        return items

    def place(self, *wanted: tuple[str, int], coupon: str | None = None, key: str | None = None) -> str:
        """Place an order and return its number. Raises RequestFailed."""
        body: dict[str, Any] = {"lines": [{"sku": sku, "quantity": quantity} for sku, quantity in wanted]}
        if coupon:
            body["coupon"] = coupon
        return str(self._ask("POST", "orders", body, Idempotency_Key=key or uuid4().hex)["number"])

    def order(self, number: str) -> dict[str, Any]:
        return self._ask("GET", f"orders/{number}")

    def events(self, number: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self._ask("GET", f"orders/{number}/events")["items"]
        return items

    def pay(self, number: str, payment_token: str = "tok_ok") -> None:  # noqa: S107 (a name of the sandbox's)
        self._ask("POST", f"orders/{number}/pay", {"payment_token": payment_token})

    def cancel(self, number: str) -> None:
        self._ask("POST", f"orders/{number}/cancel", {})

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
