"""The shop's pages, as a browser without JavaScript sees them."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any
from uuid import uuid4

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.core.cache import cache
from django.db import connections
from django.http import HttpResponse
from django.template.loader import render_to_string
from django.test import Client
from django.test.utils import CaptureQueriesContext
from pytest_django import DjangoAssertNumQueries, Settings

from accounts import registration as accounts
from coupons import handlers as coupons
from coupons.domain import Kind
from eventing.recorded import Metadata
from eventing.testing import drain
from inventory import handlers as inventory
from inventory import pictures
from inventory import selectors as catalogue
from inventory.models import Product
from notifications import handlers as notifications
from notifications.models import Message
from orders import handlers as orders
from orders import selectors
from orders.commands import RefundOrder, ShipOrder
from sharding import numbers
from storefront import throttle
from storefront.models import CustomerCart
from tests.factories import CustomerFactory, ProductFactory
from tests.integration.parallel import at_once
from tests.integration.shop_api import METADATA, PASSWORD, rows, stock_the_shop

pytestmark = pytest.mark.django_db(databases="__all__")

ADDRESS = {"name": "Ann Lee", "street": "Quay 1", "postal_code": "20457", "city": "Hamburg", "country": "DE"}
HIDDEN = re.compile(r'name="(key|prices)" value="([^"]*)"')
ERROR = re.compile(r'<p class="error" id="id_([^"]+)_error">(.*?)</p>', re.DOTALL)


@dataclass
class Browser:
    """A visitor's browser: keeps cookies, follows redirects when told to, and knows how to fill in the forms."""

    client: Client = field(default_factory=Client)
    user: User | None = None

    @classmethod
    def of(cls, username: str) -> Browser:
        browser = cls(user=CustomerFactory.create(username=username, password=PASSWORD))
        assert browser.user is not None
        browser.client.force_login(browser.user)
        return browser

    def get(self, path: str, **extra: Any) -> Any:
        return self.client.get(path, **extra)

    def text(self, path: str) -> str:
        response = self.client.get(path)
        assert response.status_code == 200, response
        return body(response)

    def add(self, sku: str, quantity: str, **more: str) -> Any:
        """Put something into the cart."""
        return self.client.post(f"/products/{sku}/add/", {"quantity": quantity} | more)

    def fill(self, **wanted: int) -> None:
        """`BOOK=2` puts two books into the cart."""
        for sku, quantity in wanted.items():
            response = self.add(sku, str(quantity))
            assert response.status_code == 302, body(response)

    def form(self) -> dict[str, str]:
        """The hidden fields of the checkout, as it is opened now."""
        return ADDRESS | hidden(self.text("/checkout/"))

    def send(self, form: dict[str, str], *, action: str = "place", **typed: str) -> Any:
        """Send the form of the checkout."""
        return self.client.post("/checkout/", form | {"action": action} | typed)

    def place(self, coupon: str = "", **wanted: int) -> str:
        """Place an order of this and what is in the cart; return the path of its page."""
        self.fill(**wanted)
        response = self.send(self.form(), coupon=coupon)
        assert response.status_code == 302, body(response)
        return str(response.url)


def hidden(page: str) -> dict[str, str]:
    """The hidden fields of the checkout's form."""
    found = dict(HIDDEN.findall(page))
    assert found.keys() == {"key", "prices"}
    return found


def body(response: HttpResponse) -> str:
    return unescape(response.content.decode())


def errors(response: HttpResponse) -> dict[str, str]:
    """What stands beside the fields, by field."""
    return {name: " ".join(text.split()) for name, text in ERROR.findall(body(response))}


def number_of(path: str) -> int:
    return numbers.parse(path.rstrip("/").rpartition("/")[2])


@pytest.fixture(autouse=True)
def quiet_corner(settings: Settings) -> None:
    """A cache that no other test sees, and hashing that does not take half a second on purpose."""
    backend = "django.core.cache.backends.locmem.LocMemCache"
    settings.CACHES = {"default": {"BACKEND": backend, "LOCATION": uuid4().hex}}
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def visitor(db: None) -> Browser:
    stock_the_shop()
    return Browser()


@pytest.fixture
def ann(visitor: Browser) -> Browser:
    return Browser.of("ann")


# --- The shop --------------------------------------------------------------------------------------------------------


def test_shop_shows_name_price_picture_and_availability_of_every_product(visitor: Browser) -> None:
    ProductFactory.create(sku="GONE", name="A dodo", price=123_456)
    ProductFactory.create(sku="FEW", name="A phoenix", price=5, pieces=3)
    page = visitor.text("/")
    for expected in ("A book", "€10.00", "1000 in stock", "A dodo", "€1,234.56", "Sold out", "€0.05", "Only 3 left"):
        assert expected in page
    assert re.search(r'<img src="/pictures/BOOK\.svg\?v=[0-9a-f]{8}"', page)
    assert 'href="/products/BOOK/"' in page


def test_shop_without_products_says_so(db: None) -> None:
    assert "The shelves are empty" in Browser().text("/")


def names(page: str) -> list[str]:
    return re.findall(r'<a href="/products/[^"]+">([^<]+)</a>', page)


def test_products_are_found_by_category_and_text_and_sorted(visitor: Browser) -> None:
    ProductFactory.create(sku="DODO", name="A dodo", category="birds", price=600)
    assert names(visitor.text("/?category=birds")) == ["A dodo"]
    assert names(visitor.text("/?q=pen")) == ["A pen"]
    assert names(visitor.text("/?sort=price")) == ["A pen", "A dodo", "A book", "A lamp"]
    assert names(visitor.text("/?sort=-price&category=things")) == ["A lamp", "A book", "A pen"]
    page = visitor.text("/?q=unheard-of")
    assert "No products match “unheard-of”." in page
    assert 'value="unheard-of"' in page


@pytest.mark.parametrize("sort", ["name", "price", "-price"])
def test_pages_of_the_catalogue_show_every_product_once(many: Browser, sort: str) -> None:
    seen: list[str] = []
    address: str | None = f"/?sort={sort}&category=things"
    while address:
        page = many.text(address)
        seen += names(page)
        found = re.search(r'href="([^"]+)" rel="next"', page)
        address = found[1] if found else None
    assert len(seen) == len(set(seen)) == 113


@pytest.mark.parametrize(
    "address",
    [
        "/?after=x%00y&sku=BOOK",
        "/?after=x&sku=%00",
        "/?after=x&sku=" + "x" * 50,
        "/?after=x&sku=BOOK&sort=price",
        f"/?after={'9' * 500}&sku=BOOK&sort=price",
        "/?sort=nonsense",
        "/?category=nonsense",
        "/?category=%00",
        "/products/NOPE/",
        "/products/%00/",
        "/products/NOPE/stock/",
    ],
)
def test_page_that_does_not_exist_is_404(visitor: Browser, address: str) -> None:
    assert visitor.get(address).status_code == 404


def test_whatever_is_in_the_catalogue_is_escaped(visitor: Browser) -> None:
    nasty = "<script>alert(1)</script>"
    inventory.add_category(slug="nasty", name=nasty)
    ProductFactory.create(sku="NASTY", name=nasty, category="nasty", description=nasty, picture=nasty, pieces=10)
    ann = Browser.of("ann")
    path = ann.place(NASTY=1)
    drain()
    ann.fill(NASTY=1)
    nastier = f"/?q={nasty}&category=nasty"
    pages = ("/", nastier, "/products/NASTY/", "/cart/", "/checkout/", path, "/inbox/", "/pictures/NASTY.svg")
    for address in pages:
        assert nasty not in ann.get(address).content.decode(), address


def test_product_page_follows_the_stock(visitor: Browser) -> None:
    page = visitor.text("/products/BOOK/")
    assert "1000 in stock" in page
    found = re.search(r'hx-get="(/products/BOOK/stock/\?seen=1000)"', page)
    assert found is not None
    assert visitor.get(found[1]).status_code == 204
    inventory.receive_stock("BOOK", 5, "delivery", datetime.now(UTC), METADATA)
    assert "1005 in stock" in visitor.text(found[1])


def test_product_no_longer_on_sale_can_be_looked_at_but_not_taken(visitor: Browser) -> None:
    ProductFactory.create(sku="OLD", name="An LP", active=False)
    page = visitor.text("/products/OLD/")
    assert "This is no longer on sale." in page
    assert "Add to cart" not in page
    assert "no longer on sale" in body(visitor.add("OLD", "1"))
    assert "Your cart is empty" in visitor.text("/cart/")


# --- The cart --------------------------------------------------------------------------------------------------------


def test_what_is_added_is_in_the_cart_with_its_sum(visitor: Browser) -> None:
    assert "Your cart is empty" in visitor.text("/cart/")
    visitor.fill(BOOK=2, PEN=1)
    visitor.fill(BOOK=1)
    page = visitor.text("/cart/")
    assert re.search(r'name="q-BOOK" value="3"', page)
    assert "€32.50" in page
    assert '<span class="count">4<' in page


def test_adding_leads_back_to_where_it_was_found_but_never_to_another_site(visitor: Browser) -> None:
    assert visitor.add("BOOK", "1", next="/?q=book").url == "/?q=book"
    assert "Added to your cart: A book." in visitor.text("/")
    for elsewhere in ("https://evil.example/", "//evil.example/", "javascript:alert(1)"):
        assert visitor.add("BOOK", "1", next=elsewhere).url == "/products/BOOK/"


def test_quantities_in_the_cart_can_be_changed_and_products_removed(visitor: Browser) -> None:
    visitor.fill(BOOK=2, PEN=1, LAMP=1)
    visitor.client.post("/cart/", {"q-BOOK": "5", "q-PEN": "0", "q-NOPE": "3"})
    page = visitor.text("/cart/")
    assert re.findall(r'name="q-(\w+)" value="(\d+)"', page) == [("BOOK", "5"), ("LAMP", "1")]
    visitor.client.post("/cart/remove/", {"sku": "BOOK"})
    assert re.findall(r'name="q-(\w+)" value="(\d+)"', visitor.text("/cart/")) == [("LAMP", "1")]
    assert visitor.client.post("/cart/", {"q-LAMP": "2", "action": "checkout"}).url == "/checkout/"


@pytest.mark.parametrize(
    "typed, message",
    [
        ("-1", "A whole number from 1 to 999, please."),
        ("1.5", "A whole number from 1 to 999, please."),
        ("1e3", "A whole number from 1 to 999, please."),
        ("two", "A whole number from 1 to 999, please."),
        ("\u0663", "A whole number from 1 to 999, please."),
        ("1\x00", "A whole number from 1 to 999, please."),
        ("1000", "At most 999 pieces of one product."),
        ("9" * 60_000, "A whole number from 1 to 999, please."),
    ],
)
def test_bad_quantity_is_explained_beside_its_field_and_kept(visitor: Browser, typed: str, message: str) -> None:
    assert errors(visitor.add("BOOK", typed)) == {"quantity": message}
    assert "Your cart is empty" in visitor.text("/cart/")
    visitor.fill(BOOK=1, PEN=1)
    response = visitor.client.post("/cart/", {"q-BOOK": typed, "q-PEN": "7"})
    assert errors(response) == {"q-BOOK": message}
    assert f'value="{typed}"' in body(response)
    assert 'name="q-PEN" value="7"' in body(response)
    assert 'name="q-PEN" value="1"' in visitor.text("/cart/")


def test_nothing_of_a_product_is_not_added(visitor: Browser) -> None:
    for typed in ("0", "", " "):
        assert "quantity" in errors(visitor.add("BOOK", typed))


def test_no_more_than_999_pieces_fit_into_the_cart(visitor: Browser) -> None:
    visitor.fill(BOOK=600)
    assert "At most 999 pieces of one product; 600 are in" in errors(visitor.add("BOOK", "400"))["quantity"]
    assert 'name="q-BOOK" value="600"' in visitor.text("/cart/")


def test_no_more_than_100_products_fit_into_the_cart(many: Browser) -> None:
    many.fill(**{f"M{number}": 1 for number in range(100)})
    assert errors(many.add("BOOK", "1")) == {"quantity": "An order has at most 100 different products."}


def test_product_that_went_off_sale_keeps_the_cart_from_being_ordered(ann: Browser) -> None:
    ann.fill(BOOK=1, PEN=1)
    Product.objects.filter(sku="BOOK").update(active=False)
    assert "No longer on sale: please remove it." in ann.text("/cart/")
    assert ann.get("/checkout/").url == "/cart/"
    ann.client.post("/cart/remove/", {"sku": "BOOK"})
    assert ann.get("/checkout/").status_code == 200


def test_cart_says_when_there_is_less_than_wanted(ann: Browser) -> None:
    ProductFactory.create(pieces=5, sku="FEW", name="A phoenix")
    ann.fill(FEW=5)
    inventory.adjust_stock("FEW", -2, "broken", datetime.now(UTC), METADATA)
    assert "Only 3 left" in ann.text("/cart/")
    assert "A phoenix: only 3 left, you want 5." in ann.text("/checkout/")


# --- The checkout ----------------------------------------------------------------------------------------------------


def test_checkout_places_an_order_leads_to_its_page_and_empties_the_cart(ann: Browser) -> None:
    path = ann.place(BOOK=2, PEN=1, coupon="ten")
    order = selectors.get(number_of(path))
    assert order is not None
    assert ann.user is not None
    assert [(line.sku, line.quantity) for line in order.lines] == [("BOOK", 2), ("PEN", 1)]
    assert (order.customer_id, order.total, order.coupon_code) == (ann.user.pk, 2025, "TEN")
    page = ann.text(path)
    assert "We are checking our stock and your coupon." in page
    assert "€20.25" in page
    assert "Your cart is empty" in ann.text("/cart/")
    assert ann.get("/checkout/").url == "/cart/"


def test_address_goes_with_the_order_and_is_offered_for_the_next(ann: Browser, caplog: Any, capsys: Any) -> None:
    assert ann.user is not None
    ann.fill(BOOK=1)
    path = str(ann.send(ann.form() | {"name": "Zoë <b>", "street": "Kaivokatu 1", "country": "FI"}).url)
    drain()
    page = ann.text(path)
    assert "Kaivokatu 1" in page
    assert "Finland" in page
    assert "<b>" not in ann.get(path).content.decode().replace("<b>1 ", "").replace("<b data", "")
    ann.fill(PEN=1)
    assert 'name="street" value="Kaivokatu 1"' in ann.text("/checkout/")
    output = capsys.readouterr()
    assert "Kaivokatu" not in caplog.text + output.out + output.err


@pytest.mark.parametrize(
    "field, typed, message",
    [
        ("name", "", "This field is required."),
        ("name", "  ", "This field is required."),
        ("street", "x" * 201, "Expected 1..200 characters, got 201."),
        ("city", "Ham\x07burg", "There is a control character in it."),
        ("city", "Ham\u0085burg", "There is a control character in it."),
        ("city", "Ham\x00burg", "There is a control character in it."),
        ("country", "XX", "We do not ship to this country."),
        ("country", "", "This field is required."),
    ],
)
def test_wrong_address_is_explained_beside_its_field_and_orders_nothing(
    ann: Browser, field: str, typed: str, message: str
) -> None:
    ann.fill(BOOK=1)
    form = ann.form()
    before = rows()
    response = ann.send(form | {field: typed})
    assert response.status_code == 200
    assert errors(response).keys() == {field}
    assert errors(response)[field].startswith(message)
    assert 'name="postal_code" value="20457"' in body(response)
    assert rows() == before
    assert errors(ann.send(form | {field: typed}, action="review")) == {}


def test_visitor_signs_in_and_finds_the_cart_as_it_was(visitor: Browser) -> None:
    Browser.of("ann")
    visitor.fill(BOOK=2)
    assert visitor.get("/checkout/").url == "/sign-in/?next=/checkout/"
    response = visitor.client.post("/sign-in/", {"username": "ann", "password": PASSWORD, "next": "/checkout/"})
    assert response.url == "/checkout/"
    assert "€20.00" in visitor.text("/checkout/")
    assert not Message.objects.filter(about="order_placed").exists()


def test_same_form_sent_again_leads_to_the_same_order(ann: Browser) -> None:
    ann.fill(BOOK=1)
    form = ann.form()
    first = ann.send(form)
    before = rows()
    second = ann.send(form)
    assert second.url == first.url
    assert rows() == before
    assert "Nothing was ordered twice" in ann.text(second.url)


def test_same_form_sent_again_before_the_cart_was_emptied_leads_to_the_same_order(ann: Browser) -> None:
    coupons.add_coupon(code="ONCE", kind=Kind.FIXED, value=100, currency="EUR", total_limit=1)
    ann.fill(BOOK=1)
    form = ann.form()
    kept = CustomerCart.objects.values_list("content", flat=True).get()
    first = ann.send(form, coupon="ONCE")
    drain()
    CustomerCart.objects.update(content=kept)
    assert ann.send(form, coupon="ONCE").url == first.url
    assert "Nothing was ordered twice" in ann.text(first.url)


def test_form_changed_while_its_first_copy_was_on_its_way_gets_a_fresh_key(ann: Browser) -> None:
    ann.fill(BOOK=1)
    form = ann.form()
    kept = CustomerCart.objects.values_list("content", flat=True).get()
    ann.send(form)
    CustomerCart.objects.update(content=kept)
    before = rows()
    response = ann.send(form, coupon="TEN")
    assert "has placed an order before it was changed" in body(response)
    assert rows() == before
    fresh = ADDRESS | hidden(body(response))
    assert fresh["key"] != form["key"]
    assert ann.send(fresh, coupon="TEN").status_code == 302


def test_every_content_of_the_cart_has_a_key_of_its_own(ann: Browser) -> None:
    ann.fill(BOOK=1)
    first = ann.form()["key"]
    assert ann.form()["key"] == first
    ann.fill(PEN=1)
    assert ann.form()["key"] != first


@pytest.mark.parametrize("key", [None, "", "x", "0" * 32, "0" * 300])
def test_form_of_another_cart_orders_nothing_and_is_shown_anew(ann: Browser, key: str | None) -> None:
    ann.fill(BOOK=1)
    form = ann.form()
    ann.fill(PEN=1)
    before = rows()
    response = ann.send(form | ({} if key is None else {"key": key}), coupon="TEN")
    assert "Your cart is not what it was when this page was opened." in body(response)
    assert 'name="coupon" value="TEN"' in body(response)
    assert rows() == before
    assert ann.send(ADDRESS | hidden(body(response))).status_code == 302


def test_price_that_changed_since_it_was_put_in_is_pointed_out(ann: Browser) -> None:
    ann.fill(BOOK=1)
    Product.objects.filter(sku="BOOK").update(price=1200)
    for address in ("/cart/", "/checkout/"):
        assert "A book</b>: €10.00 then, €12.00 now." in ann.text(address)
    order = selectors.get(number_of(ann.place()))
    assert order is not None
    assert order.total == 1200


def test_price_that_changes_while_somebody_looks_at_it_is_not_charged_unseen(ann: Browser) -> None:
    ann.fill(BOOK=1)
    form = ann.form()
    Product.objects.filter(sku="BOOK").update(price=1200)
    before = rows()
    response = ann.send(form)
    assert "A price has changed while you were looking." in body(response)
    assert "€10.00 then, €12.00 now." in body(response)
    assert rows() == before
    assert ann.send(ADDRESS | hidden(body(response))).status_code == 302


@pytest.mark.django_db(databases="__all__", transaction=True)
def test_double_clicks_at_the_same_moment_make_one_order() -> None:
    stock_the_shop()
    ann = Browser.of("ann")
    ann.fill(BOOK=1)
    form = ann.form()
    answers: list[str] = []

    def click() -> None:
        browser = Browser()
        browser.client.cookies.update(ann.client.cookies)
        answers.append(str(browser.send(form).url))

    assert at_once([click] * 6, using="default") == []
    assert len(answers) == 6
    assert len(set(answers)) == 1
    assert ann.user is not None
    assert len(selectors.orders_of(ann.user.pk, limit=10)) == 1


def test_discount_is_shown_before_anything_is_ordered(ann: Browser) -> None:
    ann.fill(BOOK=2, LAMP=1)
    before = rows()
    page = body(ann.send(ann.form(), coupon="TEN", action="review"))
    assert "€45.00" in page
    assert "-€5.00" in page
    assert 'name="coupon" value="TEN"' in page
    assert rows() == before


def test_enter_key_presses_the_button_that_orders_nothing(ann: Browser) -> None:
    ann.fill(BOOK=1)
    for address, expected in (("/checkout/", ["review", "review", "place"]), ("/cart/", ["update", "checkout"])):
        assert re.findall(r'<button[^>]*name="action"\s+value="(\w+)"', ann.text(address)) == expected


def test_summary_follows_the_coupon(ann: Browser) -> None:
    ann.fill(PEN=4)
    assert "€9.00" in body(ann.client.post("/checkout/quote/", {"coupon": "TEN"}))
    response = ann.client.post("/checkout/quote/", {"coupon": "nope"})
    assert "€10.00" in body(response)
    assert "There is no such coupon." in body(response)
    assert "An order needs at least one line." in body(Browser.of("bob").client.post("/checkout/quote/", {}))


def test_products_in_different_currencies_cannot_be_ordered_together(ann: Browser) -> None:
    ProductFactory.create(pieces=1000, sku="YEN", name="A fan", price=500, currency="JPY")
    ann.fill(BOOK=1, YEN=1)
    before = rows()
    page = ann.text("/checkout/")
    assert 'class="error"' in page
    assert ann.send(ADDRESS | hidden(page)).status_code == 200
    assert rows() == before


@pytest.fixture
def many(ann: Browser) -> Browser:
    """Ann, in a shop of several pages."""
    for number in range(110):
        ProductFactory.create(pieces=1000, sku=f"M{number}", name=f"Mug {number:03}", price=100)
    return ann


@pytest.mark.parametrize(
    "code, message",
    [
        ("NOPE", "There is no such coupon."),
        ("SOON", "The coupon is not valid yet"),
        ("LATE", "The coupon has expired"),
        ("USED", "The coupon has been used up."),
        ("MINE", "The coupon may not be used again by the same customer"),
        ("RICH", "The order is too small for this coupon"),
        ("A\x07B", "A coupon has no characters that cannot be seen."),
        ("A\x00B", "Null characters are not allowed."),
        ("x" * 41, "Ensure this value has at most 40 characters (it has 41)."),
    ],
)
def test_refused_coupon_is_explained_beside_its_field(ann: Browser, code: str, message: str) -> None:
    now = datetime.now(UTC)
    terms: dict[str, dict[str, Any]] = {
        "SOON": {"valid_from": now + timedelta(days=1)},
        "LATE": {"valid_until": now - timedelta(days=1)},
        "USED": {"total_limit": 1},
        "MINE": {"per_customer_limit": 1},
        "RICH": {"minimum_spend": 100_000},
    }
    if code in terms:
        coupons.add_coupon(code=code, kind=Kind.FIXED, value=100, currency="EUR", **terms[code])
    if code in ("USED", "MINE"):
        ann.place(BOOK=1, coupon=code)
        drain()
    ann.fill(BOOK=1)
    form = ann.form()
    before = rows()
    response = ann.send(form, coupon=code)
    assert response.status_code == 200
    assert errors(response)["coupon"].startswith(message)
    assert rows() == before
    assert ann.send(form).status_code == 302


def test_form_of_another_site_is_refused(ann: Browser) -> None:
    browser = Browser(client=Client(enforce_csrf_checks=True))
    assert ann.user is not None
    browser.client.force_login(ann.user)
    path = ann.place(BOOK=1)
    before = rows()
    for address in (
        "/products/BOOK/add/",
        "/cart/",
        "/cart/remove/",
        "/checkout/",
        "/checkout/quote/",
        f"{path}pay/",
        f"{path}cancel/",
        f"{path}again/",
        "/account/",
        "/inbox/",
        "/sign-in/",
        "/sign-out/",
        "/register/",
    ):
        response = browser.client.post(address, {"quantity": "1"})
        assert response.status_code == 403, address
        assert "This form has expired" in body(response)
    assert rows() == before


def test_form_over_64_kilobytes_is_refused(ann: Browser) -> None:
    ann.fill(BOOK=1)
    form = ann.form()
    before = rows()
    response = ann.send(form, coupon="x" * 70_000)
    assert response.status_code == 413
    assert rows() == before


# --- The order's page ------------------------------------------------------------------------------------------------


def live(browser: Browser, path: str, seen: str = "") -> Any:
    return browser.get(f"{path}live/", query_params={"seen": seen}, headers={"HX-Request": "true"})


def poll(page: str) -> tuple[str, int] | None:
    """What the page has seen, and after how many milliseconds it asks again; None if it does not."""
    found = re.search(r'hx-get="[^"]*\?seen=([^"]*)"\s+hx-trigger="every (\d+)ms"', page)
    return (found[1], int(found[2])) if found else None


def test_order_page_follows_the_order_to_its_end(ann: Browser) -> None:
    path = ann.place(BOOK=1)
    seen = poll(ann.text(path))
    assert seen is not None
    assert seen[1] == 500
    assert live(ann, path, seen[0]).status_code == 204
    drain()
    response = live(ann, path, seen[0])
    assert "Confirmed: everything is set aside for you. Please pay now." in body(response)
    seen = poll(body(response))
    assert seen is not None
    assert seen[1] == 3000

    ann.client.post(f"{path}pay/", {"token": "tok_ok"})
    response = live(ann, path, seen[0])
    assert "Your payment is on its way." in body(response)
    asked = poll(body(response))
    assert asked is not None
    assert asked[1] == 500
    drain()
    assert "Paid. We are packing your order." in body(live(ann, path, asked[0]))

    now = datetime.now(UTC)
    orders.handle(ShipOrder(order_id=number_of(path), tracking="TRACK-1", at=now), Metadata(correlation_id="x"))
    assert "Shipped, tracking number TRACK-1." in ann.text(path)
    assert poll(ann.text(path)) is not None


def test_order_page_tells_the_events_and_who_caused_them(ann: Browser) -> None:
    path = ann.place(BOOK=1, coupon="TEN")
    drain()
    page = ann.text(path)
    for expected in ("order.placed", "order.check_passed", "order.confirmed", "by you"):
        assert expected in page
    text = " ".join(re.sub(r"<[^>]+>", " ", page).split())
    assert "Version 3 Confirmed: all checks have passed." in text
    assert re.search(r"because of (reservation|redemption)-\w{13}@1", text)


def test_order_page_counts_down_to_the_payment_deadline(ann: Browser) -> None:
    path = ann.place(BOOK=1)
    assert "data-seconds-left" not in ann.text(path)
    drain()
    found = re.search(r'data-seconds-left="(\d+)">([^<]+)<', ann.text(path))
    assert found is not None
    assert 0 < int(found[1]) <= settings.ORDER_PAYMENT_TIMEOUT.total_seconds()
    assert "min" in found[2]


def test_rejected_order_names_what_is_short_and_is_not_asked_for_again(ann: Browser) -> None:
    ProductFactory.create(pieces=5, sku="FEW", name="A phoenix")
    path = ann.place(FEW=5, BOOK=1)
    inventory.adjust_stock("FEW", -2, "broken", datetime.now(UTC), METADATA)
    drain()
    page = ann.text(path)
    assert "Rejected: we do not have enough of what you ordered." in page
    assert "We have only 3 of the 5 you want." in page
    assert 'class="step stopped"' in page
    assert poll(page) is None
    assert "Cancel this order" not in page
    assert "/pay/" not in page


def test_order_of_somebody_else_is_404_everywhere(ann: Browser) -> None:
    path = ann.place(BOOK=1)
    drain()
    bob = Browser.of("bob")
    before = rows()
    for response in (
        bob.get(path),
        live(bob, path),
        bob.client.post(f"{path}pay/", {"token": "tok_ok"}),
        bob.client.post(f"{path}cancel/"),
    ):
        assert response.status_code == 404
        assert "Page not found" in body(response)
    assert rows() == before


@pytest.mark.parametrize("number", ["0000000000001", "nonsense", "7ZZZZZZZZZZZZ", "%00", "x" * 3000])
def test_order_that_does_not_exist_is_404(ann: Browser, number: str) -> None:
    assert ann.get(f"/orders/{number}/").status_code == 404


def test_order_number_may_be_typed_in_small_letters(ann: Browser) -> None:
    path = ann.place(BOOK=1)
    assert ann.get(path.lower()).url == path


def test_pages_of_a_customer_ask_visitors_to_sign_in(ann: Browser, visitor: Browser) -> None:
    path = ann.place(BOOK=1)
    for address in (path, "/orders/", "/inbox/"):
        assert visitor.get(address).url == f"/sign-in/?next={address}"
    assert live(visitor, path).headers["HX-Refresh"] == "true"


def test_fragment_opened_by_itself_leads_to_the_page(ann: Browser) -> None:
    path = ann.place(BOOK=1)
    assert ann.get(f"{path}live/").url == path


def test_declined_payment_leaves_the_order_payable(ann: Browser) -> None:
    path = ann.place(BOOK=1)
    drain()
    ann.client.post(f"{path}pay/", {"token": "tok_declined"})
    drain()
    page = ann.text(path)
    assert "The bank declined the payment. You can try again." in page
    ann.client.post(f"{path}pay/", {"token": "tok_error_then_ok"})
    drain()
    assert "Paid. We are packing your order." in ann.text(path)


@pytest.mark.parametrize("token", ["", "tok_unheard_of", "tok_ok\x00", "x" * 5000])
def test_unknown_token_is_explained_beside_the_field(ann: Browser, token: str) -> None:
    path = ann.place(BOOK=1)
    drain()
    before = rows()
    response = ann.client.post(f"{path}pay/", {"token": token})
    assert response.status_code == 200
    assert errors(response)["token"] in (
        "Choose one of the tokens.",
        "The sandbox knows only the tokens of this list.",
    )
    assert rows() == before


def test_what_cannot_be_paid_says_why_and_writes_nothing(ann: Browser) -> None:
    def try_to_pay(path: str) -> str:
        before = rows()
        response = ann.client.post(f"{path}pay/", {"token": "tok_ok"}, follow=True)
        assert rows() == before
        return body(response)

    path = ann.place(BOOK=1)
    assert "is still being checked and cannot be paid yet" in try_to_pay(path)
    drain()
    ann.client.post(f"{path}pay/", {"token": "tok_ok"})
    assert "A payment for this order is being processed." in try_to_pay(path)
    drain()
    assert "This order has been paid already." in try_to_pay(path)

    cancelled = ann.place(BOOK=2)
    ann.client.post(f"{cancelled}cancel/")
    assert "nothing more can be done with it" in try_to_pay(cancelled)


def test_order_can_be_cancelled_until_it_is_paid(ann: Browser) -> None:
    path = ann.place(BOOK=1)
    assert ann.client.post(f"{path}cancel/").url == path
    drain()
    page = ann.text(path)
    assert "Cancelled at your wish." in page
    assert poll(page) is None

    paid = ann.place(BOOK=2)
    drain()
    ann.client.post(f"{paid}pay/", {"token": "tok_ok"})
    drain()
    before = rows()
    response = ann.client.post(f"{paid}cancel/", follow=True)
    assert "is paid and can no longer be cancelled" in body(response)
    orders.handle(ShipOrder(order_id=number_of(paid), at=datetime.now(UTC)), METADATA)
    response = ann.client.post(f"{paid}cancel/", follow=True)
    assert "has been shipped and can no longer be cancelled" in body(response)
    assert rows() != before
    assert "Cancel this order" not in body(response)


def test_refunded_order_is_followed_until_the_money_is_back(ann: Browser) -> None:
    path = ann.place(BOOK=1)
    drain()
    ann.client.post(f"{path}pay/", {"token": "tok_ok"})
    drain()
    orders.handle(RefundOrder(order_id=number_of(path), at=datetime.now(UTC)), METADATA)
    assert "Your money is on its way back." in ann.text(path)
    drain()
    page = ann.text(path)
    assert "Your money has been given back." in page
    assert poll(page) is None


@pytest.mark.parametrize("action", ["pay", "cancel"])
def test_reload_after_signing_in_to_pay_or_cancel_leads_to_the_order(ann: Browser, action: str) -> None:
    path = ann.place(BOOK=1)
    assert ann.get(f"{path}{action}/").url == path


def test_history_shows_all_orders_newest_first_a_page_at_a_time(ann: Browser) -> None:
    assert "No orders yet" in ann.text("/orders/")
    placed = [ann.place(PEN=1) for _ in range(23)]
    placed.sort(key=number_of, reverse=True)
    first = ann.text("/orders/")
    links = re.findall(r'<a class="row" href="([^"]+)"', first)
    assert links == placed[:20]
    older = re.search(r'href="(\?before=[^"]+)"', first)
    assert older is not None
    assert re.findall(r'<a class="row" href="([^"]+)"', ann.text(f"/orders/{older[1]}")) == placed[20:]


def test_orders_are_listed_with_what_is_in_them(ann: Browser) -> None:
    for number in range(3):
        ProductFactory.create(pieces=1000, sku=f"M{number}", name=f"Mug <{number}>")
    ann.place(BOOK=1, PEN=2)
    ann.place(LAMP=1, M0=1, M1=1, M2=1)
    found = re.findall(r'<span class="products-in">(.*?)</span>', ann.get("/orders/").content.decode())
    assert found == ["A lamp, Mug &lt;0&gt;, Mug &lt;1&gt; and more", "A book, A pen"]


def listed(browser: Browser, text: str) -> list[str]:
    response = browser.get("/orders/", data={"q": text})
    assert response.status_code == 200
    return re.findall(r'<a class="row" href="([^"]+)"', body(response))


def test_orders_are_found_by_number_product_status_coupon_and_tracking(ann: Browser) -> None:
    book, pen, lamp = ann.place(BOOK=1, coupon="TEN"), ann.place(PEN=1), ann.place(LAMP=2, BOOK=1)
    Browser.of("bob").place(BOOK=1)
    drain()
    ann.client.post(f"{pen}pay/", {"token": "tok_ok"})
    drain()
    orders.handle(ShipOrder(order_id=number_of(pen), tracking="TRACK-1", at=datetime.now(UTC)), METADATA)
    number = book.strip("/").rpartition("/")[2]
    wanted = {
        number: [book],
        f" {number.lower()[:6]}-{number.lower()[6:]} ": [book],
        number[5:].lower(): [book],
        "a BOOK": [lamp, book],
        "oo b": [lamp, book],
        "lamp": [lamp],
        "shipped": [pen],
        "Confirmed": [lamp, book],
        "pen": [pen],
        "ten": [book],
        "track-1": [pen],
        "": [lamp, pen, book],
        "   ": [lamp, pen, book],
        "no such thing": [],
        "%": [],
        "_": [],
        "a\x00b": [],
        "x" * 500: [],
    }
    assert {text: listed(ann, text) for text in wanted} == wanted


def test_pages_of_found_orders_keep_the_search(ann: Browser) -> None:
    for _ in range(22):
        ann.place(PEN=1)
    page = ann.text("/orders/?q=a+pen")
    older = re.search(r'href="(\?q=a\+pen&before=[^"]+)"', unescape(page))
    assert older is not None
    assert len(re.findall('class="row"', ann.text(f"/orders/{older[1]}"))) == 2
    assert 'value="a pen"' in ann.text(f"/orders/{older[1]}")


@pytest.mark.parametrize("address", ["/orders/?before=nonsense", "/inbox/?before=now,1", "/inbox/?before=2026-01-01,x"])
def test_garbage_as_a_position_is_404(ann: Browser, address: str) -> None:
    assert ann.get(address).status_code == 404


# --- Messages --------------------------------------------------------------------------------------------------------


def test_inbox_shows_messages_until_they_are_read(ann: Browser) -> None:
    assert "No messages" in ann.text("/inbox/")
    path = ann.place(BOOK=1)
    drain()
    page = ann.text("/inbox/")
    assert page.count("Unread:") == 2
    assert f'href="{path}"' in page
    assert ann.client.post("/inbox/").url == "/inbox/"
    assert "Unread:" not in ann.text("/inbox/")
    assert Browser.of("bob").text("/inbox/").count("<summary>") == 0


def test_inbox_is_shown_a_page_at_a_time(ann: Browser) -> None:
    assert ann.user is not None
    now = datetime.now(UTC)
    occasion = notifications.Occasion
    notifications.notify(
        [
            occasion(about="welcome", customer_id=ann.user.pk, event_id=f"test-{n}@1", correlation_id="x", at=now)
            for n in range(25)
        ]
    )
    first = ann.text("/inbox/")
    older = re.search(r'href="(\?before=[^"]+)"', first)
    assert older is not None
    assert first.count("<summary>") + ann.text(f"/inbox/{older[1]}").count("<summary>") == 25


# --- Accounts --------------------------------------------------------------------------------------------------------

NEW = {"username": "zoe", "email": "Zoe@Example.org", "password1": PASSWORD, "password2": PASSWORD}


def test_registering_signs_in_and_queues_the_welcome(visitor: Browser) -> None:
    visitor.client.session["before"] = True
    visitor.text("/register/")
    response = visitor.client.post("/register/", NEW | {"next": "/orders/"})
    assert response.url == "/orders/"
    assert "Welcome to Wharf, zoe." in visitor.text("/orders/")
    user = User.objects.get(username="zoe")
    assert (user.email, user.is_staff, user.check_password(PASSWORD)) == ("zoe@example.org", False, True)
    welcome = Message.objects.filter(customer_id=user.pk, about="welcome")
    assert sorted(welcome.values_list("channel", "recipient")) == [("email", "zoe@example.org"), ("inbox", "")]


def test_registering_gives_the_session_a_new_key(visitor: Browser) -> None:
    session = visitor.client.session
    session["anything"] = 1
    session.save()
    before = session.session_key
    visitor.client.post("/register/", NEW)
    assert visitor.client.session.session_key != before


@pytest.mark.parametrize(
    "changes, field, message",
    [
        ({"username": ""}, "username", "This field is required."),
        ({"username": "ann"}, "username", "This user name is taken."),
        ({"username": "ANN"}, "username", "This user name is taken."),
        ({"username": "a b"}, "username", "Enter a valid username."),
        ({"username": "a\x00b"}, "username", "Null characters are not allowed."),
        ({"username": "a" * 151}, "username", "Ensure this value has at most 150 characters"),
        ({"email": ""}, "email", "This field is required."),
        ({"email": "nobody"}, "email", "Enter a valid email address."),
        ({"email": "zoe@example.org\r\nBcc: all@example.org"}, "email", "Enter a valid email address."),
        ({"email": "ANN@example.org"}, "email", "There is an account with this address already."),
        ({"email": f"{'a' * 300}@example.org"}, "email", "Ensure this value has at most 254 characters"),
        ({"password2": "other"}, "password2", "The two password fields"),
        ({"password1": "short", "password2": "short"}, "password2", "This password is too short."),
        ({"password1": "password", "password2": "password"}, "password2", "This password is too common."),
        ({"password1": "x" * 500, "password2": "x" * 500}, "password1", "A password has at most 128 characters."),
    ],
)
def test_registration_that_cannot_be_says_why_beside_the_field(
    ann: Browser, visitor: Browser, changes: dict[str, str], field: str, message: str
) -> None:
    before = rows()
    response = visitor.client.post("/register/", NEW | changes)
    assert response.status_code == 200
    assert errors(response)[field].startswith(message)
    for name in ("username", "email"):
        if name != field:
            assert f'value="{NEW[name]}"' in body(response)
    assert PASSWORD not in body(response)
    assert User.objects.count() == 1
    assert rows() == before


def test_name_taken_after_the_form_was_checked_is_explained(ann: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(accounts.UsernameTaken):
        accounts.register("ann", "other@example.org", PASSWORD)
    with pytest.raises(accounts.EmailTaken):
        accounts.register("other", "Ann@Example.org", PASSWORD)
    assert User.objects.count() == 1


def test_account_without_a_welcome_is_not_made(visitor: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> None:
        raise RuntimeError("no paper left")

    monkeypatch.setattr(notifications, "welcome", fail)
    with pytest.raises(RuntimeError, match="no paper left"):
        visitor.client.post("/register/", NEW)
    assert not User.objects.exists()


@pytest.mark.django_db(databases="__all__", transaction=True)
def test_many_registrations_at_once_make_one_account_for_an_address() -> None:
    names = [f"zoe{number}" for number in range(6)]
    failed = at_once(
        [lambda name=name: accounts.register(name, "zoe@example.org", PASSWORD) for name in names], using="default"
    )
    assert {type(error) for error in failed} == {accounts.EmailTaken}
    assert User.objects.count() == 1
    assert Message.objects.filter(channel="email").count() == 1


def test_who_is_signed_in_need_not_register_or_sign_in(ann: Browser) -> None:
    assert ann.get("/register/").url == "/"
    assert ann.get("/sign-in/").url == "/"


def test_signing_in_and_out(ann: Browser, visitor: Browser) -> None:
    assert "Sign in" in visitor.text("/")
    response = visitor.client.post("/sign-in/", {"username": "ann", "password": PASSWORD})
    assert response.url == "/"
    assert "Sign out" in visitor.text("/")
    assert visitor.get("/sign-out/").url == "/"
    assert "Sign out" in visitor.text("/")
    assert visitor.client.post("/sign-out/").url == "/"
    assert "Sign out" not in visitor.text("/")


def test_wrong_password_is_explained_and_the_name_kept(ann: Browser, visitor: Browser) -> None:
    response = visitor.client.post("/sign-in/", {"username": "ann", "password": "wrong"})
    assert "User name or password is wrong." in body(response)
    assert 'value="ann"' in body(response)


@pytest.mark.parametrize("page", ["/sign-in/", "/register/"])
def test_nobody_is_led_to_another_site(ann: Browser, visitor: Browser, page: str) -> None:
    data = NEW | {"username": "ann", "password": PASSWORD} if page == "/sign-in/" else NEW
    response = visitor.client.post(page, data | {"next": "https://evil.example/"})
    assert response.url == "/"


def test_guessing_passwords_is_bounded(ann: Browser, visitor: Browser) -> None:
    for _ in range(throttle.SIGN_IN.attempts):
        assert visitor.client.post("/sign-in/", {"username": "ann", "password": "x"}).status_code == 200
    response = visitor.client.post("/sign-in/", {"username": "Ann", "password": PASSWORD})
    assert response.status_code == 429
    assert response.headers["Retry-After"] == "300"
    assert "Too many attempts" in body(response)
    assert visitor.client.post("/sign-in/", {"username": "bob", "password": "x"}).status_code == 200


def test_signing_in_often_is_nothing_to_be_stopped(ann: Browser, visitor: Browser) -> None:
    for _ in range(throttle.SIGN_IN.attempts + 2):
        assert visitor.client.post("/sign-in/", {"username": "ann", "password": PASSWORD}).status_code == 302


def test_registrations_from_one_address_are_bounded(visitor: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "REGISTER", throttle.Limit(name="register", attempts=2, seconds=60))
    for _ in range(2):
        assert visitor.client.post("/register/", {}).status_code == 200
    assert visitor.client.post("/register/", NEW).status_code == 429


# --- The account page ------------------------------------------------------------------------------------------------


def test_account_page_changes_name_and_address(ann: Browser) -> None:
    details = {"action": "details", "first_name": "Ann", "last_name": "Lee", "email": "Ann.Lee@example.org"}
    assert ann.client.post("/account/", details).url == "/account/"
    assert ann.user is not None
    ann.user.refresh_from_db()
    assert (ann.user.get_full_name(), ann.user.email) == ("Ann Lee", "ann.lee@example.org")
    page = ann.text("/account/")
    assert 'value="Ann Lee"' in page
    assert "Forget it" not in page


def test_usual_address_is_offered_at_the_checkout_until_it_is_forgotten(ann: Browser) -> None:
    assert ann.client.post("/account/", ADDRESS | {"action": "address"}).url == "/account/"
    ann.fill(BOOK=1)
    for address in ("/account/", "/checkout/"):
        assert 'name="street" value="Quay 1"' in ann.text(address)
    ann.client.post("/account/", {"action": "forget"})
    assert "Quay 1" not in ann.text("/account/") + ann.text("/checkout/")


@pytest.mark.parametrize(
    "typed, field, message",
    [
        ({"action": "details", "email": "BOB@example.org"}, "email", "There is an account with this address already."),
        ({"action": "details", "email": "nobody"}, "email", "Enter a valid email address."),
        (
            {"action": "details", "email": "a@example.org", "first_name": "x" * 151},
            "first_name",
            "Expected 0..150 characters, got 151.",
        ),
        ({"action": "address", **ADDRESS, "country": "XX"}, "country", "We do not ship to this country."),
        ({"action": "password", "old_password": "wrong"}, "old_password", "Your old password was entered incorrectly."),
    ],
)
def test_account_form_that_cannot_be_says_why_beside_the_field(
    ann: Browser, typed: dict[str, str], field: str, message: str
) -> None:
    Browser.of("bob")
    response = ann.client.post("/account/", typed)
    assert response.status_code == 200
    assert errors(response)[field].startswith(message)
    assert ann.user is not None
    ann.user.refresh_from_db()
    assert ann.user.email == "ann@example.org"


def test_new_password_keeps_this_session_and_ends_the_others(ann: Browser) -> None:
    assert ann.user is not None
    other = Browser()
    other.client.force_login(ann.user)
    new = "quite another battery"
    typed = {"action": "password", "old_password": PASSWORD, "new_password1": new, "new_password2": new}
    assert ann.client.post("/account/", typed).url == "/account/"
    ann.user.refresh_from_db()
    assert ann.user.check_password(new)
    assert "Saved." in ann.text("/account/")
    assert other.get("/account/").url == "/sign-in/?next=/account/"


def test_guessing_the_present_password_is_bounded(ann: Browser) -> None:
    typed = {"action": "password", "old_password": "wrong"}
    for _ in range(throttle.PASSWORD.attempts):
        assert ann.client.post("/account/", typed).status_code == 200
    assert ann.client.post("/account/", typed).status_code == 429


def test_account_page_of_a_visitor_is_the_one_to_sign_in(visitor: Browser) -> None:
    assert visitor.get("/account/").url == "/sign-in/?next=/account/"


# --- Ordering again --------------------------------------------------------------------------------------------------


def test_order_again_fills_the_cart_with_what_is_still_on_sale(ann: Browser) -> None:
    path = ann.place(BOOK=2, PEN=1)
    for address in ("/orders/", path):
        assert f'action="{path}again/"' in ann.text(address)
    Product.objects.filter(sku="PEN").update(active=False)
    ann.fill(BOOK=1)
    assert ann.client.post(f"{path}again/").url == "/cart/"
    page = ann.text("/cart/")
    assert re.findall(r'name="q-(\w+)" value="(\d+)"', page) == [("BOOK", "3")]
    assert "No longer on sale: A pen." in page


def test_order_again_never_passes_the_limits(ann: Browser) -> None:
    path = ann.place(BOOK=999)
    for _ in range(2):
        ann.client.post(f"{path}again/")
    assert 'name="q-BOOK" value="999"' in ann.text("/cart/")


def test_order_of_somebody_else_cannot_be_ordered_again(ann: Browser) -> None:
    path = ann.place(BOOK=1)
    bob = Browser.of("bob")
    assert bob.client.post(f"{path}again/").status_code == 404
    assert "Your cart is empty" in bob.text("/cart/")


# --- Everything else -------------------------------------------------------------------------------------------------


def test_picture_is_made_for_the_product_and_kept_by_browsers(visitor: Browser) -> None:
    first, second = visitor.get("/pictures/BOOK.svg"), visitor.get("/pictures/BOOK.svg")
    assert first.content == second.content
    assert first.headers["Content-Type"] == "image/svg+xml"
    assert first.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert "Vary" not in first.headers
    assert first.content != visitor.get("/pictures/PEN.svg").content
    assert visitor.get("/pictures/NOPE.svg").status_code == 404


def test_picture_has_another_address_when_it_changes(visitor: Browser) -> None:
    book = catalogue.product("BOOK")
    assert book is not None
    other = replace(book, picture="lamp")
    assert pictures.version(book) != pictures.version(other)
    assert pictures.render(book) != pictures.render(other)
    assert pictures.version(book) == pictures.version(replace(book, available=0))


def queries(action: Callable[[], object]) -> int:
    with ExitStack() as stack:
        captured = [stack.enter_context(CaptureQueriesContext(connections[alias])) for alias in settings.DATABASES]
        action()
        return sum(len(context) for context in captured)


def test_number_of_queries_does_not_depend_on_the_number_of_things(ann: Browser) -> None:
    ann.place(BOOK=1)
    path = ann.place(BOOK=1)
    drain()

    def all_pages(order: str) -> list[int]:
        counts = []
        for address in ("/", "/products/BOOK/", "/cart/", "/checkout/", "/orders/", "/inbox/", order):
            cache.clear()
            counts.append(queries(lambda address=address: ann.text(address)))  # type: ignore[misc]
        return counts

    ann.fill(BOOK=1)
    few = all_pages(path)
    for number in range(30):
        ProductFactory.create(pieces=1000, sku=f"M{number}", name=f"Mug {number}")
    path = ann.place(**{f"M{number}": 1 for number in range(30)})
    for _ in range(5):
        ann.place(PEN=1)
    drain()
    ann.fill(**{f"M{number}": 1 for number in range(30)})
    many = all_pages(path)
    assert many == few
    assert max(many) <= 10


def test_page_that_does_not_exist_is_friendly(visitor: Browser) -> None:
    response = visitor.get("/no/such/page")
    assert response.status_code == 404
    assert "Page not found" in body(response)


@pytest.mark.parametrize("template", ["400.html", "403.html", "403_csrf.html", "404.html", "500.html", "503.html"])
def test_page_for_a_failure_needs_neither_request_nor_database(
    template: str, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    with django_assert_num_queries(0):
        assert "Wharf" in render_to_string(template)


def test_pages_have_no_script_or_style_inside_and_nothing_from_elsewhere(ann: Browser) -> None:
    path = ann.place(BOOK=1)
    drain()
    ann.fill(BOOK=1)
    for address in ("/", "/products/BOOK/", "/cart/", "/checkout/", path, "/orders/", "/inbox/", "/account/"):
        page = ann.text(address)
        assert not re.search(r"<script(?![^>]*\bsrc=)", page), address
        assert not re.search(r"<style|\sstyle=|\son\w+=", page), address
        assert not re.search(r'(?:src|href|action)="(?:https?:)?//', page), address
        assert "django_htmx/htmx-2.min.js" in page
