"""Reads of the catalogue and of stock.

What is shown comes from a cache (see caching.two_level), and so do prices. What is left is decided by the handlers.
"""

from __future__ import annotations

import functools
import hashlib
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from django.conf import settings
from django.db.models import Q, QuerySet

from caching.two_level import TwoLevelCache
from eventing.databases import give_back_connections
from inventory import domain
from inventory.models import Category, Product, Stock
from sharding.router import database_of
from values.text import storable

Key = tuple[str | int, str]  # where a product stands in a list: its name or price, and its sku

MAX_PAGE = 100


class InvalidPosition(domain.InventoryError):
    """This is not a position in the catalogue."""


class Sort(StrEnum):
    NAME = "name"
    CHEAPEST = "price"
    DEAREST = "-price"


@dataclass(frozen=True, slots=True, kw_only=True)
class CategoryView:
    slug: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductView:
    """A product as it is shown; `price` in minor units of `currency`, `category` the slug of its category."""

    sku: str
    name: str
    description: str
    category: str
    category_name: str
    price: int
    currency: str
    picture: str
    active: bool
    available: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What a product is sold for; `price` in minor units of `currency`."""

    name: str
    price: int
    currency: str
    active: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CataloguePage:
    """Some products, and the position after which the next page begins; None on the last page."""

    items: tuple[ProductView, ...]
    next: Key | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PricedLine:
    """`unit_price` in minor units of `currency`."""

    sku: str
    name: str
    quantity: int
    unit_price: int
    currency: str


def _seconds() -> float:
    seconds: float = settings.CATALOGUE_CACHE_SECONDS
    return seconds


def _cache(name: str, kind: Any) -> TwoLevelCache[Any]:
    return TwoLevelCache(name, kind, seconds=_seconds, before_waiting=give_back_connections)


_categories: TwoLevelCache[list[CategoryView]] = _cache("categories", list[CategoryView])
_pages: TwoLevelCache[CataloguePage] = _cache("catalogue", CataloguePage)
_shown: TwoLevelCache[ProductView] = _cache("product", ProductView)
_offers: TwoLevelCache[Offer] = _cache("offer", Offer)  # without the stock, which changes all the time


def categories() -> list[CategoryView]:
    """All categories in the order of the shop, up to CATALOGUE_CACHE_SECONDS old."""
    return _categories.get("all", _find_categories) or []


def evict_categories() -> None:
    """One of them has changed, and the change is committed."""
    _categories.invalidate(["all"])


def _find_categories() -> list[CategoryView]:
    rows = Category.objects.using(database_of("inventory")).order_by("position", "name").values_list("slug", "name")
    return [CategoryView(slug=slug, name=name) for slug, name in rows]


def catalogue(
    category: str | None = None,
    query: str | None = None,
    sort: Sort = Sort.NAME,
    after: Key | None = None,
    limit: int = 24,
) -> CataloguePage:
    """A page of the products on sale, up to CATALOGUE_CACHE_SECONDS old.

    `category` is a slug; each word of `query` is looked for in name, description and sku; `after` is the `next` of the
    page before.
    Raises InvalidPosition if `after` cannot have come from a page with this sort.
    """
    if after is not None:
        _check_position(after, sort)
    limit = max(1, min(limit, MAX_PAGE))
    query = query or ""
    # No product is described like this, and no database takes it as a question.
    if len(query) > domain.MAX_SEARCH or not storable(query) or not storable(category or ""):
        return CataloguePage(items=(), next=None)
    words = dict.fromkeys(unicodedata.normalize("NFC", query).split())  # a name may have any kind of space between two
    if words:
        return _catalogue(category, words, sort, after, limit)  # too many different ones to be worth keeping
    name = hashlib.blake2b(repr((category, sort.value, after, limit)).encode(), digest_size=16).hexdigest()
    page = _pages.get(name, functools.partial(_catalogue, category, (), sort, after, limit))
    return page or CataloguePage(items=(), next=None)


def _catalogue(category: str | None, words: Iterable[str], sort: Sort, after: Key | None, limit: int) -> CataloguePage:
    products = _products().filter(active=True)
    if category:
        products = products.filter(category__slug=category)
    for word in words:
        products = products.filter(Q(name__icontains=word) | Q(description__icontains=word) | Q(sku__icontains=word))
    field = sort.removeprefix("-")
    if after is not None:
        value, sku = after
        beyond = "lt" if sort is Sort.DEAREST else "gt"
        products = products.filter(Q(**{f"{field}__{beyond}": value}) | Q(**{field: value, "sku__gt": sku}))
    rows = _views(products.order_by(sort.value, "sku")[: limit + 1])
    items = tuple(rows[:limit])
    last = items[-1] if len(rows) > limit else None
    return CataloguePage(items=items, next=None if last is None else (getattr(last, field), last.sku))


def _check_position(after: Key, sort: Sort) -> None:
    value, sku = after
    expected = str if sort is Sort.NAME else int
    if type(value) is not expected or not storable(str(value)) or domain.SKU.fullmatch(sku) is None:
        raise InvalidPosition


def product(sku: str) -> ProductView | None:
    """The product as it was a moment ago, also one that is no longer on sale; None if there is none."""
    if not _possible([sku]):
        return None
    return _shown.get(sku, lambda: products_by_sku([sku]).get(sku))


def evict_products(skus: Collection[str]) -> None:
    """The stock of these products has changed, and the change is committed."""
    _shown.invalidate(skus)


def evict_offers(skus: Collection[str]) -> None:
    """These products have changed, and the change is committed."""
    evict_products(skus)
    _offers.invalidate(skus)


def products_by_sku(skus: Iterable[str]) -> dict[str, ProductView]:
    """Those of the products that there are, also if no longer on sale."""
    wanted = _possible(skus)
    if not wanted:
        return {}
    return {view.sku: view for view in _views(_products().filter(sku__in=wanted))}


def availability(skus: Iterable[str]) -> dict[str, int]:
    """How many pieces of each product could be reserved now; 0 for a product that does not exist."""
    asked = list(skus)
    stock = Stock.objects.using(database_of("inventory")).filter(product__sku__in=_possible(asked))
    return dict.fromkeys(asked, 0) | dict(stock.values_list("product__sku", "available"))


def low_stock(*, at_most: int, limit: int) -> list[ProductView]:
    """Products on sale of which at most so many pieces are available, the scarcest first."""
    few = _products().filter(active=True, stock__available__lte=at_most)
    return _views(few.order_by("stock__available", "sku")[:limit])


def price_lines(wanted: Sequence[tuple[str, int]]) -> list[PricedLine]:
    """Pairs of sku and quantity at the prices that are shown, each product once, in the order of first mention.

    Like what is shown, a price may be CATALOGUE_CACHE_SECONDS old if this process did not receive the eviction.
    Raises UnknownSku, NotOnSale naming the products, InvalidQuantity, MixedCurrencies.
    """
    quantities = domain.merge_wanted(wanted)
    on_sale = _offers_of(quantities)
    if unknown := [sku for sku in quantities if sku not in on_sale]:
        raise domain.UnknownSku(*unknown)
    if gone := [sku for sku, offer in on_sale.items() if not offer.active]:
        raise domain.NotOnSale(*gone)
    if len(currencies := {view.currency for view in on_sale.values()}) > 1:
        raise domain.MixedCurrencies(", ".join(sorted(currencies)))
    return [
        PricedLine(
            sku=sku,
            name=on_sale[sku].name,
            quantity=quantity,
            unit_price=on_sale[sku].price,
            currency=on_sale[sku].currency,
        )
        for sku, quantity in quantities.items()
    ]


def _offers_of(skus: Collection[str]) -> dict[str, Offer]:
    """Those of the products that there are. What is not remembered is asked for with one question."""
    wanted = _possible(skus)

    @functools.cache
    def loaded() -> dict[str, Offer]:
        rows = _products().filter(sku__in=wanted).values_list("sku", "name", "price", "currency", "active")
        return {
            sku: Offer(name=name, price=price, currency=currency, active=active)
            for sku, name, price, currency, active in rows
        }

    found = {sku: _offers.get(sku, lambda sku=sku: loaded().get(sku)) for sku in wanted}  # type: ignore[misc]
    return {sku: offer for sku, offer in found.items() if offer is not None}


def _possible(skus: Iterable[str]) -> list[str]:
    """Without what cannot be a sku, which a database may not even accept as a question."""
    return sorted({sku for sku in skus if domain.SKU.fullmatch(sku)})


def _products() -> QuerySet[Product]:
    return Product.objects.using(database_of("inventory"))


def _views(products: QuerySet[Product]) -> list[ProductView]:
    rows = products.values_list(
        "sku",
        "name",
        "description",
        "category__slug",
        "category__name",
        "price",
        "currency",
        "picture",
        "active",
        "stock__available",
    )
    return [
        ProductView(
            sku=sku,
            name=name,
            description=description,
            category=category,
            category_name=category_name,
            price=price,
            currency=currency,
            picture=picture,
            active=active,
            available=available or 0,
        )
        for sku, name, description, category, category_name, price, currency, picture, active, available in rows
    ]
