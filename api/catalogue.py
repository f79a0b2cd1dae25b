"""Products in the API. Everybody may look at them."""

from __future__ import annotations

import re
from typing import Annotated

from django.http import HttpRequest
from msgspec import Meta
from ninja import Path, Query, Router

from api.problems import Problem
from api.schemas import PRINTABLE, Answer, Cursor, Limit, Page, from_cursor, invalid_cursor, to_cursor
from caching.responses import Cacheable
from inventory import pictures, selectors
from inventory.domain import MAX_SEARCH, SKU
from inventory.selectors import InvalidPosition, ProductView, Sort

Position = tuple[str | Annotated[int, Meta(ge=0, le=2**53)], str]

# List and product are the same for everybody (see caching.responses).
CACHED = Cacheable(
    address=re.compile(rf"/api/v1/products(/{SKU.pattern})?"),
    parameters=frozenset({"category", "sort", "cursor", "limit"}),
    of_product="/api/v1/products/{}".format,
    pages=False,
)

router = Router(tags=["products"])


class Product(Answer):
    """`price` in minor units of `currency`; `picture` is an address; `available` is how many could be ordered now."""

    sku: str
    name: str
    description: str
    category: str
    price: int
    currency: str
    picture: str
    active: bool
    available: int


@router.get("", response=Page[Product], operation_id="list_products")
def list_products(
    request: HttpRequest,
    cursor: Cursor = None,
    limit: Limit = 20,
    category: Annotated[str | None, Query(max_length=40, pattern=PRINTABLE)] = None,
    q: Annotated[str | None, Query(max_length=MAX_SEARCH, pattern=PRINTABLE, description="Words to look for.")] = None,
    sort: Sort = Sort.NAME,
) -> Page[Product]:
    """Products on sale, page by page."""
    after = from_cursor(cursor, Position) if cursor is not None else None
    try:
        page = selectors.catalogue(category, q, sort, after, limit)
    except InvalidPosition:
        raise invalid_cursor() from None
    return Page[Product](
        items=[_product(view) for view in page.items],
        next_cursor=to_cursor(page.next) if page.next is not None else None,
    )


@router.get("/{sku}", response=Product, operation_id="get_product")
def get_product(request: HttpRequest, sku: Annotated[str, Path(max_length=40, pattern=PRINTABLE)]) -> Product:
    """One product, with its availability at this moment."""
    view = selectors.product(sku)
    if view is None:
        raise Problem("product_not_found", f"There is no product {sku}.")
    return _product(view)


def _product(view: ProductView) -> Product:
    return Product.model_validate(view).model_copy(update={"picture": pictures.address(view)})
