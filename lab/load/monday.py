"""Monday morning: people who look around, people who order through the pages, and programs, all with time to think."""

from __future__ import annotations

import html
import random
import re

import gevent
from locust import between, task
from locust.contrib.fasthttp import ResponseContextManager

from lab.load.customers import PLAN, RECORDER, Customer
from lab.load.promises import LATER
from lab.load.users import Program, Shopper

HIDDEN = re.compile(r'<input type="hidden" name="(\w+)" value="([^"]*)"')
ORDER_PAGE = re.compile(r"/orders/([0-9A-Z]+)/$")
STATUS = re.compile(r'data-status="(\w+)"')
ADDRESS = {"name": "Ann Lee", "street": "Quay 1", "postal_code": "20457", "city": "Hamburg", "country": "DE"}
LOOKS = 10  # at the page of an order that is not decided yet


class MondayShopper(Shopper):
    weight = 6
    wait_time = between(1.0, 5.0)


class MondayProgram(Program):
    weight = 1
    wait_time = between(2.0, 6.0)


class MondayCustomer(Customer):
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
        found = ORDER_PAGE.search(url)
        if found is None:
            return
        RECORDER.order(found[1])
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
        wish = random.choice(["pay", "pay", "pay", "cancel", ""])
        if wish == "pay":
            self.send(f"/orders/{number}/pay/", {**hidden(page), "token": "tok_ok"}, "pay on the page")
        elif wish == "cancel":
            self.send(f"/orders/{number}/cancel/", hidden(page), "cancel on the page")

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
