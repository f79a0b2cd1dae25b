"""No page of the shop, and none of the admin's own, has a serious or critical violation that axe-core can find."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.template.loader import render_to_string
from django.urls import reverse
from playwright.sync_api import Page, expect

import storefront.urls
from backoffice.base import pages
from lab.client import Client
from tests.browser.test_shop import sign_in

HERE = Path(__file__).parent
AXE = HERE / "node_modules" / "axe-core" / "axe.min.js"
GRAVE = {"serious", "critical"}
ALL_PAGES = [page for group in pages().values() for page in group]


@pytest.fixture(scope="session")
def axe() -> str:
    """The program that looks for violations, from npm."""
    if not AXE.exists():
        npm = shutil.which("npm")
        if npm is None:
            pytest.skip("needs npm, or axe-core in tests/browser/node_modules")
        done = subprocess.run([npm, "ci", "--no-audit", "--no-fund"], cwd=HERE, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"needs axe-core, which npm could not install: {done.stderr[-300:]}")
    return AXE.read_text()


def violations(page: Page, axe: str) -> list[str]:
    """What is gravely wrong with the page, each with the elements that are concerned."""
    page.evaluate(axe)  # not as a script element, which the page's security policy may refuse
    # What has passed is not looked up again: of the results, only these are wanted.
    found: list[dict[str, Any]] = page.evaluate("async () => (await axe.run({resultTypes: ['violations']})).violations")
    return [
        f"{page.url} {violation['id']}: {violation['help']} {[node['target'] for node in violation['nodes']][:5]}"
        for violation in found
        if violation["impact"] in GRAVE
    ]


# Where each address of the shop is to be seen, by the name it has in storefront/urls.py: before signing in, and after.
# `*` stands for the number of an order.
FOR_VISITORS = {
    "shop": "/",
    "product": "/products/COF-008/",
    "cart": "/cart/",
    "login": "/sign-in/",
    "register": "/register/",
}
FOR_CUSTOMERS = {
    "shop": "/?q=nothing-of-the-kind",
    "cart": "/cart/",
    "checkout": "/checkout/",
    "orders": "/orders/",
    "inbox": "/inbox/",
    "account": "/account/",
    "order": "/orders/*/",
    "behind": "/orders/*/behind/",
}
NO_PAGES = {
    "add", "remove", "pay", "cancel", "again", "logout",  # forms are sent there
    "stock", "quote", "order_live", "behind_live",  # parts of the pages above
    "picture",
}  # fmt: skip


def test_every_address_of_the_shop_is_looked_at() -> None:
    known = FOR_VISITORS.keys() | FOR_CUSTOMERS.keys() | NO_PAGES
    assert {pattern.name for pattern in storefront.urls.urlpatterns} == known


@pytest.mark.parametrize("width, scheme", [(1280, "light"), (1280, "dark"), (360, "dark")])
def test_pages_of_the_shop_are_accessible(
    new_page: Callable[..., Page], axe: str, shop_url: str, width: int, scheme: str
) -> None:
    page = new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    found = []
    for path in FOR_VISITORS.values():
        page.goto(path)
        found += violations(page, axe)
    sign_in(page)
    page.goto("/products/COF-008/")
    page.get_by_role("button", name="Add to cart").click()
    number = Client(shop_url).sign_in().place(("COF-010", 1))
    for path in FOR_CUSTOMERS.values():
        page.goto(path.replace("*", number))
        found += violations(page, axe)
    page.goto("/checkout/")
    page.get_by_role("button", name="Place order").click()  # the form with its errors
    found += violations(page, axe)
    assert found == []


@pytest.mark.parametrize("status", [400, 403, 404, 500, 503])
def test_pages_of_errors_are_accessible(new_page: Callable[..., Page], axe: str, status: int) -> None:
    page = new_page()
    page.goto("/")
    page.set_content(render_to_string(f"{status}.html"))
    assert violations(page, axe) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_own_pages_of_the_admin_are_accessible(new_page: Callable[..., Page], axe: str, scheme: str) -> None:
    page = new_page(viewport={"width": 1440, "height": 900}, color_scheme=scheme)
    page.goto("/admin/")
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill("admin")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_text("Orders today")).to_be_visible()
    # Lists that Unfold draws alone are Unfold's affair.
    own = [item for item in ALL_PAGES if item.url or item.model in ("orders.order", "sharding.bucket")]
    found = violations(page, axe)
    for item in own:
        page.goto(reverse(item.url or f"admin:{item.model.replace('.', '_')}_changelist"))
        found += violations(page, axe)
    page.goto("/admin/sharding/bucket/7/change/")
    found += violations(page, axe)
    page.goto("/admin/orders/order/")
    page.locator("table a[href$='/change/']").first.click()
    page.wait_for_url("**/change/")
    found += violations(page, axe)
    assert found == []
