"""What is answered before Django: only what everybody sees alike, and never older than it may be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4
from wsgiref.util import setup_testing_defaults

import pytest
from django.conf import settings as django_settings
from django.core.handlers.wsgi import WSGIHandler
from django.utils import timezone
from pytest_django import Settings

from caching import two_level
from caching.responses import NOBODY
from config.responses import cached
from eventing.recorded import Metadata
from inventory import handlers, selectors
from inventory.models import Product
from tests.factories import ProductFactory
from tests.waiting import wait_until_changes_are_heard

pytestmark = pytest.mark.django_db(databases="__all__", transaction=True)


@dataclass
class Answer:
    status: str
    headers: dict[str, str]
    body: str


@dataclass
class Web:
    """The application as a web server calls it. `asked` are the paths that came through to Django."""

    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._django = WSGIHandler()
        self._front = cached(self._note)

    def _note(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        self.asked.append(environ["PATH_INFO"])
        return self._django(environ, start)

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, **headers)

    def ask(self, method: str, path: str, **headers: str) -> Answer:
        path, _, query = path.partition("?")
        environ: dict[str, Any] = {"REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": query}
        environ |= {f"HTTP_{name.upper()}": value for name, value in headers.items()}
        setup_testing_defaults(environ)
        environ["HTTP_HOST"] = headers.get("host", "testserver")
        environ["wsgi.url_scheme"] = headers.get("scheme", "http")
        found: list[tuple[str, list[tuple[str, str]]]] = []
        body = self._front(environ, lambda status, headers, exc_info=None: found.append((status, headers)))
        text = b"".join(body).decode()
        if hasattr(body, "close"):
            body.close()
        [(status, answered)] = found
        return Answer(status, dict(answered), text)


@pytest.fixture
def sku(settings: Settings) -> str:
    settings.CATALOGUE_CACHE_SECONDS = 60
    sku = f"FRONT-{uuid4().hex[:8].upper()}"
    # In a category of its own: Redis remembers what earlier runs asked.
    ProductFactory.create(sku=sku, category=sku.lower(), price=100, pieces=3)
    return sku


@pytest.fixture
def web(sku: str) -> Iterator[Web]:
    wait_until_changes_are_heard()
    two_level.clear_memory()
    yield Web()
    two_level.clear_memory()


def receive(sku: str, pieces: int) -> None:
    handlers.receive_stock(sku, pieces, "delivery", timezone.now(), Metadata(correlation_id="test"))


def test_django_is_asked_once_for_a_product(web: Web, sku: str) -> None:
    first, second = web.get(f"/api/v1/products/{sku}"), web.get(f"/api/v1/products/{sku}")
    assert web.asked == [f"/api/v1/products/{sku}"]
    assert (second.status, second.body, second.headers) == ("200 OK", first.body, first.headers)
    assert "X-Request-ID" not in second.headers  # each request has its own, from the application before this one
    assert '"available":3' in second.body
    assert second.headers["Content-Type"].startswith("application/json")
    assert "Content-Security-Policy" in second.headers


def test_a_change_is_seen_at_once(web: Web, sku: str) -> None:
    page = f"/products/{sku}/"
    assert '"available":3' in web.get(f"/api/v1/products/{sku}").body
    assert "3 left" in web.get(page).body
    receive(sku, 1)
    assert '"available":4' in web.get(f"/api/v1/products/{sku}").body
    assert "4 left" in web.get(page).body
    Product.objects.filter(sku=sku).update(price=900)
    selectors.evict_products([sku])
    assert '"price":900' in web.get(f"/api/v1/products/{sku}").body


def test_who_has_it_already_is_told_so(web: Web, sku: str) -> None:
    etag = web.get(f"/api/v1/products/{sku}").headers["ETag"]
    again = web.get(f"/api/v1/products/{sku}", if_none_match=etag)
    assert (again.status, again.body) == ("304 Not Modified", "")
    receive(sku, 1)
    assert web.get(f"/api/v1/products/{sku}", if_none_match=etag).status == "200 OK"


def test_every_visitor_gets_a_token_of_their_own_that_the_shop_takes(web: Web, sku: str, client: Any) -> None:
    visits = [web.get(f"/products/{sku}/") for _ in range(3)]
    assert web.asked == [f"/products/{sku}/"]
    cookies = {visit.headers["Set-Cookie"].partition(";")[0].partition("=")[2] for visit in visits}
    assert len(cookies) == 3
    assert NOBODY not in "".join(cookies) + "".join(visit.body for visit in visits)

    visit = visits[-1]
    token = visit.body.partition('name="csrfmiddlewaretoken" value="')[2].partition('"')[0]
    strict = type(client)(enforce_csrf_checks=True)
    strict.cookies[django_settings.CSRF_COOKIE_NAME] = visit.headers["Set-Cookie"].partition(";")[0].partition("=")[2]
    order = {"quantity": "1", "csrfmiddlewaretoken": token}
    assert strict.post(f"/products/{sku}/add/", order).status_code == 302
    assert strict.post(f"/products/{sku}/add/", order | {"csrfmiddlewaretoken": NOBODY}).status_code == 403
    assert int(visit.headers["Content-Length"]) == len(visit.body.encode())


def test_pages_with_cookies_and_parts_of_pages_come_from_django(web: Web, sku: str) -> None:
    page = f"/products/{sku}/"
    web.get(page)
    web.asked.clear()
    web.get(page, cookie="sessionid=abc")
    web.get(page, hx_request="true")
    web.get(f"{page}stock/")
    assert web.asked == [page, page, f"{page}stock/"]


def test_what_is_no_simple_question_comes_from_django(web: Web, sku: str) -> None:
    product = f"/api/v1/products/{sku}"
    for method, path in (("HEAD", product), ("POST", product), ("GET", "/api/v1/products?q=thing"), ("GET", "/cart/")):
        web.asked.clear()
        web.ask(method, path)
        web.ask(method, path)
        assert len(web.asked) == 2, path
    web.asked.clear()
    web.get(f"{product}?x=1")
    web.get(f"{product}?x=1")
    assert len(web.asked) == 2
    web.asked.clear()
    web.get(f"/?category={sku.lower()}&sort=price")
    web.get(f"/?category={sku.lower()}&sort=price")
    assert len(web.asked) == 1


def test_what_does_not_exist_is_not_kept_as_an_answer(web: Web) -> None:
    for _ in range(2):
        missing = web.get("/api/v1/products/GHOST")
        assert missing.status.startswith("404")
        assert "product_not_found" in missing.body


def test_a_host_that_is_not_ours_gets_nothing(web: Web, sku: str) -> None:
    web.get(f"/api/v1/products/{sku}")
    for _ in range(2):
        assert web.get(f"/api/v1/products/{sku}", host="evil.example").status.startswith("400")


def test_what_a_stranger_invents_neither_splits_nor_switches_off_the_cache(web: Web, sku: str) -> None:
    address = f"/api/v1/products/{sku}"
    web.get(address)
    web.asked.clear()
    for number in range(200):
        invented = {"x_forwarded_proto": f"scheme-{number}", "x_forwarded_host": f"{number}.example"}
        invented |= {"accept_language": f"x-{number}", "accept_encoding": f"z{number}", "forwarded": f"proto={number}"}
        assert web.get(address, **invented).status == "200 OK"
        assert web.get(address, host=f"{number}.example").status.startswith("400")
    web.asked.clear()
    assert web.get(address).status == "200 OK"
    assert web.asked == []


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_where_https_is_wanted_only_https_is_answered_from_the_cache(
    web: Web, sku: str, settings: Settings, scheme: str
) -> None:
    settings.SECURE_SSL_REDIRECT = True
    redirecting = Web()
    for _ in range(2):
        found = redirecting.get(f"/api/v1/products/{sku}", x_forwarded_proto="https", scheme=scheme)
        assert found.status[:3] == ("200" if scheme == "https" else "301")


def test_without_the_cache_django_answers(web: Web, sku: str, settings: Settings) -> None:
    settings.CATALOGUE_CACHE_SECONDS = 0
    web.get(f"/api/v1/products/{sku}")
    web.get(f"/api/v1/products/{sku}")
    assert len(web.asked) == 2
