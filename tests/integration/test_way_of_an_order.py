"""The page that leads a reader from the form of the checkout to the commit: it is short, and leaves no file out."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from tests.integration.shop_api import stock_the_shop
from tests.integration.test_pages import Browser

ROOT = Path(__file__).resolve().parent.parent.parent
PLACING = re.search(
    r"^## Placing.*?(?=^## )",
    (ROOT / "docs" / "explanation" / "the-way-of-an-order.md").read_text(),
    re.DOTALL | re.MULTILINE,
)
NAMED = re.compile(r"`([\w/]+\.py)::([\w.]+)`")
MOST_FILES = 9

pytestmark = [pytest.mark.django_db(databases="__all__"), pytest.mark.once]


def files_between(frame: FrameType | None, first: str) -> set[str]:
    """The project's files in the calls that lead from the function `first` to this frame."""
    files = set()
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(ROOT) and ".venv" not in path.parts:
            files.add(str(path.relative_to(ROOT)))
        if frame.f_code.co_qualname == first:
            return files
        frame = frame.f_back
    return set()


def test_a_reader_opens_few_files_from_the_form_to_the_commit_and_the_page_names_them_all() -> None:
    assert PLACING is not None
    named = set(NAMED.findall(PLACING[0]))
    functions = {name for _, name in named}
    opened: set[str] = set()

    def notice(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code.co_qualname in functions:
            opened.update(files_between(frame, "checkout_page"))

    stock_the_shop()
    ann = Browser.of("ann")
    ann.fill(LAMP=1)
    form = ann.form()
    sys.setprofile(notice)
    try:
        response = ann.send(form)
    finally:
        sys.setprofile(None)

    assert response.url.startswith("/orders/")
    assert {"storefront/shopping.py", "orders/domain.py", "eventing/databases.py"} <= opened
    assert opened <= {file for file, _ in named}
    assert len(opened - {"inventory/selectors.py"}) <= MOST_FILES  # prices are read beside the way
