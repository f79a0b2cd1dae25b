"""Takes the pictures in docs/screenshots: `script/screenshots`.

A fresh embedded shop with the seeded data is started, an order goes its way through it, and each page is photographed.
Buckets are moved between PostgreSQL databases only, so with `--shard-map` it is a shop on the services, in which an
operator moves a bucket.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import django
import psycopg
from playwright.sync_api import Browser, Page, expect, sync_playwright

from lab.harness import ROOT
from lab.harness.instances import CHROMIUMS, chromium_program
from lab.harness.stack import Embedded
from tests.browser.conftest import ARGUMENTS
from tests.browser.test_shop import check_out, order_number, put_into_cart, sign_in

FOLDER = ROOT / "docs" / "screenshots"
DESKTOP = {"width": 1280, "height": 860}
STAGE = {"width": 1600, "height": 1040}
OFFICE = {"width": 1440, "height": 900}
PHONE = {"width": 390, "height": 844}
SHOP = "shard_map_picture"
MOVING_BUCKET, SOURCE, TARGET = 21, "orders_1", "orders_6"


def main() -> int:
    parser = argparse.ArgumentParser(prog="script/screenshots", description="Takes the pictures in docs/screenshots.")
    parser.add_argument("--shard-map", action="store_true", help="only shard-map.png, on PostgreSQL and RabbitMQ")
    options = parser.parse_args()
    chromium = chromium_program()
    if chromium is None:
        sys.stderr.write(f"This needs a Chromium: install one of {', '.join(CHROMIUMS)}.\n")
        return 1
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        if options.shard_map:
            os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
            django.setup()
            from lab.harness.system import temporary_system  # asks the databases by Django's models

            with temporary_system(SHOP, Path(folder), {"SEED_OPTIONS": "--orders=300", "DEBUG": "1"}) as stack:
                photograph_shard_map(browser, stack.url)
        else:
            with Embedded(data_dir=Path(folder)) as shop:
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
    context = browser.new_context(base_url=url, viewport=OFFICE)
    page = enter_back_office(context.new_page())
    take(page, "07-dashboard", whole=True)
    for path, name in (
        ("/admin/orders/order/", "08-orders"),
        (f"/admin/orders/order/{number}/change/", "09-order-in-the-back-office"),
        ("/admin/sharding/bucket/", "10-shard-map"),
    ):
        page.goto(path)
        take(page, name)
    context.close()


def enter_back_office(page: Page) -> Page:
    page.goto("/admin/")
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill("admin")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_text("Orders today").first).to_be_visible()
    return page


def photograph_shard_map(browser: Browser, url: str) -> None:
    """A bucket on the move, which a long transaction at its source keeps there until the picture is taken."""
    page = enter_back_office(browser.new_context(base_url=url, viewport=OFFICE).new_page())
    source = urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{SHOP}_{SOURCE}").geturl()
    with psycopg.connect(source) as reader:
        reader.execute("SELECT 1 FROM orders_order LIMIT 1")
        page.goto(f"/admin/sharding/bucket/{MOVING_BUCKET}/move/?to={TARGET}")
        page.get_by_role("button", name=f"Move bucket {MOVING_BUCKET}").click()
        expect(page.locator("#move")).to_contain_text("in use by a long transaction")
        page.goto("/admin/sharding/bucket/")
        take(page, "shard-map")
    page.get_by_role("link", name="Watch it").click()
    expect(page.locator("#move")).to_contain_text("moved, the source keeps", timeout=20_000)


def take(page: Page, name: str, *, whole: bool = False) -> None:
    page.wait_for_load_state("load")
    page.screenshot(path=FOLDER / f"{name}.png", full_page=whole, animations="disabled")


if __name__ == "__main__":
    sys.exit(main())
