"""The customers of each scenario, for Locust: what `locust -f` is given. Which come is said on its command line.

`LOADTEST_PLAN` names a file with what was prepared for them (see staging.py), `LOADTEST_RECORDING` one that takes
what they do. Locust patches this process with gevent, so nothing of Django comes in here.
"""

from __future__ import annotations

import html
import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Collection
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import gevent
from locust import FastHttpUser, User, between, constant_pacing, events, task
from locust.contrib.fasthttp import ResponseContextManager
from locust.env import Environment
from locust.exception import StopUser

from lab.client import order_body
from lab.harness import ROOT
from lab.load.recording import LATER, OVERLOADED, PLACE, Recorder

PLAN: dict[str, Any] = json.loads(Path(os.environ["LOADTEST_PLAN"]).read_text())
RECORDER = Recorder(Path(os.environ["LOADTEST_RECORDING"]))
FLUSH_SECONDS = 1.0
FOLLOW_SECONDS = 0.3  # between two looks at an order that is on its way
PATIENCE_SECONDS = 60
HEAD_START = 0.2  # seconds, at most
LOOKS = 10  # at the page of an order that is not decided yet
PRODUCT_LINK = re.compile(r'href="/products/([^/"]+)/"')
HIDDEN = re.compile(r'<input type="hidden" name="(\w+)" value="([^"]*)"')
ORDER_PAGE = re.compile(r"/orders/([0-9A-Z]+)/$")
STATUS = re.compile(r'data-status="(\w+)"')
ADDRESS = {"name": "Ann Lee", "street": "Quay 1", "postal_code": "20457", "city": "Hamburg", "country": "DE"}

_next = count()


# --- Events of Locust ------------------------------------------------------------------------------------------------


@events.request.add_listener
def on_request(
    name: str, response_time: float, exception: Exception | None, start_time: float, **others: object
) -> None:
    seconds = (response_time or 0.0) / 1000
    failure = "" if exception is None else str(exception) or repr(exception)
    RECORDER.write("request", start_time + seconds, seconds, name, failure)


@events.test_start.add_listener
def on_start(environment: Environment, **others: object) -> None:
    RECORDER.write("started_at", time.time())
    gevent.spawn(keep_up, environment)


@events.test_stop.add_listener
def on_stop(**others: object) -> None:
    RECORDER.write("stopped_at", time.time())
    RECORDER.flush()


def keep_up(environment: Environment) -> None:
    """Write out what has come together, and how many customers there are, until the run is over."""
    while environment.runner is not None and environment.runner.state not in ("stopped", "cleanup"):
        RECORDER.write("users", time.time(), environment.runner.user_count)
        RECORDER.flush()
        gevent.sleep(FLUSH_SECONDS)


# --- How customers ask -----------------------------------------------------------------------------------------------


class Customer(FastHttpUser):
    """Somebody with an account. People of the plan are shared when there are more users than people."""

    abstract = True
    connection_timeout = 30.0
    network_timeout = 30.0

    def on_start(self) -> None:
        self.customer_id, self.username, self.token = PLAN["people"][next(_next) % len(PLAN["people"])]

    def ask(
        self, method: str, path: str, body: Any = None, *, name: str, refusals: Collection[str] = (), key: str = ""
    ) -> tuple[int, dict[str, Any]]:
        """Ask the API; status and answer. Codes of `refusals` are answers like others, and stand under names of theirs.

        `overloaded` is what the shop is meant to say when it cannot keep up, so it is no failure either.
        """
        headers = {"Authorization": f"Bearer {self.token}"} | ({"Idempotency-Key": key} if key else {})
        with self.client.request(
            method, f"/api/v1/{path}", name=name, headers=headers, json=body, catch_response=True
        ) as response:
            try:
                answer = json.loads(response.text or "{}")
            except ValueError:  # a server in trouble may say anything
                answer = {}
            code = answer.get("code", "")
            if code == OVERLOADED or code in refusals:
                response.request_meta["name"] = f"{name}: {LATER if code == OVERLOADED else f'refused, {code}'}"
                response.success()
            elif response.status_code >= 400:
                response.failure(f"{response.status_code} {code or response.text[:200]}")
        return response.status_code, answer

    def place(self, items: dict[str, int], *, coupon: str | None = None, refusals: Collection[str] = ()) -> str | None:
        """Place an order; its number, or None if it was not accepted."""
        body = order_body(items, coupon)
        status, answer = self.ask("POST", "orders", body, name=PLACE, refusals=refusals, key=uuid4().hex)
        if status != 202:
            return None
        RECORDER.write("order", answer["number"])
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

    def pay(self, number: str, refusals: Collection[str] = ()) -> None:
        self.ask("POST", f"orders/{number}/pay", {"payment_token": "tok_ok"}, name="pay", refusals=refusals)


def some_products(most: int) -> dict[str, int]:
    return {sku: random.randint(1, 2) for sku in random.sample(PLAN["skus"], random.randint(1, most))}


# --- Who comes -------------------------------------------------------------------------------------------------------


class Shopper(FastHttpUser):
    """Looks around without an account: shelves, products, their pictures; asks for what is known only if it changed."""

    wait_time = between(0.2, 1.0)

    def on_start(self) -> None:
        self.etags: dict[str, str] = {}
        self.products: list[str] = []

    def look(self, path: str, name: str) -> str:
        etag = self.etags.get(path)
        headers = {"If-None-Match": etag} if etag else {}
        with self.client.get(path, name=name, headers=headers, catch_response=True) as response:
            if response.status_code not in (200, 304):
                response.failure(f"{response.status_code} instead of 200 or 304")
                return ""
            if response.status_code == 304:
                response.request_meta["name"] = f"{name}: not modified (304)"
            elif etag := response.headers.get("ETag"):
                self.etags[path] = etag
            return response.text or ""

    @task(4)
    def shelves(self) -> None:
        path = random.choice(["/", "/?sort=price", *(f"/?category={slug}" for slug in PLAN["categories"])])
        self.products = PRODUCT_LINK.findall(self.look(path, "page of products")) or self.products

    @task(5)
    def product(self) -> None:
        sku = random.choice(self.products or PLAN["skus"])
        self.look(f"/products/{sku}/", "page of a product")

    @task(2)
    def picture(self) -> None:
        self.look(f"/pictures/{random.choice(PLAN['catalogue'])}.svg", "picture of a product")

    @task(2)
    def availability(self) -> None:
        self.look(f"/api/v1/products/{random.choice(PLAN['catalogue'])}", "product as JSON")


class Regular(Customer):
    """Places one order a second, whatever becomes of it."""

    wait_time = constant_pacing(1.0)

    @task
    def order(self) -> None:
        self.place(some_products(3))


class Buyers(User):
    """All buyers of a flash sale: one user of Locust that starts a program for them, and reports for each."""

    fixed_count = 1

    @task
    def rush(self) -> None:
        url = urlsplit(self.host or "")
        plan = Path(os.environ["LOADTEST_PLAN"]).with_name("buyers.json")
        tokens = [token for _, _, token in PLAN["people"]]
        plan.write_text(json.dumps({"host": url.hostname, "port": url.port, "sku": PLAN["rare"], "tokens": tokens}))
        command = [sys.executable, "-m", "lab.load.buyers", str(plan)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        try:
            for line in process.stdout or ():
                self.report(json.loads(line))
        finally:
            process.kill()
            process.wait()
        # A user cannot wait for the end of all users.
        if (runner := self.environment.runner) is not None:
            gevent.spawn(runner.stop)
        raise StopUser

    def report(self, answer: dict[str, Any]) -> None:
        status, name, failure = answer["status"], PLACE, answer["failure"]
        if status == 202:
            RECORDER.write("order", answer["number"])
        elif answer["code"] == OVERLOADED:
            name = f"{PLACE}: {LATER}"
        elif not failure:
            failure = f"{status} {answer['code']}"
        self.environment.events.request.fire(
            request_type="POST",
            name=name,
            response_time=answer["seconds"] * 1000,
            response_length=0,
            exception=Exception(failure) if failure else None,
            context={},
            start_time=answer["answered_at"] - answer["seconds"],
        )


class CouponHunter(Customer):
    """Wants the coupon on every order."""

    wait_time = between(0.0, 0.2)

    @task
    def order(self) -> None:
        self.place({random.choice(PLAN["skus"]): 1}, coupon=PLAN["coupon"], refusals=("coupon_used_up",))


class Waverer(Customer):
    """Pays and cancels an order in the same moment: one of the two has to win."""

    wait_time = between(0.1, 0.5)

    @task
    def order(self) -> None:
        number = self.place({random.choice(PLAN["skus"]): 1})
        if number is None or self.follow(number) != "confirmed":
            return
        # A cancellation is decided at once and a payment when the gateway has answered, so it gets a start.
        paying = gevent.spawn(self.pay, number, ("order_closed", "conflict"))
        gevent.joinall([paying, gevent.spawn(self.cancel, number, random.uniform(0.0, HEAD_START))])

    def cancel(self, number: str, delay: float) -> None:
        gevent.sleep(delay)
        self.ask("POST", f"orders/{number}/cancel", {}, name="cancel", refusals=("cannot_cancel_paid", "conflict"))


class Program(Customer):
    """A program that uses the API: signs in, reads, orders, follows, pays; and repeats a request to be sure."""

    wait_time = between(0.5, 1.5)

    def on_start(self) -> None:
        super().on_start()
        credentials = {"username": self.username, "password": PLAN["password"]}
        _, answer = self.ask("POST", "token", credentials, name="sign in")
        self.token = answer.get("access_token", self.token)

    @task(3)
    def read(self) -> None:
        _, page = self.ask("GET", "products?limit=10", name="list products")
        if cursor := page.get("next_cursor"):
            self.ask("GET", f"products?limit=10&cursor={cursor}", name="list products")
        self.ask("GET", f"products/{random.choice(PLAN['catalogue'])}", name="product as JSON")

    @task(2)
    def order(self) -> None:
        number = self.place(some_products(3))
        if number and self.follow(number) == "confirmed":
            self.pay(number)
            self.ask("GET", f"orders/{number}/events", name="history of an order")

    @task(1)
    def repeat(self) -> None:
        body, key = order_body(some_products(2)), uuid4().hex
        answers = [self.ask("POST", "orders", body, name=PLACE, key=key) for _ in range(2)]
        numbers = {answer["number"] for status, answer in answers if status == 202}
        for number in numbers:
            RECORDER.write("order", number)
        if len(numbers) > 1:
            failure = f"one key has made the orders {' and '.join(sorted(numbers))}"
            RECORDER.write("request", time.time(), 0.0, PLACE, failure)

    @task(1)
    def orders(self) -> None:
        self.ask("GET", "orders?limit=10", name="list orders")


# --- The mixed workload: all kinds together, with time to think ------------------------------------------------------


class ThinkingShopper(Shopper):
    weight = 6
    wait_time = between(1.0, 5.0)


class ThinkingProgram(Program):
    weight = 1
    wait_time = between(2.0, 6.0)


class PageCustomer(Customer):
    """Signs in and orders through the pages; most pay, some cancel, some go away."""

    weight = 3
    wait_time = between(1.0, 5.0)

    def on_start(self) -> None:
        super().on_start()
        form = self.page("/sign-in/", "sign-in page")
        who = {"username": self.username, "password": PLAN["password"]}
        self.send("/sign-in/", {**hidden(form), **who}, "sign in")

    @task(4)
    def browse(self) -> None:
        self.page("/", "page of products, signed in")
        self.think()
        self.page(f"/products/{random.choice(PLAN['catalogue'])}/", "page of a product, signed in")

    @task(3)
    def order(self) -> None:
        sku = random.choice(PLAN["skus"])
        form = self.page(f"/products/{sku}/", "page of a product, signed in")
        self.think()
        self.send(f"/products/{sku}/add/", {**hidden(form), "quantity": "1"}, "put into the cart")
        self.think()
        form = self.page("/checkout/", "checkout page")
        self.think()
        _, url = self.send("/checkout/", {**hidden(form), **ADDRESS, "coupon": "", "action": "place"}, "check out")
        if (found := ORDER_PAGE.search(url)) is not None:
            RECORDER.write("order", found[1])
            self.settle(found[1])

    @task(1)
    def inbox(self) -> None:
        self.page("/inbox/", "inbox")
        self.page("/orders/", "page of orders")

    def settle(self, number: str) -> None:
        """Wait for the order's confirmation on its page, then pay, cancel, or leave it at that."""
        for _ in range(LOOKS):
            page = self.page(f"/orders/{number}/", "page of an order")
            status = STATUS.search(page)
            if status is not None and status[1] != "placed":
                break
            self.think()
        self.think()
        choice = random.choice(["pay", "pay", "pay", "cancel", ""])
        if choice:
            fields = hidden(page) | ({"token": "tok_ok"} if choice == "pay" else {})
            self.send(f"/orders/{number}/{choice}/", fields, f"{choice} on the page")

    def think(self) -> None:
        gevent.sleep(random.uniform(0.5, 2.0))

    def page(self, path: str, name: str) -> str:
        with self.client.get(path, name=name, catch_response=True) as response:
            check(response, name)
            return response.text or ""

    def send(self, path: str, fields: dict[str, str], name: str) -> tuple[str, str]:
        """Send a form; the page that it leads to, and its address."""
        with self.client.post(path, fields, name=name, catch_response=True) as response:
            check(response, name)
            return response.text or "", response.url or ""


def check(response: ResponseContextManager, name: str) -> None:
    if response.status_code == 503 and response.headers and response.headers.get("Retry-After"):
        response.request_meta["name"] = f"{name}: {LATER}"
        response.success()
    elif response.status_code != 200:
        response.failure(f"{response.status_code} instead of 200")


def hidden(page: str) -> dict[str, str]:
    """The hidden fields of a page's forms; of one name, the last."""
    return {name: html.unescape(value) for name, value in HIDDEN.findall(page)}
