"""The policy in a browser: it stops what slips into a page, and nothing that pages need (see `new_page`)."""

from __future__ import annotations

import re
from collections.abc import Callable

from playwright.sync_api import Browser, Page


def test_a_script_that_slips_into_a_page_does_not_run(browser: Browser, shop_url: str) -> None:
    page = browser.new_page()  # not a watched one: the refusal is an error in its console
    page.goto(shop_url)
    refused = page.evaluate(
        """() => new Promise(resolve => {
            const event = "securitypolicyviolation";
            document.addEventListener(event, refusal => resolve(refusal.effectiveDirective), {once: true});
            const script = document.createElement("script");
            script.textContent = "document.body.dataset.slipped = 'yes'";
            document.body.append(script);
        })"""
    )

    assert refused == "script-src-elem"
    assert page.locator("body[data-slipped]").count() == 0
    page.close()


def test_every_page_of_the_back_office_works_under_its_policy(new_page: Callable[..., Page]) -> None:
    page = new_page()
    page.goto("/admin/login/?next=/admin/")
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill("admin")
    page.get_by_label("Password").press("Enter")
    page.wait_for_url("**/admin/")
    lists = set(re.findall(r'href="(/admin/\w+/\w+/)"', page.content()))
    assert len(lists) > 10

    for path in sorted(lists):
        page.goto(path)
        details = re.search(rf'href="({path}[^"/]+/change/)', page.content())
        if details:
            page.goto(details[1])
            page.wait_for_load_state("networkidle")
