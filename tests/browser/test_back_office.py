"""An operator in the back office: finds an order, ships it, sees what that set off, receives stock, makes a coupon."""

from __future__ import annotations

import re
from collections.abc import Callable
from uuid import uuid4

import pytest
from playwright.sync_api import Page, expect

from lab.client import Client
from tests.browser.test_shop import is_within_window

WINDOWS = [(1280, "light"), (360, "dark"), (1280, "dark"), (360, "light")]
# Of each text of the picture: what it says, its size in pixels, and whether it is inside the box that it stands in.
TEXTS = """picture => [...picture.querySelectorAll("text")].map(text => {
    const scale = picture.getBoundingClientRect().width / picture.viewBox.baseVal.width;
    const box = text.parentNode.querySelector("rect");
    const inner = text.getBoundingClientRect(), outer = box && box.getBoundingClientRect();
    return [
        text.textContent,
        parseFloat(getComputedStyle(text).fontSize) * scale,
        !outer || (inner.left >= outer.left && inner.right <= outer.right && inner.bottom <= outer.bottom + 1),
    ];
})"""


@pytest.fixture
def paid_order(shop_url: str) -> str:
    """The number of an order that waits for an operator."""
    client = Client(shop_url).sign_in()
    number = client.place(("COF-008", 1))
    client.wait_for(number, "confirmed")
    client.pay(number)
    client.wait_for(number, "paid")
    return number


def find(page: Page, number: str) -> None:
    page.goto("/admin/orders/order/")
    page.get_by_placeholder("Number, customer, SKU or tracking number").fill(number)
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(rf"/{number}/change/$"))


def ship(page: Page, tracking: str) -> None:
    page.locator("[popovertarget=ask-ship]").first.click()
    page.get_by_label("Tracking number").fill(tracking)
    page.locator("#ask-ship button[type=submit]").click()


def log_in(page: Page, name: str) -> None:
    page.goto("/admin/")
    page.get_by_label("Username").fill(name)
    page.get_by_label("Password").fill(name)
    page.get_by_role("button", name="Log in").click()


@pytest.mark.parametrize("width, scheme", WINDOWS)
def test_operator_ships_an_order_follows_its_events_receives_stock_and_makes_a_coupon(
    new_page: Callable[..., Page], paid_order: str, width: int, scheme: str
) -> None:
    page = new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    log_in(page, "admin")
    find(page, paid_order)
    assert is_within_window(page)
    ship(page, "TRACK-1")
    expect(page.locator(".bo-head")).to_contain_text(re.compile("shipped", re.IGNORECASE))
    expect(page.get_by_text(f"Order {paid_order} is shipped.")).to_be_visible()

    lanes = page.locator("svg.lanes")
    for event in ("order.placed", "inventory.stock_reserved", "payment.captured", "order.shipped"):
        expect(lanes.get_by_role("link", name=re.compile(f"^{event}, "))).to_have_count(1)
    lanes.get_by_role("link", name=re.compile("^order.shipped, ")).focus()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(rf"/admin/eventing/event/order-{paid_order}@\d+/$"))
    assert is_within_window(page)
    page.locator(f"a[href$='/orders/order/{paid_order}/change/']").first.click()
    expect(page).to_have_url(re.compile(rf"/{paid_order}/change/$"))

    page.locator(".bo-table a[href*='/inventory/product/']").click()
    page.get_by_role("link", name="COF-008").first.click()
    page.wait_for_url("**/inventory/product/**/change/**")
    page.goto(page.url.partition("/change/")[0] + "/receive-stock/")
    assert is_within_window(page)
    reason = f"Delivery {uuid4().hex[:6]}"
    page.get_by_label("Quantity").fill("7")
    page.get_by_label("Reason").fill(reason)
    page.get_by_role("button", name="Receive").click()
    expect(page.get_by_text(reason).first).to_be_visible()

    code = f"BROWSER-{uuid4().hex[:6].upper()}"
    page.goto("/admin/coupons/coupon/add/")
    assert is_within_window(page)
    page.locator("[name=code]").fill(code)
    page.locator("[name=kind]").select_option("percentage")
    page.locator("[name=value]").fill("15")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("link", name=code).first).to_be_visible()


def test_double_click_and_back_button_ship_an_order_once(new_page: Callable[..., Page], paid_order: str) -> None:
    page = new_page(viewport={"width": 1280, "height": 800})
    log_in(page, "admin")
    find(page, paid_order)
    page.locator("[popovertarget=ask-ship]").first.click()
    page.locator("#ask-ship button[type=submit]").dblclick()
    expect(page.locator(".bo-head")).to_contain_text(re.compile("shipped", re.IGNORECASE))

    page.go_back()
    page.go_forward()
    page.reload()
    shipped = page.locator("svg.lanes").get_by_role("link", name=re.compile("^order.shipped, "))
    expect(shipped).to_have_count(1)
    expect(page.locator("[popovertarget=ask-ship]")).to_have_count(0)


def test_every_text_of_the_swim_lanes_is_readable_and_inside_its_box(
    new_page: Callable[..., Page], paid_order: str
) -> None:
    page = new_page(viewport={"width": 1280, "height": 800})
    log_in(page, "admin")
    for path in (f"/admin/orders/order/{paid_order}/change/", f"/orders/{paid_order}/behind/"):
        page.goto(path)
        texts = page.locator("svg.lanes").evaluate(TEXTS)
        assert len(texts) > 30
        assert min(height for _, height, _ in texts) >= 12
        assert [text for text, _, inside in texts if not inside] == []


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
