"""No page of the shop, and none of the admin's own, has a serious or critical violation that axe-core can find."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from tests.browser.test_shop import order_number, sign_in

HERE = Path(__file__).parent
AXE = HERE / "node_modules" / "axe-core" / "axe.min.js"
GRAVE = {"serious", "critical"}


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
    found: list[dict[str, Any]] = page.evaluate("async () => (await axe.run()).violations")
    return [
        f"{page.url} {violation['id']}: {violation['help']} {[node['target'] for node in violation['nodes']][:5]}"
        for violation in found
        if violation["impact"] in GRAVE
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_of_the_shop_are_accessible(new_page: Callable[..., Page], axe: str, scheme: str) -> None:
    page = new_page(viewport={"width": 1280, "height": 900}, color_scheme=scheme)
    found = []
    for path in ("/", "/products/COF-008/", "/cart/", "/sign-in/", "/register/"):
        page.goto(path)
        found += violations(page, axe)
    sign_in(page)
    page.goto("/products/COF-008/")
    page.get_by_role("button", name="Add to cart").click()
    for path in ("/cart/", "/checkout/", "/orders/", "/inbox/", "/account/"):
        page.goto(path)
        found += violations(page, axe)
    page.goto("/orders/")
    page.locator("main a[href^='/orders/']").first.click()
    number = order_number(page)
    found += violations(page, axe)
    page.goto(f"/orders/{number}/behind/")
    found += violations(page, axe)
    assert found == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_own_pages_of_the_admin_are_accessible(new_page: Callable[..., Page], axe: str, scheme: str) -> None:
    page = new_page(viewport={"width": 1440, "height": 900}, color_scheme=scheme)
    page.goto("/admin/")
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill("admin")
    page.get_by_role("button", name="Log in").click()
    found = []
    for path in (
        "/admin/",
        "/admin/orders/order/",
        "/admin/sharding/bucket/",
        "/admin/eventing/event/",
        "/admin/eventing/outbox/",
        "/admin/monitoring/audit/",
    ):
        page.goto(path)
        found += violations(page, axe)
    page.goto("/admin/orders/order/")
    page.locator("table a[href$='/change/']").first.click()
    page.wait_for_url("**/change/")
    found += violations(page, axe)
    assert found == []
