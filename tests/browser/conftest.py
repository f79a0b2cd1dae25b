"""A shop of the embedded profile, and the system's own Chromium to look at it. Nothing is downloaded."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Error, Page, Playwright, Request, Response, sync_playwright

from lab.harness.instances import CHROMIUMS, chromium_program
from lab.harness.stack import Embedded
from tests.groups import share

# No sandbox: containers rarely allow one. The rest keeps the browser from talking to anybody but the shop.
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SECONDS = 20


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.slow)


@dataclass
class Watched:
    """What must not happen on any page: something in the console, a request that failed or went elsewhere."""

    url: str
    troubles: list[str] = field(default_factory=list)

    def watch(self, page: Page) -> None:
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.troubles.append(f"error: {error}"))
        page.on("request", self._request)
        page.on("response", self._response)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.troubles.append(f"{message.type}: {message.text}")

    def _request(self, request: Request) -> None:
        if not request.url.startswith((f"{self.url}/", "data:", "blob:")):
            self.troubles.append(f"elsewhere: {request.url}")

    def _response(self, response: Response) -> None:
        if response.status >= 400:
            self.troubles.append(f"{response.status}: {response.url}")


@pytest.fixture(scope="session")
def chromium() -> str:
    found = chromium_program()
    if found is None:
        pytest.skip(f"needs a Chromium: set CHROMIUM, or install one of {', '.join(CHROMIUMS)}")
    return str(found)


@contextmanager
def running_playwright() -> Iterator[Playwright]:
    with sync_playwright() as running:
        # Playwright keeps an event loop in this thread, which Django takes for a reason to forbid the database.
        before = os.environ.get("DJANGO_ALLOW_ASYNC_UNSAFE")
        os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
        yield running
        if before is None:
            del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@pytest.fixture(scope="session")
def browser(chromium: str) -> Browser:
    playwright = share(running_playwright())
    try:
        running = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
    except Error as error:
        pytest.skip(f"needs a Chromium that starts; {chromium} does not: {error}")
    # It computes even when it shows nothing, and puts itself before everybody else.
    return share(closing(running))


@pytest.fixture(scope="session")
def shop_url(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a shop with the products and logins that `manage.py seed` makes, and some of its orders."""
    return share(Embedded(data_dir=tmp_path_factory.mktemp("shop"), arguments=["--orders=60"])).url


@pytest.fixture
def new_page(browser: Browser, shop_url: str) -> Iterator[Callable[..., Page]]:
    """Opens windows, each with cookies of its own. At the end nothing may have gone wrong in any of them."""
    watched = Watched(shop_url)
    contexts = []

    def open_window(**options: Any) -> Page:
        context = browser.new_context(base_url=shop_url, **options)
        context.set_default_timeout(SECONDS * 1000)
        contexts.append(context)
        page = context.new_page()
        watched.watch(page)
        return page

    yield open_window
    for context in contexts:
        context.close()
    assert watched.troubles == []
