"""The demo's server answers while others are slow, idle or many."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any
from urllib.request import urlopen

import pytest

from config import demo_server, embedded
from lab.harness.instances import free_port
from tests.waiting import wait_until

pytestmark = pytest.mark.once

HEADERS = b"POST /orders HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"


def application(environ: dict[str, Any], start: Any) -> list[bytes]:
    body = json.dumps(len(environ["wsgi.input"].read())).encode()
    start("200 OK", [("Content-Length", str(len(body)))])
    return [body]


@pytest.fixture
def port() -> Iterator[int]:
    port = free_port()
    role = embedded.web(application, "127.0.0.1", port)
    role.start(lambda name: None)
    yield port
    role.stop()
    role.thread.join(timeout=10)
    assert not role.thread.is_alive()


def connect(port: int, sent: bytes = b"") -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), timeout=10)
    client.sendall(sent)
    return client


def is_cut(client: socket.socket) -> bool:
    """Whether the server has closed the connection, or takes no more from it."""
    client.setblocking(False)
    try:
        client.send(b"x")
        return client.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def answers(port: int) -> bool:
    with urlopen(f"http://127.0.0.1:{port}/", timeout=5) as response:
        return bool(response.read() == b"0")


@pytest.mark.parametrize(
    ("number", "sent"),
    [(150, b""), (60, HEADERS), (60, HEADERS + b"\r\nx"), (60, b"GET / HTTP/1.1\r\n\r\n")],
    ids=["idle", "slow headers", "slow bodies", "answered, then idle"],
)
def test_others_are_answered_meanwhile(port: int, number: int, sent: bytes) -> None:
    with ExitStack() as clients:
        for _ in range(number):
            clients.enter_context(connect(port, sent))
        assert all(answers(port) for _ in range(5))


def test_a_request_that_takes_too_long_is_cut_off(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_server, "REQUEST_SECONDS", 0.2)
    with connect(port, HEADERS) as slow, connect(port) as idle:
        wait_until(lambda: is_cut(slow))  # sends a byte each time
        assert idle.fileno() > 0
        idle.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert idle.recv(1000).startswith(b"HTTP/1.1 200")


def test_the_idlest_connection_makes_room_for_a_new_one(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_server, "CONNECTIONS", 10)
    with ExitStack() as clients:
        several = [clients.enter_context(connect(port, HEADERS)) for _ in range(30)]
        assert answers(port)
        wait_until(lambda: sum(is_cut(client) for client in several) >= 20)
        assert answers(port)
