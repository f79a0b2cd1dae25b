"""A bad network without touching what is behind it: a TCP proxy that can be cut or hold answers back; slow clients."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit


class Proxy:
    """Listens on a free port of 127.0.0.1 and hands everything on to a server, until it is cut."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._lock = threading.Lock()
        self._answers = threading.Event()  # clear: what the server says is held back
        self._answers.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._accept_in_thread()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.cut()

    def cut(self) -> None:
        """Refuse new connections and break the ones that there are."""
        with suppress(OSError):  # wakes the thread that waits in accept()
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            pairs, self._pairs = self._pairs, set()
        for one in (one for pair in pairs for one in pair):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def hold_answers(self) -> None:
        """Hand on what clients say, and keep what the server answers until it is released, or lost by `cut`."""
        self._answers.clear()

    def release_answers(self) -> None:
        self._answers.set()

    def fall_silent(self) -> None:
        """Who is connected never hears anything again; who connects from now on does."""
        self._answers.clear()
        self._answers = threading.Event()
        self._answers.set()

    def mend(self) -> None:
        """Listen again, on the same port, and hold nothing back."""
        self.release_answers()
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._accept_in_thread()

    def _accept_in_thread(self) -> None:
        threading.Thread(target=self._accept, args=[self._listener], daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._target)
            except OSError:  # nobody is there now
                client.close()
                continue
            with self._lock:
                self._pairs.add((client, server))
            threading.Thread(target=self._serve, args=[client, server], daemon=True).start()

    def _serve(self, client: socket.socket, server: socket.socket) -> None:
        """Hand on what both say until both have ended."""
        back = threading.Thread(target=self._copy, args=[server, client, self._answers], daemon=True)
        back.start()
        self._copy(client, server, None)
        back.join()
        with self._lock:
            self._pairs.discard((client, server))
        for one in (client, server):
            one.close()

    @staticmethod
    def _copy(source: socket.socket, sink: socket.socket, may_pass: threading.Event | None) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if may_pass is not None:
                    may_pass.wait()
                sink.sendall(data)
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


# --- Clients that take connections or threads of a web server, and ask for nothing -----------------------------------

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
