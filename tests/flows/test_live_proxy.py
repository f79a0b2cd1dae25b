"""What is slow, idle or too large takes nothing from others: behind the proxy, and with the demo's own server."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from lab.client import Client
from lab.harness.instances import find_program, start_nginx, stop
from lab.harness.proxy import SLOW
from tests import profile
from tests.live import Live

EMBEDDED = profile.PROFILE == "embedded"

pytestmark = pytest.mark.skipif(not EMBEDDED and find_program("nginx") is None, reason="nginx is not installed")


@pytest.fixture
def proxy(live: Live, tmp_path: Path) -> Iterator[str]:
    """The address of nginx before the shop; of the demo, which has none, its own."""
    if EMBEDDED:
        yield live.url
        return
    instance = start_nginx(tmp_path, upstream=urlsplit(live.url).netloc)
    yield instance.url
    stop(instance)
    shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.mark.parametrize("kind", SLOW)
def test_orders_and_health_are_answered_while_others_are_slow(live: Live, proxy: str, kind: str) -> None:
    sku = f"SLOW-{kind.upper().replace(' ', '-')}"
    live.product(sku, 20)
    client = Client(proxy, token=live.client().token)
    with ExitStack() as clients:
        for _ in range(SLOW[kind].clients):
            clients.enter_context(SLOW[kind].connect(proxy))
        number = client.place((sku, 1))
        with closing(HTTPConnection(urlsplit(proxy).netloc, timeout=5)) as health:
            health.request("GET", "/healthz")
            assert health.getresponse().status == 200
        client.wait_for(number, "confirmed")


def answer_to(proxy: str, request: bytes) -> HTTPResponse:
    address = urlsplit(proxy)
    with socket.create_connection((address.hostname, address.port), timeout=10) as client:
        client.sendall(request)
        response = HTTPResponse(client)
        response.begin()
        return response


@pytest.mark.services
@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"POST /sign-in/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 300000000\r\n\r\n", 413),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        (b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        (b"GET /no-such-page/ HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 200),
    ],
    ids=["too large", "no length", "no host", "metrics", "readiness", "the shop's own", "health"],
)
def test_every_answer_has_each_header_once_whoever_gave_it(proxy: str, request_: bytes, status: int) -> None:
    response = answer_to(proxy, request_)
    assert response.status == status
    for name in ("X-Content-Type-Options", "Referrer-Policy", "X-Frame-Options", "Content-Security-Policy"):
        assert len(response.headers.get_all(name) or []) == 1, name
    assert "no-store" in response.headers["Cache-Control"]
