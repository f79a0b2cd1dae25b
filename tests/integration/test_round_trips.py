"""What a list hands out is accepted where it came from: cursors, links, and texts that are shown."""

from __future__ import annotations

import re
from html import unescape
from unicodedata import normalize
from uuid import uuid4

import pytest
from django.test import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pytest_django import Settings

from inventory.models import Product
from inventory.selectors import Sort
from storefront import shopping
from tests.factories import ProductFactory

pytestmark = [pytest.mark.once, pytest.mark.django_db(databases="__all__")]

quickly = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
# Also what an older version stored, before there was a rule: anything that a database takes.
names = st.text(
    st.one_of(
        st.characters(exclude_characters="\0", exclude_categories=("Cs",)),
        st.sampled_from("\u00a0\u200d\u200c\u202e %&+;?#\"'\\~,_\x07\x7f\u0085\ufeff"),
    ),
    min_size=1,
    max_size=200,
)


@pytest.fixture
def shelf(db: None, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.CATALOGUE_CACHE_SECONDS = 0
    monkeypatch.setattr(shopping, "PAGE_OF_PRODUCTS", 1)


def offer(*called: str) -> dict[str, str]:
    """Nothing but products of these names is on sale; their SKUs with the names."""
    Product.objects.update(active=False)
    skus = {uuid4().hex: name for name in called}
    for sku in skus:
        ProductFactory.create(sku=sku)
    for sku, name in skus.items():
        Product.objects.filter(sku=sku).update(name=name)
    return skus


@given(called=st.lists(names, min_size=2, max_size=3), sort=st.sampled_from(list(Sort)))
@quickly
def test_every_cursor_and_next_link_leads_on(shelf: None, called: list[str], sort: Sort) -> None:
    skus = offer(*called)
    seen: list[str] = []
    query: dict[str, str] | None = {"limit": "1", "sort": sort}
    while query is not None:
        page = Client().get("/api/v1/products", query)
        assert page.status_code == 200, page.content
        seen += [item["sku"] for item in page.json()["items"]]
        cursor = page.json()["next_cursor"]
        query = {"limit": "1", "sort": sort, "cursor": cursor} if cursor else None
    assert sorted(seen) == sorted(skus)

    shown: list[str] = []
    link: str | None = f"/?sort={sort}"
    while link is not None:
        answer = Client().get(link)
        assert answer.status_code == 200, link
        shown += [product.sku for product in answer.context["products"]]
        found = re.search(r'href="([^"]+)" rel="next"', answer.content.decode())
        link = unescape(found[1]) if found else None
    assert shown == seen


@given(
    called=names.map(lambda text: normalize("NFC", text)[:200]), cut=st.tuples(st.integers(0, 199), st.integers(1, 200))
)
@quickly
def test_a_part_of_a_name_finds_it(shelf: None, called: str, cut: tuple[int, int]) -> None:
    [sku] = offer(called)
    part = called[cut[0] % len(called) :][: cut[1]]
    assert sku in [product.sku for product in Client().get("/", {"q": part}).context["products"]]
