"""The shop and the back office in a real browser, on the embedded profile."""

from __future__ import annotations

import re
from collections.abc import Callable
from uuid import uuid4

import pytest
from playwright.sync_api import Page, expect

WINDOWS = [(1280, "light"), (360, "dark"), (1280, "dark"), (360, "light")]


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


def put_into_cart(page: Page, name: str, quantity: int = 1) -> None:
    """Find a product through the search, and put some of it into the cart from its own page."""
    page.goto("/")
    page.get_by_label("Search the shop").fill(name)
    page.get_by_role("button", name="Show").click()
    page.get_by_role("link", name=name).click()
    page.get_by_label("Quantity").fill(str(quantity))
    page.get_by_role("button", name="Add to cart").click()
    expect(page.get_by_text(f"Added to your cart: {name}")).to_be_visible()


def check_out(page: Page) -> None:
    page.get_by_role("navigation", name="Main").get_by_role("link", name="Cart").click()
    page.get_by_role("button", name="Go to checkout").click()
    expect(page.get_by_role("heading", name="Checkout")).to_be_visible()
    page.get_by_label("Name").fill("Ann Lee")
    page.get_by_label("Street and number").fill("Quay 1")
    page.get_by_label("Postal code").fill("20457")
    page.get_by_label("City").fill("Hamburg")
    page.get_by_label("Country").select_option("Germany")


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
    assert is_within_window(page)
    put_into_cart(page, "Quayside Blend, 250 g", 2)
    assert is_within_window(page)
    put_into_cart(page, "Enamel Mug, 350 ml")
    page.goto("/cart/")
    assert is_within_window(page)
    check_out(page)
    page.get_by_label("Coupon").fill("regular")
    summary = page.locator("#summary")
    expect(summary).to_contain_text("Coupon REGULAR")
    expect(summary).to_contain_text("2 × Quayside Blend")
    assert is_within_window(page)
    page.get_by_role("button", name="Place order").click()

    number = order_number(page)
    expect(page.get_by_role("region", name="Where it goes")).to_contain_text("20457 Hamburg")
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
    expect(timeline).to_contain_text("20457 Hamburg")


def test_headline_moves_by_itself_while_the_page_stays(new_page: Callable[..., Page]) -> None:
    page, other = new_page(), new_page()
    sign_in(page)
    put_into_cart(page, "Sea Salt Flakes, 150 g")
    check_out(page)
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
    put_into_cart(page, "Dark Chocolate 72 %, 80 g")
    check_out(page)
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
    put_into_cart(page, "Wooden Spoon, Set of 3")
    check_out(page)
    page.get_by_role("button", name="Place order").dblclick()
    number = order_number(page)
    page.reload()

    page.go_back()
    expect(page.get_by_role("heading", name="Your cart is empty")).to_be_visible()

    page.goto("/orders/")
    expect(page.locator(".row .number")).to_have_text([number])


def test_checkout_that_is_still_open_in_another_window_makes_one_order(new_page: Callable[..., Page]) -> None:
    page = new_page()
    register(page)
    put_into_cart(page, "Wooden Spoon, Set of 3")
    check_out(page)
    other = page.context.new_page()
    other.goto("/cart/")
    check_out(other)
    page.get_by_role("button", name="Place order").click()
    number = order_number(page)

    other.get_by_role("button", name="Place order").click()
    assert order_number(other) == number
    expect(other.get_by_text("Nothing was ordered twice")).to_be_visible()


def test_enter_in_a_field_orders_nothing(new_page: Callable[..., Page]) -> None:
    page = new_page()
    sign_in(page)
    put_into_cart(page, "Wooden Spoon, Set of 3")
    page.goto("/cart/")
    quantity = page.get_by_label("Quantity of Wooden Spoon, Set of 3")
    quantity.fill("3")
    quantity.press("Enter")
    expect(page.get_by_role("navigation", name="Main").get_by_role("link", name="Cart")).to_contain_text("3")
    check_out(page)
    page.get_by_label("Coupon").fill("regular")
    page.get_by_label("Coupon").press("Enter")
    expect(page.locator("#summary")).to_contain_text("Coupon REGULAR")
    expect(page).to_have_url(re.compile(r"/checkout/$"))


@pytest.mark.parametrize("width, scheme", WINDOWS)
def test_shop_works_without_javascript(new_page: Callable[..., Page], width: int, scheme: str) -> None:
    page = new_page(java_script_enabled=False, viewport={"width": width, "height": 800}, color_scheme=scheme)
    sign_in(page)
    put_into_cart(page, "Oat Biscuits, 200 g", 2)
    check_out(page)
    page.get_by_label("City").fill("")
    page.get_by_label("Coupon").fill("nonsense")
    page.get_by_role("button", name="Apply").click()
    expect(page.locator("#summary")).to_contain_text("There is no such coupon.")
    page.get_by_label("Coupon").fill("")
    page.get_by_label("City").fill("Hamburg")
    page.get_by_role("button", name="Apply").click()  # with a coupon that is refused nothing can be ordered
    page.get_by_role("button", name="Place order").click()
    order_number(page)
    look_again(page, "Please pay now")
    page.get_by_role("button", name="Pay").click()
    look_again(page, "Paid. We are packing your order.")
    expect(page.get_by_role("button", name="Print")).to_have_count(0)


def test_order_page_prints_what_was_ordered_and_no_forms(new_page: Callable[..., Page]) -> None:
    page = new_page(color_scheme="dark")
    page.add_init_script("window.print = () => { document.title = 'printed'; }")
    sign_in(page)
    put_into_cart(page, "Oat Biscuits, 200 g")
    check_out(page)
    page.get_by_role("button", name="Place order").click()
    order_number(page)
    page.get_by_role("button", name="Print").click()
    expect(page).to_have_title("printed")

    page.emulate_media(media="print")
    expect(page.get_by_role("region", name="What you ordered")).to_contain_text("Oat Biscuits")
    expect(page.get_by_role("region", name="Where it goes")).to_be_visible()
    expect(page.get_by_role("button")).to_have_count(0)
    assert page.locator("body").evaluate("body => getComputedStyle(body).color") == "rgb(0, 0, 0)"


def look_again(page: Page, text: str) -> None:
    """Follow the link that reloads the page until it says what is expected."""
    for _ in range(200):
        if text in page.locator("#headline").inner_text():
            return
        page.get_by_role("link", name="Look again").click()
    raise AssertionError(f"the page never said {text!r}")
