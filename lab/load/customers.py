"""What all customers have in common, in the process of Locust: how they ask, and how it is written down.

`LOADTEST_PLAN` names a file with what was prepared for them (see preparing.py), `LOADTEST_RECORDING` one that takes
what they do. Locust patches this process with gevent, so nothing of Django comes in here.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Collection
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import gevent
from locust import FastHttpUser, events
from locust.contrib.fasthttp import ResponseContextManager
from locust.env import Environment

from lab.load.promises import LATER, OVERLOADED, PLACE
from lab.load.recording import Recorder

PLAN: dict[str, Any] = json.loads(Path(os.environ["LOADTEST_PLAN"]).read_text())
RECORDER = Recorder(Path(os.environ["LOADTEST_RECORDING"]))
FLUSH_SECONDS = 1.0
FOLLOW_SECONDS = 0.3  # between two looks at an order that is on its way
PATIENCE_SECONDS = 60

_next = count()


# --- What Locust tells us --------------------------------------------------------------------------------------------


@events.request.add_listener
def on_request(
    name: str, response_time: float, exception: Exception | None, start_time: float, **others: object
) -> None:
    seconds = (response_time or 0.0) / 1000
    RECORDER.request(
        start_time + seconds, seconds, name, "" if exception is None else str(exception) or repr(exception)
    )


@events.test_start.add_listener
def on_start(environment: Environment, **others: object) -> None:
    RECORDER.started(time.time())
    gevent.spawn(keep_up, environment)


@events.test_stop.add_listener
def on_stop(**others: object) -> None:
    RECORDER.stopped(time.time())


def keep_up(environment: Environment) -> None:
    """Write out what has come together, and how many customers there are, until the run is over."""
    while environment.runner is not None and environment.runner.state not in ("stopped", "cleanup"):
        RECORDER.users(time.time(), environment.runner.user_count)
        RECORDER.flush()
        gevent.sleep(FLUSH_SECONDS)


# --- How a customer asks ---------------------------------------------------------------------------------------------


class Customer(FastHttpUser):
    """Somebody with an account. People of the plan are shared when there are more users than people."""

    abstract = True
    connection_timeout = 30.0
    network_timeout = 30.0

    def on_start(self) -> None:
        self.customer_id, self.username, self.token = PLAN["people"][next(_next) % len(PLAN["people"])]

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        name: str,
        refusals: Collection[str] = (),
        key: str | None = None,
    ) -> tuple[int, dict[str, Any]]:
        """Ask the API; status and answer. Codes of `refusals` are answers like others, and stand under names of theirs.

        `overloaded` is what the shop is meant to say when it cannot keep up, so it is no failure either.
        """
        headers = {"Authorization": f"Bearer {self.token}"} | ({"Idempotency-Key": key} if key else {})
        arguments: dict[str, Any] = {} if body is None else {"json": body}
        with self.client.request(
            method, f"/api/v1/{path}", name=name, headers=headers, catch_response=True, **arguments
        ) as response:
            answer: dict[str, Any] = _json(response)
            code = answer.get("code", "")
            if code == OVERLOADED:
                response.request_meta["name"] = f"{name}: {LATER}"
                response.success()
            elif code in refusals:
                response.request_meta["name"] = f"{name}: refused, {code}"
                response.success()
            elif response.status_code >= 400:
                response.failure(f"{response.status_code} {code or response.text[:200]}")
        return response.status_code, answer

    def place(self, wanted: dict[str, int], *, coupon: str | None = None, refusals: Collection[str] = ()) -> str | None:
        """Place an order; its number, or None if it was not accepted."""
        body: dict[str, Any] = {"lines": [{"sku": sku, "quantity": quantity} for sku, quantity in wanted.items()]}
        if coupon:
            body["coupon"] = coupon
        status, answer = self.ask("POST", "orders", body, name=PLACE, refusals=refusals, key=uuid4().hex)
        if status != 202:
            return None
        RECORDER.order(answer["number"])
        return str(answer["number"])

    def follow(self, number: str) -> str:
        """Look at an order until it is decided; its status, which is `placed` if that took too long."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            _, order = self.ask("GET", f"orders/{number}", name="look at an order")
            status = str(order.get("status", "placed"))
            if status != "placed" or time.monotonic() > deadline:
                return status
            gevent.sleep(FOLLOW_SECONDS)


def _json(response: ResponseContextManager) -> dict[str, Any]:
    """The answer, if it is JSON; a server in trouble may say anything."""
    try:
        answer = json.loads(response.text or "{}")
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def some_products(most: int) -> dict[str, int]:
    return {sku: random.randint(1, 2) for sku in random.sample(PLAN["skus"], random.randint(1, most))}
