"""Clients that take a web server's connections, or threads, and ask for nothing: idle, or slow with a request."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

HEADERS = (
    b"POST /api/v1/token HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slow:
    """So many clients of one kind, each of which has sent this and waits."""

    clients: int
    sent: bytes

    def connect(self, url: str) -> socket.socket:
        address = urlsplit(url)
        client = socket.create_connection((address.hostname, address.port), timeout=10)
        client.sendall(self.sent)
        return client


SLOW = {
    "idle": Slow(clients=150, sent=b""),
    "slow headers": Slow(clients=60, sent=HEADERS),
    "slow bodies": Slow(clients=60, sent=HEADERS + b"\r\n{"),
}
