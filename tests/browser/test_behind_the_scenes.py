"""The swim lanes of an order in a real browser: they grow by themselves, and lead to the state at any event."""

from __future__ import annotations

import re
from collections.abc import Callable
from uuid import uuid4

import pytest
from playwright.sync_api import Page, expect

WINDOWS = [(1440, "light"), (360, "dark")]


def sign_in(page: Page, name: str) -> None:
    page.goto("/sign-in/")
    page.get_by_label("User name").fill(name)
    page.get_by_label("Password").fill(name)
    page.get_by_role("main").get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()


def headers(page: Page) -> dict[str, str]:
    answer = page.request.post("/api/v1/token", data={"username": "demo", "password": "demo"})
    return {"Authorization": f"Bearer {answer.json()['access_token']}", "Idempotency-Key": uuid4().hex}


def place(page: Page) -> str:
    """Place an order as `demo` and return its number."""
    sku = page.request.get("/api/v1/products").json()["items"][0]["sku"]
    data = {"lines": [{"sku": sku, "quantity": 1}]}
    answer = page.request.post("/api/v1/orders", data=data, headers=headers(page))
    assert answer.status == 202, answer.text()
    return str(answer.json()["number"])


def pay(page: Page, number: str) -> None:
    answer = page.request.post(f"/api/v1/orders/{number}/pay", data={"payment_token": "tok_ok"}, headers=headers(page))
    assert answer.ok, answer.text()


@pytest.mark.parametrize("width, scheme", WINDOWS)
def test_swim_lanes_grow_by_themselves_and_lead_to_the_state_at_an_event(
    new_page: Callable[..., Page], width: int, scheme: str
) -> None:
    page = new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    sign_in(page, "demo")
    number = place(page)
    page.goto(f"/orders/{number}/")
    page.get_by_role("link", name="Behind the scenes").click()
    waits = page.get_by_role("region", name="What is it waiting for?")
    expect(waits).to_contain_text("The payment, until")
    pay(page, number)
    expect(waits).to_contain_text("Shipping, by an operator.")
    lanes = page.locator("svg.lanes")
    expect(lanes.get_by_role("link", name=re.compile("^order.paid, "))).to_be_visible()

    confirmed = lanes.get_by_role("link", name=re.compile("^order.confirmed, "))
    confirmed.focus()
    page.keyboard.press("Enter")
    state = page.get_by_role("region", name="The order after order.confirmed")
    expect(state.locator(".changed").first).to_contain_text(re.compile("placed.*confirmed"))
    expect(confirmed).to_be_in_viewport()
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_swim_lanes_can_be_walked_without_javascript(new_page: Callable[..., Page]) -> None:
    page = new_page(java_script_enabled=False)
    sign_in(page, "demo")
    number = place(page)
    page.goto(f"/orders/{number}/behind/")
    page.get_by_role("link", name="order.placed", exact=True).click()
    expect(page.get_by_role("region", name="The order after order.placed")).to_contain_text("not placed")
    page.get_by_role("link", name="Latest").click()
    expect(page).to_have_url(re.compile(rf"/orders/{number}/behind/$"))


def test_operator_gets_from_the_order_in_the_back_office_to_its_swim_lanes_and_back(
    new_page: Callable[..., Page],
) -> None:
    page = new_page(viewport={"width": 1440, "height": 900})
    number = place(page)
    sign_in(page, "admin")
    page.goto(f"/admin/orders/order/{number}/change/")
    page.get_by_role("link", name="Behind the scenes").click()
    expect(page.locator("svg.lanes")).to_contain_text("order.placed")
    page.get_by_role("link", name=f"Order {number} in the back office").click()
    expect(page).to_have_url(re.compile(rf"/admin/orders/order/{number}/change/$"))
