"""Stock is corrected with a reason, never below what orders have been promised, and its history is drawn."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.db import IntegrityError, transaction
from django.test import Client

from eventing.models import Event
from eventing.recorded import Metadata
from inventory import handlers
from inventory.domain import BelowReserved, InvalidQuantity, UnknownSku
from inventory.models import Product, Stock, StockMovement
from tests.factories import NOON, CustomerFactory, OperatorFactory
from tests.integration.shop_api import stock_the_shop
from tests.integration.test_admin import bought, client_of, staff, text

pytestmark = pytest.mark.django_db(databases="__all__")

METADATA = Metadata(correlation_id="test")


@pytest.fixture
def office(db: None) -> Client:
    return client_of(OperatorFactory.create())


@pytest.fixture
def book(db: None) -> Product:
    """1000 pieces, 4 of them reserved."""
    stock_the_shop()
    bought(CustomerFactory.create(username="ann"), ("BOOK", 4))
    return Product.objects.get(sku="BOOK")


def levels() -> tuple[int, int, int]:
    stock = Stock.objects.get(pk="BOOK")
    return stock.on_hand, stock.reserved, stock.available


def adjust(client: Client, book: Product, quantity: str, **fields: Any) -> Any:
    form = {"quantity": quantity, "reason": "stocktaking", "seen": Stock.objects.get(pk="BOOK").version, **fields}
    return client.post(f"/admin/inventory/product/{book.pk}/adjust-stock/", form, follow=True)


@pytest.mark.parametrize("change,after", [(7, (1007, 4, 1003)), (-996, (4, 4, 0))])
def test_an_adjustment_changes_stock_ledger_and_stream(book: Product, change: int, after: tuple[int, ...]) -> None:
    handlers.adjust_stock("BOOK", change, "stocktaking", NOON, METADATA)

    assert levels() == after
    movement = StockMovement.objects.filter(sku="BOOK")[0]
    assert (movement.kind, movement.quantity, movement.reason, movement.order_id) == (
        "adjusted", change, "stocktaking", None,
    )  # fmt: skip
    event = Event.objects.get(stream_id=book.pk, category="product", version=2)
    assert event.type == "inventory.stock_adjusted"
    assert (event.data["sku"], event.data["change"], event.data["reason"]) == ("BOOK", change, "stocktaking")


@pytest.mark.parametrize(
    "sku,change,error",
    [
        ("BOOK", -997, BelowReserved),
        ("BOOK", 0, InvalidQuantity),
        ("BOOK", True, InvalidQuantity),
        ("BOOK", 1_000_001, InvalidQuantity),
        ("NONE", 1, UnknownSku),
    ],
)
def test_an_adjustment_that_cannot_be_changes_nothing(
    book: Product, sku: str, change: int, error: type[Exception]
) -> None:
    before = (levels(), StockMovement.objects.count(), Event.objects.count())

    with pytest.raises(error):
        handlers.adjust_stock(sku, change, "stocktaking", NOON, METADATA)

    assert (levels(), StockMovement.objects.count(), Event.objects.count()) == before


def test_the_error_tells_the_numbers(book: Product) -> None:
    with pytest.raises(BelowReserved, match="1000 of BOOK on hand, 4 set aside, and 997 to be taken"):
        handlers.adjust_stock("BOOK", -997, "stocktaking", NOON, METADATA)


@pytest.mark.parametrize("kind,quantity", [("adjusted", 0), ("received", -1), ("shipped", 0)])
def test_the_ledger_refuses_what_makes_no_sense(book: Product, kind: str, quantity: int) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        StockMovement.objects.create(sku="BOOK", kind=kind, quantity=quantity, reason="x", at=NOON)


def test_an_operator_adjusts_with_a_reason(office: Client, book: Product) -> None:
    page = text(adjust(office, book, "-6", reason="broken"))

    assert levels() == (994, 4, 990)
    assert "A book: Adjusted by -6: broken." in page
    assert LogEntry.objects.filter(change_message__contains="Adjusted by -6").exists()
    assert "adjusted -6 BOOK broken" in text(office.get("/admin/inventory/stockmovement/"))


@pytest.mark.parametrize(
    "quantity,fields,said",
    [
        ("-997", {}, "Stock cannot go below what is set aside for orders"),
        ("0", {}, "A quantity must be a whole number"),
        ("-1", {"reason": ""}, "This field is required"),
        ("-1", {"seen": "0"}, "was changed since this form was opened"),
        ("-1000001", {}, "greater than or equal to -1000000"),
    ],
)
def test_an_adjustment_is_refused_in_words(
    office: Client, book: Product, quantity: str, fields: dict[str, str], said: str
) -> None:
    assert said in text(adjust(office, book, quantity, **fields))
    assert levels() == (1000, 4, 996)


def test_who_may_only_look_at_products_adjusts_nothing(book: Product) -> None:
    assert adjust(staff("view_product"), book, "1").status_code == 403
    assert levels() == (1000, 4, 996)


def test_the_page_of_a_product_draws_its_movements(office: Client, book: Product) -> None:
    handlers.adjust_stock("BOOK", -500, "stocktaking", NOON, METADATA)

    page = office.get(f"/admin/inventory/product/{book.pk}/change/").content.decode()

    assert 'aria-label="Pieces of A book on hand, a step for each of the last 2 movements"' in page
    # From nothing to 1000 to 500: the line starts at the bottom, goes to the top and half down again.
    assert 'class="bo-chart-line" d="M52 98.0H248.0V10.0H444.0V54.0H640.0"' in page
    assert "/admin/inventory/stockmovement/?q=BOOK" in page
    assert "style=" not in page[page.index("bo-chart") : page.index("</svg>", page.index("bo-chart"))]
