"""The shop and the back office in a real browser, on the embedded profile."""

from __future__ import annotations

import re
from collections.abc import Callable
from uuid import uuid4

import pytest
from playwright.sync_api import Page, expect

WINDOWS = [(1280, "light"), (360, "dark")]


def sign_in(page: Page, name: str = "demo") -> None:
    page.goto("/sign-in/")
    page.get_by_label("User name").fill(name)
    page.get_by_label("Password").fill(name)
    page.get_by_role("main").get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()


def register(page: Page) -> None:
    name = f"browser-{uuid4().hex[:8]}"
    page.goto("/register/")
    page.get_by_label("User name").fill(name)
    page.get_by_label("E-mail address").fill(f"{name}@example.org")
    for label in ("Password", "Password again"):
        page.get_by_label(label, exact=True).fill("correct horse battery staple")
    page.get_by_role("button", name="Make my account").click()
    expect(page.get_by_text(f"Welcome to Wharf, {name}.")).to_be_visible()


def order_number(page: Page) -> str:
    expect(page).to_have_url(re.compile(r"/orders/[0-9A-Z]{13}/$"))
    return page.url.rstrip("/").rpartition("/")[2]


def is_within_window(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"))


@pytest.mark.parametrize("width, scheme", WINDOWS)
def test_shopper_orders_and_pays_and_the_operator_sees_the_timeline(
    new_page: Callable[..., Page], width: int, scheme: str
) -> None:
    page = new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    sign_in(page)
    page.get_by_label("Quantity of Quayside Blend, 250 g").fill("2")
    page.get_by_label("Quantity of Enamel Mug, 350 ml").fill("1")
    page.get_by_label("Coupon").fill("regular")
    summary = page.locator("#summary")
    expect(summary).to_contain_text("Coupon REGULAR")
    expect(summary).to_contain_text("2 × Quayside Blend")
    assert is_within_window(page)
    page.get_by_role("button", name="Place order").click()

    number = order_number(page)
    headline = page.locator("#headline")
    expect(headline).to_have_text("Confirmed: everything is set aside for you. Please pay now.")
    countdown = page.locator("[data-seconds-left]")
    before = countdown.inner_text()
    expect(countdown).not_to_have_text(before)
    assert is_within_window(page)

    page.get_by_label("The bank says no.").check()
    page.get_by_role("button", name="Pay").click()
    expect(headline).to_have_text("The bank declined the payment. You can try again.")
    page.get_by_label("The payment goes through at once.").check()
    page.get_by_role("button", name="Pay").click()
    expect(headline).to_have_text("Paid. We are packing your order.")
    expect(page.locator(".step.current")).to_contain_text("Paid")
    events = page.get_by_role("region", name="What has happened")
    for event in ("order.placed", "order.check_passed", "order.confirmed", "order.paid"):
        expect(events).to_contain_text(event)

    admin = new_page(viewport={"width": 1280, "height": 900})
    admin.goto(f"/admin/orders/order/{number}/change/")
    admin.get_by_label("Username").fill("admin")
    admin.get_by_label("Password").fill("admin")
    admin.get_by_role("button", name="Log in").click()
    timeline = admin.locator("body")
    for event in (f"order-{number}@1", "order.placed", "inventory.stock_reserved", "coupon.redeemed", "order.paid"):
        expect(timeline).to_contain_text(event)


def test_headline_moves_by_itself_while_the_page_stays(new_page: Callable[..., Page]) -> None:
    page, other = new_page(), new_page()
    sign_in(page)
    page.get_by_label("Quantity of Sea Salt Flakes, 150 g").fill("1")
    page.get_by_role("button", name="Place order").click()
    expect(page.locator("#headline")).to_contain_text("Please pay now")
    page.get_by_label("The bank takes a few seconds to answer.").check()

    sign_in(other)
    other.goto(page.url)
    other.get_by_text("Cancel this order").click()
    other.get_by_role("button", name="Cancel the order").click()
    expect(other.locator("#headline")).to_have_text("Cancelled at your wish.")

    expect(page.locator("#headline")).to_have_text("Cancelled at your wish.")
    expect(page.locator("#order-live")).to_have_attribute("data-status", "cancelled")
    assert page.locator("#order-live").get_attribute("hx-get") is None


def test_what_is_chosen_in_the_form_survives_while_nothing_changes(new_page: Callable[..., Page]) -> None:
    page = new_page()
    sign_in(page)
    page.get_by_label("Quantity of Dark Chocolate 72 %, 80 g").fill("1")
    page.get_by_role("button", name="Place order").click()
    expect(page.locator("#headline")).to_contain_text("Please pay now")
    page.get_by_label("The bank takes a few seconds to answer.").check()
    with page.expect_response(re.compile("/live/")) as unchanged:
        pass
    assert unchanged.value.status == 204
    assert page.get_by_label("The bank takes a few seconds to answer.").is_checked()


def test_double_click_reload_and_back_make_one_order(new_page: Callable[..., Page]) -> None:
    page = new_page()
    register(page)
    page.get_by_label("Quantity of Wooden Spoon, Set of 3").fill("1")
    page.get_by_role("button", name="Place order").dblclick()
    number = order_number(page)
    page.reload()

    page.go_back()
    page.get_by_role("button", name="Place order").click()
    expect(
        page.get_by_text("Nothing has been ordered.").or_(page.get_by_text("Nothing was ordered twice"))
    ).to_be_visible()

    page.goto("/orders/")
    expect(page.locator(".row .number")).to_have_text([number])


def test_back_to_a_form_with_its_total_makes_one_order(new_page: Callable[..., Page]) -> None:
    page = new_page()
    register(page)
    page.get_by_label("Quantity of Wooden Spoon, Set of 3").fill("1")
    page.get_by_role("button", name="Update total").click()
    expect(page.locator("#summary")).to_contain_text("1 × Wooden Spoon")
    page.get_by_role("button", name="Place order").click()
    number = order_number(page)

    page.go_back()
    expect(page.get_by_label("Quantity of Wooden Spoon, Set of 3")).to_have_value("1")
    page.get_by_role("button", name="Place order").click()
    assert order_number(page) == number
    expect(page.get_by_text("Nothing was ordered twice")).to_be_visible()


def test_enter_in_a_quantity_field_orders_nothing(new_page: Callable[..., Page]) -> None:
    page = new_page()
    sign_in(page)
    field = page.get_by_label("Quantity of Wooden Spoon, Set of 3")
    field.fill("3")
    field.press("Enter")
    expect(page).to_have_url(re.compile(r"/\?q-.*#order$"))
    expect(page.locator("#summary")).to_contain_text("3 × Wooden Spoon")


def test_shop_works_without_javascript(new_page: Callable[..., Page]) -> None:
    page = new_page(java_script_enabled=False)
    sign_in(page)
    page.get_by_label("Quantity of Oat Biscuits, 200 g").fill("2")
    page.get_by_role("button", name="Update total").click()
    expect(page.locator("#summary")).to_contain_text("2 × Oat Biscuits")
    page.get_by_role("button", name="Place order").click()
    order_number(page)
    look_again(page, "Please pay now")
    page.get_by_role("button", name="Pay").click()
    look_again(page, "Paid. We are packing your order.")


def look_again(page: Page, text: str) -> None:
    """Follow the link that reloads the page until it says what is expected."""
    for _ in range(200):
        if text in page.locator("#headline").inner_text():
            return
        page.get_by_role("link", name="Look again").click()
    raise AssertionError(f"the page never said {text!r}")
