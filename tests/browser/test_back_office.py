"""An operator in the back office: finds an order, ships it, sees what that set off, receives stock, makes a coupon."""

from __future__ import annotations

import re
from collections.abc import Callable
from uuid import uuid4

import pytest
from playwright.sync_api import Page, expect

from loadtest.client import Client


@pytest.fixture
def paid_order(shop_url: str) -> str:
    """The number of an order that waits for an operator."""
    client = Client(shop_url).sign_in()
    number = client.place(("COF-008", 1))
    client.wait_for(number, "confirmed")
    client.pay(number)
    client.wait_for(number, "paid")
    return number


def log_in(page: Page, name: str) -> None:
    page.goto("/admin/")
    page.get_by_label("Username").fill(name)
    page.get_by_label("Password").fill(name)
    page.get_by_role("button", name="Log in").click()


def test_operator_ships_an_order_and_looks_behind_the_scenes(new_page: Callable[..., Page], paid_order: str) -> None:
    page = new_page(viewport={"width": 1440, "height": 900})
    log_in(page, "admin")
    page.goto("/admin/orders/order/")
    page.get_by_placeholder("Order number, e-mail or user name").fill(paid_order)
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(rf"/{paid_order}/change/$"))

    page.locator("[popovertarget=ask-ship]").first.click()
    page.get_by_label("Tracking number").fill("TRACK-1")
    page.locator("#ask-ship button[type=submit]").click()

    expect(page.locator(".bo-head")).to_contain_text(re.compile("shipped", re.IGNORECASE))
    page.get_by_role("link", name="Behind the scenes").click()
    picture = page.locator("svg[role=img], main svg").first
    for event in ("order.placed", "inventory.stock_reserved", "payment.captured", "order.shipped"):
        expect(picture).to_contain_text(event)


def test_operator_receives_stock_and_makes_a_coupon(new_page: Callable[..., Page]) -> None:
    page = new_page(viewport={"width": 1440, "height": 900})
    log_in(page, "admin")
    page.goto("/admin/inventory/product/?q=COF-010")
    page.get_by_role("link", name="COF-010").first.click()
    page.wait_for_url("**/change/**")
    page.goto(page.url.partition("/change/")[0] + "/receive-stock/")
    page.get_by_label("Quantity").fill("7")
    page.get_by_label("Reason").fill("Delivery of the morning")
    page.get_by_role("button", name="Receive").click()
    expect(page.get_by_text("Delivery of the morning").first).to_be_visible()

    code = f"BROWSER-{uuid4().hex[:6].upper()}"
    page.goto("/admin/coupons/coupon/add/")
    page.locator("[name=code]").fill(code)
    page.locator("[name=kind]").select_option("percentage")
    page.locator("[name=value]").fill("15")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("link", name=code).first).to_be_visible()


@pytest.mark.parametrize(
    "name, may_see, may_not_see",
    [
        ("viewer", "/admin/orders/order/", "/admin/coupons/coupon/add/"),
        ("support", "/admin/orders/order/", "/admin/inventory/product/add/"),
        ("stock", "/admin/inventory/product/", "/admin/auth/user/"),
    ],
)
def test_colleagues_see_what_is_theirs(
    new_page: Callable[..., Page], shop_url: str, name: str, may_see: str, may_not_see: str
) -> None:
    page = new_page(viewport={"width": 1440, "height": 900})
    log_in(page, name)
    page.goto(may_see)
    expect(page.locator("#nav-sidebar, nav").first).to_be_visible()
    links = page.locator(f"a[href='{may_not_see}']")
    expect(links).to_have_count(0)
    assert page.request.get(f"{shop_url}{may_not_see}").status == 403
