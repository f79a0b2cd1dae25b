"""Every answer is complete, on each of the two servers: its headers, its length, and a connection that goes on."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection, HTTPResponse
from urllib.parse import urlsplit

import pytest

from lab.client import Client
from tests import profile
from tests.live import Live

PERSONAL = "private, no-store"
LIMIT = 64 * 1024
# Address, status, Cache-Control (None: as WhiteNoise says), and what it varies by.
ANSWERS = [
    ("/", 200, "no-store", {"Cookie", "HX-Request"}),
    ("/sign-in/", 200, "no-store", {"Cookie", "HX-Request"}),
    ("/orders/", 302, "no-store", {"Cookie", "HX-Request"}),
    ("/no-such-page/", 404, PERSONAL, set()),
    ("/admin/login/", 200, "no-store", {"Cookie", "HX-Request"}),
    ("/static/storefront/shop.css", 200, None, set()),
    ("/api/v1/products", 200, "no-cache", set()),
    ("/api/v1/orders", 401, PERSONAL, set()),
    ("/api/v1/no-such-thing", 404, PERSONAL, set()),
    ("/api/v1/openapi.json", 200, PERSONAL, {"Authorization"}),
    ("/healthz", 200, PERSONAL, set()),
    ("/readyz", 200, PERSONAL, set()),
]


@pytest.fixture
def connection(live: Live) -> Iterator[HTTPConnection]:
    with closing(HTTPConnection(urlsplit(live.url).netloc, timeout=30)) as connection:
        yield connection


def ask(connection: HTTPConnection, method: str, path: str, **options: object) -> tuple[HTTPResponse, bytes]:
    connection.request(method, path, **options)
    response = connection.getresponse()
    return response, response.read()


def assert_complete(response: HTTPResponse) -> None:
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Referrer-Policy"] == "same-origin"
    assert response.headers["X-Frame-Options"] == "DENY"
    assert "frame-ancestors 'none'" in response.headers["Content-Security-Policy"]
    assert response.headers["Content-Length"] is not None
    for name in ("Content-Security-Policy", "Cache-Control", "Content-Length", "Vary"):
        assert len(response.headers.get_all(name) or [""]) == 1, name


@pytest.mark.parametrize(("path", "status", "cache", "vary"), ANSWERS, ids=range(len(ANSWERS)))
def test_head_is_get_without_the_body_and_both_are_complete(
    connection: HTTPConnection, path: str, status: int, cache: str | None, vary: set[str]
) -> None:
    for _ in range(2):  # what comes from the response cache is no different from what comes from Django
        get, body = ask(connection, "GET", path)
        used = connection.sock
        head, nothing = ask(connection, "HEAD", path)
        assert connection.sock is used is not None  # neither has closed it
        assert (get.status, head.status, nothing) == (status, status, b"")
        for response in (get, head):
            assert_complete(response)
            assert cache is None or cache in response.headers["Cache-Control"]
            assert vary <= set((response.headers["Vary"] or "").split(", "))
        assert int(get.headers["Content-Length"]) == len(body)
        if path != "/readyz":  # says how long each part took to answer
            assert head.headers["Content-Length"] == get.headers["Content-Length"]
        differ = {"date", "expires", "set-cookie", "content-length", "x-request-id"}
        known = [{name.lower(): value for name, value in response.headers.items()} for response in (get, head)]
        assert {**known[0], **dict.fromkeys(differ)} == {**known[1], **dict.fromkeys(differ)}


def test_wrong_method_names_what_would_do_and_keeps_the_connection(connection: HTTPConnection) -> None:
    response, _ = ask(connection, "DELETE", "/api/v1/products")
    assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD")
    assert_complete(response)
    assert connection.sock is not None


def order_of(client: Client) -> tuple[bytes, dict[str, str]]:
    body = json.dumps({"lines": [{"sku": "ANSWERS", "quantity": 1}]}).encode()
    return body, {"Authorization": f"Bearer {client.token}", "Content-Type": "application/json"}


def test_a_body_in_chunks_is_a_body(live: Live, connection: HTTPConnection) -> None:
    live.product("ANSWERS", 5)
    body, headers = order_of(live.client())
    numbers = []
    for key, sent in (("whole", body), ("in-chunks", iter([body[:7], body[7:]]))):
        response, answer = ask(
            connection, "POST", "/api/v1/orders", body=sent, headers={**headers, "Idempotency-Key": key}
        )
        assert response.status == 202, answer
        assert response.headers["Cache-Control"] == PERSONAL
        assert_complete(response)
        numbers.append(json.loads(answer)["number"])
    assert len(set(numbers)) == 2


@pytest.mark.parametrize("path", ["/api/v1/token", "/sign-in/", "/admin/login/"], ids=["api", "shop", "admin"])
def test_a_body_that_is_too_long_is_refused_before_it_has_come(live: Live, path: str) -> None:
    """300 MB are announced; none of them is sent."""
    host, port = urlsplit(live.url).hostname, urlsplit(live.url).port
    with socket.create_connection((host, port), timeout=30) as client:
        client.sendall(
            f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {300 * 1024 * 1024}\r\n"
            "Content-Type: multipart/form-data; boundary=x\r\n\r\n".encode()
        )
        response = HTTPResponse(client)
        response.begin()
        assert response.status == 413
        assert_complete(response)
        kind = response.headers["Content-Type"]
        assert kind.startswith("application/problem+json" if path.startswith("/api/") else "text/html")


def test_chunks_that_add_up_to_too_much_are_refused(live: Live) -> None:
    """A byte too many; whoever sends more may find the connection closed before the answer."""
    host, port = urlsplit(live.url).hostname, urlsplit(live.url).port
    with socket.create_connection((host, port), timeout=30) as client:
        client.sendall(f"POST /api/v1/token HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        for size in (LIMIT - 1000, 1001):
            client.sendall(f"{size:x}\r\n".encode() + b" " * size + b"\r\n")
        response = HTTPResponse(client)
        response.begin()
        assert response.status == 413
        assert_complete(response)


@pytest.mark.skipif(profile.PROFILE == "services", reason="granian's own answer is empty; a proxy stands before it")
def test_what_the_server_does_not_understand_is_refused_completely(live: Live) -> None:
    with socket.create_connection((urlsplit(live.url).hostname, urlsplit(live.url).port), timeout=30) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nBad Header: 1\r\n\r\n")
        response = HTTPResponse(client)
        response.begin()
        assert response.status == 400
        assert_complete(response)
