"""The cart: on every device of a customer, never more in it than was asked for, and given back when an order fails."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from django.contrib.sessions.models import Session

from checkout import service as checkout
from coupons import handlers as coupons
from coupons.domain import Kind
from eventing.testing import drain
from inventory import handlers as inventory
from inventory.models import Product
from storefront.models import CustomerCart
from tests.factories import ProductFactory
from tests.integration.parallel import at_once
from tests.integration.shop_api import METADATA, PASSWORD, rows, stock_the_shop
from tests.integration.test_pages import Browser, ann, body, errors, quiet_corner, visitor

__all__ = ["ann", "quiet_corner", "visitor"]  # fixtures

pytestmark = pytest.mark.django_db(databases="__all__")

ONCE = re.compile(r'action="([^"]+)">\s*<input type="hidden" name="csrfmiddlewaretoken"[^>]*>\s*'
                  r'<input type="hidden" name="once" value="([^"]+)">')  # fmt: skip


def in_cart(browser: Browser) -> dict[str, int]:
    found = re.findall(r'name="q-(\w+)" value="(\d+)"', browser.text("/cart/"))
    return {sku: int(quantity) for sku, quantity in found}


def buttons(browser: Browser, page: str) -> dict[str, str]:
    """The names of the page's buttons that fill the cart, by the address of their form."""
    return dict(ONCE.findall(browser.text(page)))


def sign_in(browser: Browser) -> None:
    assert browser.client.post("/sign-in/", {"username": "ann", "password": PASSWORD}).status_code == 302


# --- Devices and sessions --------------------------------------------------------------------------------------------


def test_cart_survives_signing_out_and_is_on_every_device(ann: Browser, visitor: Browser) -> None:
    ann.fill(BOOK=2)
    ann.client.post("/sign-out/")
    assert in_cart(ann) == {}
    sign_in(visitor)
    assert in_cart(visitor) == {"BOOK": 2}
    visitor.fill(PEN=1)
    sign_in(ann)
    assert in_cart(ann) == {"BOOK": 2, "PEN": 1}
    Session.objects.all().delete()
    sign_in(ann)
    assert in_cart(ann) == {"BOOK": 2, "PEN": 1}
    assert in_cart(Browser.of("bob")) == {}


def test_what_a_visitor_put_aside_joins_the_cart_of_the_account(ann: Browser, visitor: Browser) -> None:
    ann.fill(BOOK=2, PEN=1)
    visitor.fill(BOOK=1, PEN=5, LAMP=1)
    sign_in(visitor)
    assert in_cart(visitor) == {"BOOK": 2, "PEN": 5, "LAMP": 1}
    assert in_cart(visitor) == {"BOOK": 2, "PEN": 5, "LAMP": 1}  # joined once
    assert "cart" not in visitor.client.session


@pytest.mark.parametrize("earlier", [{}, {"BOOK": 1}, {"PEN": 1}])
def test_customer_is_told_of_what_they_had_forgotten(ann: Browser, visitor: Browser, earlier: dict[str, int]) -> None:
    ann.fill(**earlier)
    visitor.fill(BOOK=1)
    sign_in(visitor)
    page = visitor.text("/cart/") + visitor.text("/cart/")
    assert page.count("What you had put into your cart earlier is in it as well.") == ("PEN" in earlier)


def test_joined_cart_has_no_more_products_than_an_order_may_have(ann: Browser, visitor: Browser) -> None:
    for number in range(100):
        ProductFactory.create(pieces=1000, sku=f"M{number}", name=f"Mug {number}")
    ann.fill(**{f"M{number}": 1 for number in range(100)})
    visitor.fill(BOOK=1, M5=3)
    sign_in(visitor)
    quantities = in_cart(visitor)
    assert (len(quantities), quantities["M5"], "BOOK" in quantities) == (100, 3, False)


def test_new_account_begins_with_what_its_visitor_put_aside(visitor: Browser) -> None:
    visitor.fill(BOOK=3)
    new = {"username": "zoe", "email": "zoe@example.org", "password1": PASSWORD, "password2": PASSWORD}
    assert visitor.client.post("/register/", new).status_code == 302
    assert in_cart(visitor) == {"BOOK": 3}


def test_looking_at_the_shop_writes_no_cart_and_no_session(visitor: Browser) -> None:
    for page in ("/", "/products/BOOK/", "/cart/"):
        visitor.text(page)
    assert not Session.objects.exists()
    assert not CustomerCart.objects.exists()


# --- Two clicks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", ["/", "/products/BOOK/"])
def test_second_click_on_the_same_button_adds_nothing(ann: Browser, visitor: Browser, page: str) -> None:
    for browser in (ann, visitor):
        once = buttons(browser, page)["/products/BOOK/add/"]
        for _ in range(2):
            assert browser.add("BOOK", "1", once=once).status_code == 302
        assert in_cart(browser) == {"BOOK": 1}
        again = buttons(browser, page)["/products/BOOK/add/"]
        assert again != once
        browser.add("BOOK", "1", once=again)
        assert in_cart(browser) == {"BOOK": 2}


def test_buttons_of_one_page_are_told_apart(visitor: Browser) -> None:
    names = buttons(visitor, "/")
    assert len(names) == len(set(names.values())) == 3


def test_click_that_was_refused_may_be_repeated(ann: Browser) -> None:
    ProductFactory.create(pieces=1, sku="FEW", name="A phoenix")
    once = buttons(ann, "/products/FEW/")["/products/FEW/add/"]
    assert ann.add("FEW", "2", once=once).status_code == 200
    assert ann.add("FEW", "1", once=once).status_code == 302
    assert in_cart(ann) == {"FEW": 1}


def test_second_click_on_order_again_adds_nothing(ann: Browser) -> None:
    path = ann.place(BOOK=2)
    for page in (path, "/orders/"):
        once = buttons(ann, page)[f"{path}again/"]
        for _ in range(2):
            ann.client.post(f"{path}again/", {"once": once})
    assert in_cart(ann) == {"BOOK": 4}


@pytest.mark.django_db(databases="__all__", transaction=True)
def test_clicks_at_the_same_moment_lose_nothing_and_double_nothing() -> None:
    stock_the_shop()
    ann = Browser.of("ann")
    names = buttons(ann, "/")

    def click(sku: str) -> None:
        browser = Browser()
        browser.client.cookies.update(ann.client.cookies)
        assert browser.add(sku, "1", once=names[f"/products/{sku}/add/"]).status_code == 302

    clicks = [lambda sku=sku: click(sku) for sku in ("BOOK", "PEN", "LAMP") * 3]  # type: ignore[misc]
    assert at_once(clicks, using="default") == []
    assert in_cart(ann) == {"BOOK": 1, "PEN": 1, "LAMP": 1}


# --- More than there is ----------------------------------------------------------------------------------------------


def test_no_more_than_there_is_can_be_added(ann: Browser) -> None:
    ProductFactory.create(pieces=3, sku="FEW", name="A phoenix")
    assert errors(ann.add("FEW", "4")) == {"quantity": "We have only 3 of A phoenix."}
    ann.fill(FEW=2)
    assert errors(ann.add("FEW", "2")) == {"quantity": "We have only 3 of A phoenix; 2 in your cart already."}
    assert in_cart(ann) == {"FEW": 2}


def test_sold_out_product_has_no_button(ann: Browser) -> None:
    ProductFactory.create(pieces=1, sku="LAST", name="A dodo")
    assert {"/products/LAST/add/", "/products/BOOK/add/"} <= buttons(ann, "/").keys()
    inventory.adjust_stock("LAST", -1, "lost", datetime.now(UTC), METADATA)
    for page in ("/", "/products/LAST/"):
        assert "/products/LAST/add/" not in ann.text(page)
        assert "Sold out" in ann.text(page)
    assert errors(ann.add("LAST", "1")) == {"quantity": "A dodo is sold out."}
    assert in_cart(ann) == {}


@pytest.mark.parametrize(("seen", "change"), [("1", -1), ("0", 0)])
def test_product_page_that_gains_or_loses_its_button_is_loaded_again(visitor: Browser, seen: str, change: int) -> None:
    ProductFactory.create(pieces=1, sku="LAST", name="A dodo")
    if change:
        inventory.adjust_stock("LAST", change, "lost", datetime.now(UTC), METADATA)
    response = visitor.get(f"/products/LAST/stock/?seen={seen}")
    assert (response.status_code, response.headers.get("HX-Refresh")) == (204, "true")


def test_more_than_there_is_goes_no_further_than_the_cart(ann: Browser) -> None:
    ProductFactory.create(pieces=5, sku="FEW", name="A phoenix")
    ann.fill(FEW=2, BOOK=1)
    form = ann.form()
    response = ann.client.post("/cart/", {"q-FEW": "9", "action": "checkout"}, follow=True)
    assert response.redirect_chain == [("/cart/", 302)]
    assert "We have only 5 of A phoenix, you want 9." in body(response)
    before = rows()
    page = ann.text("/checkout/")
    assert "A phoenix: only 5 left, you want 9." in page
    assert "Place order" not in page
    response = ann.send(ann.form())
    assert "We have only 5 of A phoenix, you want 9." in body(response)
    assert 'name="city" value="Hamburg"' in body(response)
    assert rows() == before
    assert in_cart(ann) == {"FEW": 9, "BOOK": 1}
    ann.client.post("/cart/", {"q-FEW": "5"})
    assert "Place order" in ann.text("/checkout/")
    assert "is not what it was" in body(ann.send(form))
    assert ann.send(ann.form()).status_code == 302


def test_second_half_of_a_double_click_on_the_last_pieces_leads_to_the_order(ann: Browser) -> None:
    ProductFactory.create(pieces=2, sku="FEW", name="A phoenix")
    ann.fill(FEW=2)
    form = ann.form()
    kept = CustomerCart.objects.values_list("content", flat=True).get()
    first = ann.send(form)
    drain()  # the order has them
    CustomerCart.objects.update(content=kept)  # as the second half has read it
    assert ann.send(form).url == first.url
    assert "Nothing was ordered twice" in ann.text(first.url)


@pytest.mark.parametrize(("coupon", "offered"), [("TEN", True), ("", True), ("NOPE", False)])
def test_order_is_offered_unless_its_coupon_is_refused(ann: Browser, coupon: str, offered: bool) -> None:
    ann.fill(BOOK=1)
    for page in (
        ann.client.post("/checkout/quote/", {"coupon": coupon}),
        ann.send(ann.form(), action="review", coupon=coupon),
    ):
        assert ("Place order" in body(page)) is offered


# --- A rejected order ------------------------------------------------------------------------------------------------


def rejected(ann: Browser) -> str:
    """The path of an order that came too late for the last piece, and took the cart with it."""
    ProductFactory.create(pieces=3, sku="FEW", name="A phoenix")
    path = ann.place(FEW=3, BOOK=2, coupon="TEN")
    inventory.adjust_stock("FEW", -1, "broken", datetime.now(UTC), METADATA)
    drain()
    return path


def test_rejected_order_gives_the_cart_back_with_its_coupon(ann: Browser) -> None:
    path = rejected(ann)
    page = ann.text(path)
    assert "Everything you wanted is in your cart again, and your coupon can be used again." in page
    assert "Put everything back" not in page
    assert in_cart(ann) == {"FEW": 3, "BOOK": 2}
    ann.client.post("/cart/", {"q-FEW": "2"})
    page = ann.text("/checkout/")
    assert 'name="coupon" value="TEN"' in page
    assert "Coupon TEN" in page
    assert ann.place(coupon="TEN") != path


def test_rejected_order_gives_the_cart_back_to_who_looks_there_first(ann: Browser) -> None:
    path = rejected(ann)
    number = path.strip("/").rpartition("/")[2]
    page = ann.text("/cart/")
    assert f"Order {number} was rejected, so everything in it is back in your cart." in page
    assert in_cart(ann) == {"FEW": 3, "BOOK": 2}
    ann.client.post("/cart/", {"q-FEW": "0", "q-BOOK": "0"})
    assert in_cart(ann) == {}  # given back once


def test_rejected_order_does_not_overwrite_a_new_cart(ann: Browser) -> None:
    path = rejected(ann)
    ann.fill(PEN=1)
    page = ann.text(path)
    assert "Put everything back into the cart" in page
    assert in_cart(ann) == {"PEN": 1}
    ann.client.post(f"{path}again/")
    assert in_cart(ann) == {"PEN": 1, "FEW": 3, "BOOK": 2}
    assert 'name="coupon" value="TEN"' in ann.text("/checkout/")
    assert "Everything you wanted is in your cart again" in ann.text(path)


def test_page_that_waits_for_the_order_counts_what_came_back(ann: Browser) -> None:
    path = rejected(ann)
    response = ann.get(f"{path}live/", headers={"HX-Request": "true"})
    assert re.search(r'id="cart-count" hx-swap-oob="true"><span class="count">5<', body(response))


def test_order_that_goes_well_leaves_the_cart_empty(ann: Browser) -> None:
    path = ann.place(BOOK=1)
    assert in_cart(ann) == {}
    drain()
    assert "Put everything back" not in ann.text(path)
    assert in_cart(ann) == {}


def test_coupon_that_was_refused_meanwhile_gives_the_cart_back(ann: Browser) -> None:
    coupons.add_coupon(code="ONCE", kind=Kind.FIXED, value=100, currency="EUR", total_limit=1)
    bob = Browser.of("bob")
    bob.fill(BOOK=1)
    form = bob.form()
    path = ann.place(BOOK=1, coupon="ONCE")
    late = bob.send(form, coupon="ONCE").url
    drain()
    assert "Rejected" in bob.text(late) or "Rejected" in ann.text(path)
    loser = bob if "Rejected" in bob.text(late) else ann
    assert in_cart(loser) == {"BOOK": 1}


# --- Kept carts ------------------------------------------------------------------------------------------------------


def test_cart_of_an_older_version_is_read(ann: Browser) -> None:
    session = ann.client.session
    session["cart"] = {"key": "x", "lines": {"BOOK": [2, 900, "EUR"]}}
    session["placed"] = {}
    session.save()
    assert in_cart(ann) == {"BOOK": 2}
    assert "€9.00 then, €10.00 now." in ann.text("/cart/")


def test_price_of_a_joined_product_is_the_one_seen_last(ann: Browser, visitor: Browser) -> None:
    ann.fill(BOOK=1)
    Product.objects.filter(sku="BOOK").update(price=1200)
    visitor.fill(BOOK=1)
    sign_in(visitor)
    assert "then" not in visitor.text("/cart/")


def test_replay_is_found_only_for_the_same_wish(ann: Browser) -> None:
    assert ann.user is not None
    key, wanted = "k" * 32, [("BOOK", 1)]
    assert checkout.placed_before(ann.user.pk, wanted, None, key=key) is None
    placed = checkout.place(ann.user.pk, wanted, None, key=key, metadata=METADATA)
    found = checkout.placed_before(ann.user.pk, wanted, None, key=key)
    assert found is not None
    assert found.order_id == placed.order_id
