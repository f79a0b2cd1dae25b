"""Many buyers who order in the same second, each on a connection of their own: `python -m lab.load.buyers FILE`.

FILE (JSON) has `host`, `port`, `sku` and `tokens` (one a buyer). What is measured is what a buyer waits: for the
connection, and for the answer. This is not made with Locust, and with bare sockets, because the second in which all of
them order is a second of the shop's as well: what the buyers take of the machine, it lacks. Each buyer is one line of
JSON on standard output, written when the answer is there.
"""

from __future__ import annotations

import errno
import json
import os
import random
import resource
import selectors
import socket
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from lab.client import order_body

RUSH_SECONDS = 1.0  # in which all of them order
ANSWER_SECONDS = 180.0  # after which a buyer gives up
LOOK_SECONDS = 1.0  # between two looks for those who give up
SPARE_FILES = 200
CHUNK = 65_536
HEADER_END = b"\r\n\r\n"


@dataclass(slots=True)
class Buyer:
    """One connection and one order; times in seconds since the epoch, from before the connection is asked for."""

    request: bytes
    connection: socket.socket
    sent_at: float
    is_sent: bool = False
    received: bytearray = field(default_factory=bytearray)


class Buyers:
    """All buyers, in one thread; each who is done gets a line on standard output."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._selector = selectors.DefaultSelector()
        self._buyers: dict[int, Buyer] = {}

    def order(self, requests: list[bytes]) -> None:
        """Send all requests at random moments within RUSH_SECONDS, and wait for the answers."""
        begin = time.monotonic()
        moments = deque(sorted(begin + random.uniform(0, RUSH_SECONDS) for _ in requests))
        look_at = begin
        while moments or self._buyers:
            while moments and moments[0] <= time.monotonic():
                moments.popleft()
                self._begin(requests.pop())
            pause = moments[0] - time.monotonic() if moments else LOOK_SECONDS
            for key, _ in self._selector.select(max(0.0, pause)):
                self._go_on(key.data)
            if time.monotonic() >= look_at:
                look_at = time.monotonic() + LOOK_SECONDS
                self._give_up()
            sys.stdout.flush()

    def _begin(self, request: bytes) -> None:
        connection = socket.socket()
        connection.setblocking(False)
        buyer = Buyer(request, connection, time.time())
        self._buyers[connection.fileno()] = buyer
        self._selector.register(connection, selectors.EVENT_WRITE, buyer)
        if (refused := connection.connect_ex(self._address)) not in (0, errno.EINPROGRESS):
            self._end(buyer, failure=os.strerror(refused))

    def _go_on(self, buyer: Buyer) -> None:
        """The connection is there, or has failed, or has brought something."""
        try:
            if not buyer.is_sent:
                buyer.connection.sendall(buyer.request)  # less than a socket's buffer, so it is sent as a whole
                buyer.is_sent = True
                self._selector.modify(buyer.connection, selectors.EVENT_READ, buyer)
                return
            data = buyer.connection.recv(CHUNK)
        except OSError as error:
            self._end(buyer, failure=f"the connection was lost: {error.strerror}")
            return
        buyer.received += data
        if (answer := parse(buyer.received)) is not None:
            self._end(buyer, *answer)
        elif not data:
            self._end(buyer, failure="the connection was closed before the answer")

    def _give_up(self) -> None:
        oldest = time.time() - ANSWER_SECONDS
        for buyer in [buyer for buyer in self._buyers.values() if buyer.sent_at < oldest]:
            self._end(buyer, failure=f"no answer within {ANSWER_SECONDS:.0f} s")

    def _end(self, buyer: Buyer, status: int = 0, body: bytes = b"", *, failure: str = "") -> None:
        answered_at = time.time()
        del self._buyers[buyer.connection.fileno()]
        self._selector.unregister(buyer.connection)
        buyer.connection.close()
        answer = json.loads(body) if body.startswith(b"{") else {}
        said = {"status": status, "number": answer.get("number", ""), "code": answer.get("code", "")}
        times = {"answered_at": answered_at, "seconds": answered_at - buyer.sent_at}
        print(json.dumps({**times, **said, "failure": failure}))


def parse(received: bytes | bytearray) -> tuple[int, bytes] | None:
    """Status and body of an answer with a Content-Length; None while something is missing."""
    head, end, body = bytes(received).partition(HEADER_END)
    if not end:
        return None
    status, *headers = head.split(b"\r\n")
    lengths = [header[15:] for header in headers if header[:15].lower() == b"content-length:"]
    length = int(lengths[0]) if lengths else 0
    return (int(status.split()[1]), body[:length]) if len(body) >= length else None


def request_of(host: str, port: int, token: str, sku: str) -> bytes:
    body = json.dumps(order_body({sku: 1})).encode()
    head = (
        f"POST /api/v1/orders HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/json\r\nIdempotency-Key: {uuid4().hex}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def allow_files(number: int) -> None:
    """Let this process, and those that it starts, open so many files, as far as the system permits it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = number + SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def main() -> int:
    plan: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    host, port = plan["host"], plan["port"]
    allow_files(len(plan["tokens"]))
    requests = [request_of(host, port, token, plan["sku"]) for token in plan["tokens"]]
    Buyers((host, port)).order(requests)
    return 0


if __name__ == "__main__":
    sys.exit(main())
