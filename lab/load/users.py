"""The customers of each scenario, for Locust. What they have in common is in customers.py."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import gevent
from locust import FastHttpUser, User, between, constant_pacing, task
from locust.exception import StopUser

from lab.load.customers import PLAN, RECORDER, Customer, some_products
from lab.load.promises import LATER, OVERLOADED, PLACE
from lab.stack import ROOT

HEAD_START = 0.2  # seconds, at most
PRODUCT_LINK = re.compile(r'href="/products/([^/"]+)/"')


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
        sku = random.choice(PLAN["catalogue"])
        self.look(f"/pictures/{sku}.svg", "picture of a product")

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
    """The crowd of a flash sale: one user of Locust that starts a program for all of them, and reports for each."""

    fixed_count = 1

    @task
    def rush(self) -> None:
        url = urlsplit(self.host or "")
        plan = Path(os.environ["LOADTEST_PLAN"]).with_name("crowd.json")
        tokens = [token for _, _, token in PLAN["people"]]
        rush = {"host": url.hostname, "port": url.port, "sku": PLAN["rare"], "tokens": tokens, "seconds": 1.0}
        plan.write_text(json.dumps(rush))
        command = [sys.executable, "-m", "lab.load.crowd", str(plan)]
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
            RECORDER.order(answer["number"])
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
        wanted = {random.choice(PLAN["skus"]): 1}
        self.place(wanted, coupon=PLAN["coupon"], refusals=("coupon_used_up",))


class Waverer(Customer):
    """Pays and cancels an order in the same moment: one of the two has to win."""

    wait_time = between(0.1, 0.5)

    @task
    def order(self) -> None:
        number = self.place({random.choice(PLAN["skus"]): 1})
        if number is None or self.follow(number) != "confirmed":
            return
        # A cancellation is decided at once and a payment when the gateway has answered, so it gets a start.
        sides = [gevent.spawn(self.pay, number), gevent.spawn(self.cancel, number, random.uniform(0.0, HEAD_START))]
        gevent.joinall(sides)

    def pay(self, number: str) -> None:
        refusals = ("order_closed", "conflict")
        self.ask("POST", f"orders/{number}/pay", {"payment_token": "tok_ok"}, name="pay", refusals=refusals)

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
            self.ask("POST", f"orders/{number}/pay", {"payment_token": "tok_ok"}, name="pay")
            self.ask("GET", f"orders/{number}/events", name="history of an order")

    @task(1)
    def repeat(self) -> None:
        body = {"lines": [{"sku": sku, "quantity": quantity} for sku, quantity in some_products(2).items()]}
        key = uuid4().hex
        answers = [self.ask("POST", "orders", body, name=PLACE, key=key) for _ in range(2)]
        numbers = {answer["number"] for status, answer in answers if status == 202}
        for number in numbers:
            RECORDER.order(number)
        if len(numbers) > 1:
            RECORDER.request(time.time(), 0.0, PLACE, f"one key has made the orders {' and '.join(sorted(numbers))}")

    @task(1)
    def orders(self) -> None:
        self.ask("GET", "orders?limit=10", name="list orders")
