"""Forms that are sent after their session has ended, and where a visitor is led to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.test import Client
from django.urls import URLPattern
from pytest_django import Settings

from storefront.urls import urlpatterns
from tests.integration.shop_api import PASSWORD, stock_the_shop
from tests.integration.test_pages import Browser, body, quiet_corner

__all__ = ["quiet_corner"]  # a fixture for every test

pytestmark = [pytest.mark.django_db(databases="__all__"), pytest.mark.once]

# Forms of the shop that anybody may send, and how they end when the session is over.
FOR_EVERYBODY = {"add", "cart", "remove", "quote", "login", "logout", "register"}


def addresses(number: str) -> Iterator[tuple[str, str]]:
    """Name and address of every route of the shop."""
    for pattern in urlpatterns:
        assert isinstance(pattern, URLPattern)
        route = str(pattern.pattern).replace("<sku:sku>", "BOOK").replace("<number:number>", number)
        assert "<" not in route, f"say what stands for the parameter of {route}"
        yield str(pattern.name), f"/{route}"


@pytest.fixture
def ann(settings: Settings) -> Browser:
    stock_the_shop()
    return Browser.of("ann")


def token_of(page: str) -> str:
    found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
    assert found is not None
    return found[1]


def signed_in(user: User) -> tuple[Client, str]:
    """A browser with everything that forms need, and the token of a page that it has open."""
    client = Client(enforce_csrf_checks=True)
    client.force_login(user)
    return client, token_of(client.get("/account/").content.decode())


def test_every_form_survives_the_end_of_its_session(ann: Browser) -> None:
    assert ann.user is not None
    path = ann.place(BOOK=1)
    number = path.strip("/").rpartition("/")[2]
    ann.fill(BOOK=1)
    forms = set()
    for name, address in addresses(number):
        client, token = signed_in(ann.user)
        typed = {"csrfmiddlewaretoken": token, "quantity": "1", "sku": "BOOK", "token": "tok_ok"}
        Session.objects.all().delete()
        response = client.post(address, typed)
        if response.status_code == 405:
            assert client.get(address).status_code < 400, f"{address} takes no form and shows nothing"
            continue
        forms.add(name)
        assert response.status_code in (200, 204, 302), f"{address} is {response.status_code}"
        assert ann.client.get(address, follow=True).status_code == 200, f"{address} cannot be opened by itself"
        if name in FOR_EVERYBODY:
            continue
        target = urlsplit(response.url)
        assert target.path == "/sign-in/", address
        page = client.get(response.url).content.decode()
        assert "You were signed out, so nothing was done." in page, address
        [onward] = parse_qs(target.query)["next"]
        credentials = {"username": "ann", "password": PASSWORD, "next": onward, "csrfmiddlewaretoken": token_of(page)}
        response = client.post("/sign-in/", credentials, follow=True)
        assert response.status_code == 200, f"{address}: {response.redirect_chain}"
        assert response.redirect_chain[-1][0] == (path if number in address else address)
        assert "Sign out" in response.content.decode()
    assert forms >= {"pay", "cancel", "again", "checkout", "inbox", "account", *FOR_EVERYBODY}


def test_changing_a_cart_whose_session_has_ended_says_so(ann: Browser) -> None:
    for address, typed in (("/cart/", {"q-BOOK": "2", "action": "checkout"}), ("/cart/remove/", {"sku": "BOOK"})):
        ann.fill(BOOK=1)
        assert ann.user is not None
        Session.objects.all().delete()
        response = ann.client.post(address, typed, follow=True)
        assert "Your session has ended, so nothing was changed." in body(response), address
        assert 'href="/sign-in/?next=/cart/"' in body(response)
        ann.client.force_login(ann.user)


def test_total_of_a_cart_whose_session_has_ended_leads_to_signing_in(ann: Browser) -> None:
    Session.objects.all().delete()
    response = ann.client.post("/checkout/quote/", {"coupon": "TEN"})
    assert (response.status_code, response.headers["HX-Refresh"]) == (204, "true")


ELSEWHERE = [
    "https://evil.example/",
    "//evil.example/",
    "/\\evil.example/",
    "javascript:alert(1)",
    "/sign-in/",
    "/sign-in/?next=/sign-in/",
    "/%73ign-out/",
    "/sign-out/",
    "/register/",
    "/admin/logout/",
    "/admin/login/",
    "/api/v1/orders",
    "/no/such/page",
    "/products/BOOK/stock/",
    "/sign-in/\n",
    "/orders/" + "x" * 3000,
    "\x00",
]


@pytest.mark.parametrize("next_page", ELSEWHERE)
def test_nobody_is_led_round_in_circles_or_out_of_the_shop(ann: Browser, next_page: str) -> None:
    assert ann.client.get("/sign-in/", {"next": next_page}).url == "/"
    assert ann.client.get("/register/", {"next": next_page}).url == "/"
    assert ann.add("BOOK", "1", next=next_page).url == "/products/BOOK/"
    response = ann.client.post("/sign-out/", {"next": next_page}, follow=True)
    assert (response.status_code, response.redirect_chain) == (200, [("/", 302)])
    assert "You are signed out." in body(response)
    signing_in = {"username": "ann", "password": PASSWORD, "next": next_page}
    assert ann.client.post("/sign-in/", signing_in).url == "/"
    for query in ("", "?next=/orders/"):
        assert ann.client.get(f"/sign-out/{query}").url == "/"
    assert "Sign out" in ann.text("/")


@pytest.mark.parametrize("next_page", ["/", "/orders/", "/?q=book", "/products/BOOK/add/", "/checkout/"])
def test_signing_in_leads_to_where_the_visitor_was_going(ann: Browser, next_page: str) -> None:
    assert Client().post("/sign-in/", {"username": "ann", "password": PASSWORD, "next": next_page}).url == next_page
    assert ann.client.get("/sign-in/", {"next": next_page}).url == next_page
