"""The outermost application: whom it believes, and what it makes of requests before Django sees them."""

from __future__ import annotations

from io import BytesIO
from ipaddress import ip_network
from typing import Any

import pytest
from django.contrib.sessions.models import Session
from django.test import Client
from pytest_django.fixtures import Settings

from config.edge import Edge
from tests.integration.shop_api import stock_the_shop

pytestmark = [pytest.mark.once, pytest.mark.django_db(databases="__all__")]

PROXIES = [ip_network("10.0.0.0/24"), ip_network("fd00::/64")]


def seen(**environ: Any) -> dict[str, Any]:
    """What the application behind is given."""
    given: list[dict[str, Any]] = []

    def application(environ: dict[str, Any], start: Any) -> list[bytes]:
        given.append(environ)
        start("200 OK", [])
        return [b"body"]

    base = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "wsgi.url_scheme": "http", "REMOTE_ADDR": "203.0.113.7"}
    list(Edge(application)(base | environ, lambda status, headers, exc_info=None: None))
    return given[0]


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("10.0.0.5", "198.51.100.1", "198.51.100.1"),
        ("::ffff:10.0.0.5", "198.51.100.1", "198.51.100.1"),
        ("fd00::5", "2001:db8::1", "2001:db8::1"),
        ("10.0.0.5", "1.1.1.1, 198.51.100.1", "198.51.100.1"),  # the first one is the client's own invention
        ("10.0.0.5", "198.51.100.1, 10.0.0.6", "198.51.100.1"),  # two proxies of ours
        ("10.0.0.5", "198.51.100.1, nonsense", "10.0.0.5"),
        ("10.0.0.5", "", "10.0.0.5"),
        ("203.0.113.7", "198.51.100.1", "203.0.113.7"),
    ],
)
def test_only_our_proxies_say_who_asks(settings: Settings, peer: str, forwarded: str, client: str) -> None:
    settings.TRUSTED_PROXIES = PROXIES
    assert seen(REMOTE_ADDR=peer, HTTP_X_FORWARDED_FOR=forwarded)["REMOTE_ADDR"] == client


@pytest.mark.parametrize(
    ("peer", "said", "scheme"),
    [
        ("10.0.0.5", "https", "https"),
        ("10.0.0.5", "http", "http"),
        ("10.0.0.5", "javascript", "http"),
        ("203.0.113.7", "https", "http"),
    ],
)
def test_only_our_proxies_say_that_it_was_https(settings: Settings, peer: str, said: str, scheme: str) -> None:
    settings.TRUSTED_PROXIES = PROXIES
    assert seen(REMOTE_ADDR=peer, HTTP_X_FORWARDED_PROTO=said)["wsgi.url_scheme"] == scheme


def test_nobody_is_believed_unless_a_setting_says_so() -> None:
    given = seen(REMOTE_ADDR="127.0.0.1", HTTP_X_FORWARDED_PROTO="https", HTTP_X_FORWARDED_FOR="10.9.9.9")
    assert (given["wsgi.url_scheme"], given["REMOTE_ADDR"]) == ("http", "127.0.0.1")


@pytest.mark.parametrize(("sent", "read"), [(10, 10), (65_536, 65_536), (300_000, 65_537)])
def test_a_body_in_chunks_is_read_to_one_byte_more_than_it_may_have(sent: int, read: int) -> None:
    given = seen(REQUEST_METHOD="POST", HTTP_TRANSFER_ENCODING="chunked", **{"wsgi.input": BytesIO(b"x" * sent)})
    assert given["CONTENT_LENGTH"] == str(read)
    assert len(given["wsgi.input"].read()) == read


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/sign-in/", "/admin/login/", "/api/v1/token", "/no-such-page/"])
def test_a_file_of_a_stranger_is_not_written_anywhere(client: Client, path: str, settings: Settings) -> None:
    settings.FILE_UPLOAD_HANDLERS = ["tests.integration.test_edge.NoUpload"]
    file = BytesIO(b"x" * 100_000)
    file.name = "film.mp4"
    response = client.post(path, {"file": file}, REMOTE_ADDR="203.0.113.7")
    assert response.status_code == 413
    assert response.headers["Content-Type"].startswith("application/problem" if "/api/" in path else "text/html")


def NoUpload(request: Any) -> None:
    raise AssertionError("a file is being read")


@pytest.mark.django_db(databases="__all__")
def test_a_visitor_who_puts_nothing_into_a_cart_gets_no_session() -> None:
    stock_the_shop()
    before = Session.objects.count()
    paths = [
        "/",
        "/products/BOOK/",
        "/cart/",
        "/checkout/",
        "/orders/",
        "/inbox/",
        "/account/",
        "/sign-in/",
        "/register/",
    ]
    paths += ["/no-such-page/", "/admin/", "/admin/login/", "/api/v1/products", "/api/v1/docs"]
    for path in paths:
        client = Client()  # a visitor each
        response = client.get(path, follow=True)
        assert response.status_code in (200, 404), path
        assert "sessionid" not in client.cookies, path
    client = Client()
    client.post("/sign-in/", {"username": "nobody", "password": "wrong"})
    client.post("/sign-out/")
    assert Session.objects.count() == before

    client.post("/products/BOOK/add/", {"quantity": "1"})
    assert Session.objects.count() == before + 1


@pytest.mark.parametrize("given", ["a", "0af7651916cd43dd8448eb211c80319c", "trace.7_b-2"])
def test_every_answer_names_the_id_of_its_request(given: str) -> None:
    for path in ("/api/v1/products", "/api/v1/orders", "/api/v1/nothing", "/", "/nothing/"):
        assert Client().get(path, headers={"X-Request-ID": given}).headers["X-Request-ID"] == given


@pytest.mark.parametrize("given", ["", "x" * 65, "a b", "é", "a/b"])
def test_what_is_no_id_of_a_request_is_replaced_by_one(given: str) -> None:
    first, second = (
        Client().get("/api/v1/products", headers={"X-Request-ID": given}).headers["X-Request-ID"] for _ in range(2)
    )
    assert {len(first), len(second)} == {36}
    assert first != second
