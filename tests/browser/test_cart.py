"""The cart in a real browser: after Back, after two clicks, and when there is too little."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.test_shop import put_into_cart, sign_in


def count(page: Page) -> str:
    return page.locator("#cart-count").inner_text().split()[0]


@pytest.mark.parametrize("somebody", [None, "demo"])
def test_back_shows_what_is_in_the_cart_by_now(new_page: Callable[..., Page], somebody: str | None) -> None:
    page = new_page()
    if somebody:
        sign_in(page, somebody)
    page.goto("/")
    page.locator(".product h2 a").first.click()
    page.get_by_role("button", name="Add to cart").click()
    expect(page.locator("#cart-count .count")).to_be_visible()
    now = count(page)
    page.go_back()
    page.go_back()
    expect(page).to_have_url("/")
    assert count(page) == now
    with page.expect_navigation():  # a page out of the browser's memory is loaded again
        page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', {persisted: true}))")
    assert count(page) == now


def test_double_click_adds_one_and_two_clicks_add_two(new_page: Callable[..., Page]) -> None:
    page = new_page()
    page.goto("/")
    add = page.locator(".product").first.get_by_role("button")
    add.dblclick()
    expect(page.locator("#cart-count")).to_contain_text("1")
    page.goto("/cart/")
    assert count(page) == "1"
    page.goto("/")
    add.click()
    expect(page.locator("#cart-count")).to_contain_text("2")


def test_double_click_without_scripts_adds_one(new_page: Callable[..., Page]) -> None:
    page = new_page(java_script_enabled=False)
    page.goto("/")
    page.locator(".product").first.get_by_role("button").dblclick()
    expect(page.locator("#cart-count")).to_contain_text("1")
    page.goto("/cart/")
    expect(page.locator("#cart-count")).to_contain_text("1")


def test_order_is_offered_again_when_the_coupon_is_taken_out(new_page: Callable[..., Page]) -> None:
    page = new_page()
    put_into_cart(page, "Enamel Mug, 350 ml")
    sign_in(page)
    page.goto("/checkout/")
    place = page.get_by_role("button", name="Place order")
    expect(place).to_be_visible()
    page.get_by_label("Coupon").press_sequentially("NOPE")
    expect(place).to_have_count(0)
    page.get_by_label("Coupon").fill("")
    expect(place).to_be_visible()
