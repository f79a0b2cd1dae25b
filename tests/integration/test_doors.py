"""One rule a field: every door gives the same verdict on a value, and stores the same text for it."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.test import Client

from checkout import service as checkout
from coupons.domain import CouponError
from eventing.testing import drain
from inventory import handlers as inventory
from inventory.domain import InventoryError
from inventory.models import Category, Product, Stock, StockMovement
from orders import selectors
from orders.domain import OrderError
from orders.events import Address
from sharding import numbers
from storefront.models import UsualAddress
from tests.factories import OperatorFactory
from tests.integration.browser_forms import shown
from tests.integration.shop_api import METADATA, Api, stock_the_shop
from tests.unit.test_texts import BAD, GOOD

pytestmark = [pytest.mark.once, pytest.mark.django_db(databases="__all__")]

NOW = datetime.now(UTC)
HOME = {"name": "Ann", "street": "Quay 1", "postal_code": "20457", "city": "Hamburg", "country": "DE"}
TEXTS: dict[str, str | None] = {**GOOD, **dict.fromkeys(BAD.values())}

Door = Callable[[str], str | None]  # what is stored for what is typed, None if it is refused


@pytest.fixture(scope="module")
def customer(shared_databases: None) -> User:
    stock_the_shop()
    return OperatorFactory.create(username="ann")


@pytest.fixture
def api(db: None, customer: User) -> Api:
    return Api(copy(customer))


@pytest.fixture
def browser(api: Api) -> Client:
    client = Client()
    client.force_login(api.customer)
    return client


def agree(typed: str, stored: str | None, *doors: Door) -> None:
    assert [door(typed) for door in doors] == [stored] * len(doors)


def json_cannot(typed: str) -> bool:
    """Half a character is no text in JSON, and no form can send it."""
    return any("\ud800" <= character <= "\udfff" for character in typed)


VALUES = [
    pytest.param(typed, stored, id=name)
    for name, typed, stored in (
        *((stored[:20], typed, stored) for typed, stored in GOOD.items()),
        *((name, typed, None) for name, typed in BAD.items()),
    )
    if not json_cannot(typed)
]


@pytest.mark.parametrize("field", ["name", "street", "city"])
@pytest.mark.parametrize("typed, stored", VALUES)
def test_address_is_judged_alike_by_page_api_and_checkout(
    api: Api, browser: Client, field: str, typed: str, stored: str | None
) -> None:
    if field == "street":
        typed, stored = typed.replace("x" * 101, "x" * 201), stored
        if typed == "e\u0301" * 101:
            stored = "é" * 101

    def page(text: str) -> str | None:
        UsualAddress.objects.all().delete()
        browser.post("/account/", {"action": "address", **HOME, field: text})
        return UsualAddress.objects.values_list(field, flat=True).first()

    def program(text: str) -> str | None:
        answer = api.order({"lines": [{"sku": "BOOK", "quantity": 1}], "ship_to": HOME | {field: text}})
        return answer.json()["ship_to"][field] if answer.status_code == 202 else None

    agree(typed, stored, page, program, placed(api, field))


def placed(api: Api, field: str) -> Door:
    def place(text: str) -> str | None:
        address = Address(**HOME | {field: text})
        try:
            placement = checkout.place(
                api.customer.pk, [("BOOK", 1)], None, key=uuid4().hex, metadata=METADATA, ship_to=address
            )
        except OrderError:
            return None
        return str(getattr(selectors.ship_to(placement.order_id), field))

    return place


@pytest.mark.parametrize(
    "typed, stored",
    [
        ("DE", "DE"),
        ("IR", "IR"),
        ("GB", "GB"),
        *((code, None) for code in ("ZZ", "KP", "UK", "de", "DEU", "", "D\u200bE")),
    ],
)
def test_countries_come_from_one_list(api: Api, browser: Client, typed: str, stored: str | None) -> None:
    def page(text: str) -> str | None:
        UsualAddress.objects.all().delete()
        browser.post("/account/", {"action": "address", **HOME, "country": text})
        return UsualAddress.objects.values_list("country", flat=True).first()

    def program(text: str) -> str | None:
        answer = api.order({"lines": [{"sku": "BOOK", "quantity": 1}], "ship_to": HOME | {"country": text}})
        return answer.json()["ship_to"]["country"] if answer.status_code == 202 else None

    agree(typed, stored, page, program, placed(api, "country"))


@pytest.mark.parametrize("typed, stored", VALUES)
def test_products_are_named_alike_by_admin_and_seed(browser: Client, typed: str, stored: str | None) -> None:
    typed = typed.replace("x" * 101, "x" * 201).replace("e\u0301" * 101, "e\u0301" * 201)
    category = Category.objects.get()

    def admin(text: str) -> str | None:
        sku = uuid4().hex
        form = {"sku": sku, "name": text, "category": category.pk, "price": "1.00", "active": "on"}
        browser.post("/admin/inventory/product/add/", form)
        return Product.objects.filter(sku=sku).values_list("name", flat=True).first()

    def seed(text: str) -> str | None:
        sku = uuid4().hex
        try:
            inventory.add_product(sku=sku, name=text, category=category.slug, price=100, currency="EUR")
        except InventoryError:
            return None
        return Product.objects.get(sku=sku).name

    agree(typed, stored, admin, seed)


@pytest.mark.parametrize("typed, stored", VALUES)
def test_a_reason_is_judged_alike_by_admin_and_handler(browser: Client, typed: str, stored: str | None) -> None:
    typed = typed.replace("x" * 101, "x" * 201).replace("e\u0301" * 101, "e\u0301" * 201)

    def noted() -> str | None:
        return StockMovement.objects.filter(sku="PEN", quantity=7).values_list("reason", flat=True).first()

    def admin(text: str) -> str | None:
        StockMovement.objects.filter(quantity=7).delete()
        form = {"quantity": 7, "reason": text, "seen": Stock.objects.get(pk="PEN").version}
        browser.post(f"/admin/inventory/product/{Product.objects.get(sku='PEN').pk}/receive-stock/", form)
        return noted()

    def handler(text: str) -> str | None:
        StockMovement.objects.filter(quantity=7).delete()
        try:
            inventory.receive_stock("PEN", 7, text, NOW, METADATA)
        except InventoryError:
            return None
        return noted()

    agree(typed, stored, admin, handler)


@pytest.mark.parametrize("typed, stored", [value for value in VALUES if value.id != "nothing"])
def test_people_are_named_alike_by_their_page_and_the_admin(
    api: Api, browser: Client, typed: str, stored: str | None
) -> None:
    typed = typed.replace("x" * 101, "x" * 151).replace("e\u0301" * 101, "e\u0301" * 151)
    if typed.isspace():
        stored = ""  # a person need not have a name
    user = api.customer

    def page(text: str) -> str | None:
        return changed("/account/", {"action": "details", "first_name": text, "email": user.email})

    def admin(text: str) -> str | None:
        path = f"/admin/auth/user/{user.pk}/change/"
        User.objects.filter(pk=user.pk).update(first_name="before")
        return changed(path, shown(browser.get(path)) | {"first_name": text})

    def changed(path: str, form: dict[str, Any]) -> str | None:
        User.objects.filter(pk=user.pk).update(first_name="before")
        browser.post(path, form)
        name: str = User.objects.values_list("first_name", flat=True).get(pk=user.pk)
        return None if name == "before" else name

    agree(typed, stored, page, admin)


@pytest.mark.parametrize(
    "typed, stored",
    [
        ("TEN", "TEN"),
        (" ten ", "TEN"),
        *((code, None) for code in ("TEN\u200b", "\u202eTEN", "TEИ", "ＴＥＮ", "T\x07EN")),
    ],
)
def test_a_coupon_is_read_alike_by_page_and_api(api: Api, browser: Client, typed: str, stored: str | None) -> None:
    def page(text: str) -> str | None:
        browser.post("/products/BOOK/add/", {"quantity": 1})
        answer = browser.post("/checkout/quote/", {"coupon": text})
        quote = answer.context["summary"].quote
        return quote.coupon_code if quote else None

    def program(text: str) -> str | None:
        answer = api.order({"lines": [{"sku": "BOOK", "quantity": 1}], "coupon": text})
        return answer.json()["coupon"] if answer.status_code == 202 else None

    def place(text: str) -> str | None:
        try:
            placement = checkout.place(api.customer.pk, [("BOOK", 1)], text, key=uuid4().hex, metadata=METADATA)
        except CouponError:
            return None
        return placement.placed.coupon_code

    agree(typed, stored, page, program, place)


@pytest.mark.parametrize("number", ["{lower}", "{dashed}", "{spaced}", "{read}"])
def test_an_order_is_found_by_its_number_as_people_write_it(api: Api, browser: Client, number: str) -> None:
    printed = api.place(("BOOK", 1))
    drain()
    written = number.format(
        lower=printed.lower(),
        dashed=f"{printed[:4]}-{printed[4:8]}\u2011{printed[8:]}",
        spaced=f" {printed[:4]} {printed[4:8]}\u00a0{printed[8:]} ",
        read=printed.replace("1", "l").replace("0", "O"),
    )
    assert numbers.to_text(numbers.parse(written)) == printed
    assert api.get(f"/orders/{written}").json()["number"] == printed
    assert browser.get(f"/orders/{written}/").url == f"/orders/{printed}/"
    found = browser.get("/admin/inventory/reservation/", {"q": written})
    assert found.context["cl"].result_count == 1
