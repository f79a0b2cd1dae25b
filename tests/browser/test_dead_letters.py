"""An operator repairs what a subscriber could not handle: edits and redrives one letter, then many at a set rate."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from lab.harness.stack import Embedded
from tests import programs
from tests.browser.conftest import SECONDS, Watched
from tests.browser.test_back_office import log_in
from tests.live import Live

LETTERS = "/admin/eventing/deadletter/"


@pytest.fixture
def shop(tmp_path: Path, chromium: str) -> Iterator[Live]:
    """A shop of its own: other tests count its dead letters."""
    with Embedded(data_dir=tmp_path, arguments=["--no-seed"]) as embedded:
        live = Live(embedded, {"PROFILE": "embedded", "DEMO_DIR": str(tmp_path), "EVENTING_NAMESPACE": ""})
        live.call(programs.add_logins)
        yield live
        live.close()


@pytest.fixture
def page(browser: Browser, shop: Live) -> Iterator[Page]:
    watched = Watched(shop.url)
    context = browser.new_context(base_url=shop.url, viewport={"width": 1440, "height": 900})
    context.set_default_timeout(SECONDS * 1000)
    page = context.new_page()
    watched.watch(page)
    log_in(page, "admin")
    yield page
    context.close()
    assert watched.troubles == []


def park(shop: Live, *, count: int, first: int, error: type[Exception], field: str = "customer_id") -> dict[str, Any]:
    return shop.call(programs.park, count, first, error("a bug"), field)


def test_operator_edits_and_redrives_a_letter_then_redrives_many_cancels_and_continues(page: Page, shop: Live) -> None:
    wrong = park(shop, count=1, first=100, error=KeyError, field="customer")
    park(shop, count=12, first=200, error=ValueError)
    page.goto(LETTERS)
    page.get_by_role("row", name=re.compile("notifications KeyError")).get_by_role("link", name="1", exact=True).click()
    page.get_by_role("link", name="order.confirmed").first.click()

    page.get_by_role("link", name="Edit the event").click()
    page.locator("[name=data]").fill("{")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("This is not JSON").first).to_be_visible()
    page.locator("[name=data]").fill(json.dumps({"at": wrong["at"], "customer_id": wrong["customer"]}))
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Saved. Redrive the dead letter").first).to_be_visible()
    expect(page.get_by_text("admin · edited data").first).to_be_visible()
    page.get_by_role("button", name="Redrive").click()
    expect(page.get_by_text("1 dead letter was sent to the subscriber again.").first).to_be_visible()
    groups = page.locator("section", has_text="Open dead letters by subscriber")
    expect(groups).not_to_contain_text("KeyError")

    page.goto(f"{LETTERS}?status__exact=open&error=ValueError")
    page.get_by_role("link", name="Redrive all that match").click()
    page.get_by_label("Dead letters a second").fill("2")
    page.get_by_role("button", name="Redrive 12 dead letters").click()
    run = page.locator("#run")
    expect(run).to_contain_text(re.compile(r"\b[1-9] of 12 sent"))
    run.get_by_role("button", name="Cancel").click()
    expect(run).to_contain_text("cancelled")
    run.get_by_role("button", name="Continue").click()
    expect(run).to_contain_text("12 of 12 sent", timeout=SECONDS * 2000)
    expect(run).to_contain_text("done")

    page.goto(f"{LETTERS}?status__exact=open")
    expect(page.get_by_text("There are no open dead letters").first).to_be_visible()
    assert shop.call(programs.handled, 77, "notifications") == 13
