"""The dashboard in a browser: live while somebody looks, quiet while nobody does, usable with the keyboard."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, Request, expect

HIDE = "Object.defineProperty(document, 'hidden', {value: %s, configurable: true});"
CHANGED = "document.dispatchEvent(new Event('visibilitychange'))"
PATH = "/admin/dashboard/"


@pytest.fixture
def dashboard(new_page: Callable[..., Page]) -> Page:
    page = new_page()
    page.goto("/admin/login/?next=/admin/")
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill("admin")
    page.get_by_label("Password").press("Enter")
    expect(page.get_by_text("Orders today")).to_be_visible()
    return page


def is_poll(request: Request) -> bool:
    return request.url.endswith(PATH)


def test_new_numbers_come_by_themselves_and_leave_the_focus_where_it_is(dashboard: Page) -> None:
    dashboard.get_by_role("link", name="Dead letters").filter(has_text="wait for an operator").focus()
    dashboard.evaluate("document.getElementById('db-queues').dataset.old = 'yes'")

    with dashboard.expect_response(lambda response: response.url.endswith(PATH)) as answer:
        pass

    assert answer.value.ok
    expect(dashboard.locator("#db-queues[data-old]")).to_have_count(0)
    expect(dashboard.locator("a.db-tile:focus")).to_contain_text("Dead letters")


def test_a_hidden_page_asks_for_nothing_and_catches_up_when_it_is_seen(dashboard: Page) -> None:
    polls: list[Request] = []
    dashboard.clock.install()
    dashboard.reload()
    expect(dashboard.get_by_text("Orders today")).to_be_visible()
    dashboard.on("request", lambda request: polls.append(request) if is_poll(request) else None)

    dashboard.evaluate(HIDE % "true")
    dashboard.clock.run_for(60_000)
    assert polls == []

    with dashboard.expect_request(is_poll):
        dashboard.evaluate(HIDE % "false" + CHANGED)


def test_the_dashboard_fits_a_narrow_screen(dashboard: Page) -> None:
    dashboard.set_viewport_size({"width": 360, "height": 740})

    assert dashboard.evaluate("document.documentElement.scrollWidth") == 360
