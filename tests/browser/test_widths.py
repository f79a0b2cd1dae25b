"""No page is wider than its window, whatever its contents are called."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from lab.harness.stack import Embedded
from tests.browser.conftest import SECONDS
from tests.browser.long_names import SKU, pages, plant
from tests.groups import share
from tests.live import Live

WIDTHS = (1280, 768, 390, 360)
NO_PAGES = ("/admin/dashboard/", "/stock/", "/metrics")  # a part of a page, and text for programs
# What sticks out of the window. What is inside of something that scrolls is counted if nothing says that it does.
STICKING_OUT = """() => {
    const width = document.scrollingElement.clientWidth;
    const hidden = style => style.visibility === "hidden" || style.clipPath !== "none" || style.position === "fixed";
    const hints = element =>
        element.previousElementSibling?.matches(".sideways") && element.previousElementSibling.offsetHeight > 0
        || getComputedStyle(element).backgroundImage.includes("gradient");
    const mayStickOut = element => {
        for (let one = element; one && one !== document.body; one = one.parentElement) {
            const style = getComputedStyle(one);
            if (hidden(style) || style.textOverflow === "ellipsis") return true;
            if (/auto|scroll/.test(style.overflowX)) return hints(one);
        }
        return false;
    };
    const found = [...document.querySelectorAll("body *:not(svg *)")].filter(element => {
        const box = element.getBoundingClientRect();
        return box.right > width + 1 && box.width > 1 && box.height > 1 && !mayStickOut(element);
    });
    const wide = document.scrollingElement.scrollWidth;
    return [
        ...(wide > width ? [`the page is ${wide} px wide`] : []),
        ...found.slice(0, 3).map(element => element.outerHTML.slice(0, 150)),
    ];
}"""


@pytest.fixture(scope="session")
def long_names(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Live, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("long-names")
    embedded = share(Embedded(data_dir=folder, arguments=["--no-seed"]))
    live = share(closing(Live(embedded, {"PROFILE": "embedded", "DEMO_DIR": str(folder), "EVENTING_NAMESPACE": ""})))
    return live, live.call(plant)


@pytest.fixture
def page(browser: Browser, long_names: tuple[Live, dict[str, Any]]) -> Iterator[Page]:
    live, planted = long_names
    with browser.new_context(base_url=live.url) as context:
        context.set_default_timeout(SECONDS * 1000)
        context.add_cookies([{"name": "sessionid", "value": planted["session"], "url": live.url}])
        yield context.new_page()


def test_nothing_is_wider_than_the_window(page: Page, long_names: tuple[Live, dict[str, Any]]) -> None:
    live, planted = long_names
    addresses = live.call(pages, planted["number"])
    page.goto(f"/products/{SKU}/")
    page.get_by_role("button", name="Add to cart").click()
    too_wide, seen = {}, set()
    for address in addresses:
        if address.endswith(NO_PAGES):
            continue
        answer = page.goto(address)
        if page.url in seen or answer is None or answer.status in (403, 404):  # led on to another page, or not allowed
            continue
        seen.add(page.url)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 800})
            if found := page.evaluate(STICKING_OUT):
                too_wide[address, width] = found
    assert too_wide == {}
    assert len(seen) > 60
