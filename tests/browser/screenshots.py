"""Takes the pictures in docs/screenshots: `script/screenshots`.

A fresh embedded shop with the seeded data is started, an order goes its way through it, and each page is photographed.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, Page, expect, sync_playwright

from loadtest.stack import ROOT, Embedded
from tests.browser.conftest import ARGUMENTS, NAMES
from tests.browser.test_shop import check_out, order_number, put_into_cart, sign_in

FOLDER = ROOT / "docs" / "screenshots"
DESKTOP = {"width": 1280, "height": 860}
STAGE = {"width": 1600, "height": 1040}
PHONE = {"width": 390, "height": 844}


def main() -> int:
    chromium = next((path for name in NAMES if (path := shutil.which(name))), None)
    if chromium is None:
        sys.stderr.write(f"This needs a Chromium: install one of {', '.join(NAMES)}.\n")
        return 1
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        Embedded(data_dir=Path(folder)) as shop,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        number = photograph_shop(browser, shop.url)
        photograph_back_office(browser, shop.url, number)
        browser.close()
    return 0


def photograph_shop(browser: Browser, url: str) -> str:
    """The shopper's way; returns the number of the order."""
    context = browser.new_context(base_url=url, viewport=DESKTOP)
    page = context.new_page()
    sign_in(page)
    page.goto("/")
    take(page, "01-shop")
    page.goto("/products/COF-010/")
    take(page, "02-product")
    put_into_cart(page, "Quayside Blend, 250 g", 2)
    put_into_cart(page, "Hand Mill")
    check_out(page)
    page.get_by_label("Coupon").fill("REGULAR")
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_text("REGULAR").first).to_be_visible()
    take(page, "03-checkout", whole=True)
    page.get_by_role("button", name="Place order").click()
    number = order_number(page)
    headline = page.locator("#headline")
    expect(headline).to_contain_text("Confirmed")
    take(page, "04-order", whole=True)
    page.get_by_role("button", name="Pay").click()
    expect(headline).to_contain_text("Paid")
    page.set_viewport_size(STAGE)
    page.goto(f"/orders/{number}/behind/")
    expect(page.locator(".waits")).to_contain_text("Shipping, by an operator.")
    expect(page.locator(".waits li")).to_have_count(1)
    take(page, "05-behind-the-scenes")
    phone = browser.new_context(
        base_url=url, viewport=PHONE, color_scheme="dark", storage_state=context.storage_state()
    ).new_page()
    phone.goto(f"/orders/{number}/")
    take(phone, "06-order-on-a-phone")
    context.close()
    return number


def photograph_back_office(browser: Browser, url: str, number: str) -> None:
    context = browser.new_context(base_url=url, viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.goto("/admin/")
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill("admin")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_text("Orders today").first).to_be_visible()
    take(page, "07-dashboard", whole=True)
    for path, name in (
        ("/admin/orders/order/", "08-orders"),
        (f"/admin/orders/order/{number}/change/", "09-order-in-the-back-office"),
        ("/admin/sharding/bucket/", "10-shard-map"),
    ):
        page.goto(path)
        take(page, name)
    context.close()


def take(page: Page, name: str, *, whole: bool = False) -> None:
    page.wait_for_load_state("load")
    page.screenshot(path=FOLDER / f"{name}.png", full_page=whole, animations="disabled")


if __name__ == "__main__":
    sys.exit(main())
