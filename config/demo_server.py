"""The web server of the embedded profile (waitress), with limits against clients that are slow, idle or many.

A thread is taken only when a request is there as a whole, so a slow one costs a connection and nothing else. These are
bounded here: whoever needs too long for a request is cut off, and when there are too many, the idlest one makes room.
"""

from __future__ import annotations

import time
from typing import Any
from wsgiref.types import WSGIApplication

from django.conf import settings
from waitress import create_server
from waitress.channel import HTTPChannel
from waitress.server import BaseWSGIServer
from waitress.task import ErrorTask

from config import answers

THREADS = 8
CONNECTIONS = 400  # more would come near the files that a process may have open
REQUEST_SECONDS = 20  # for a whole request, however often a byte of it comes
IDLE_SECONDS = 30


class Refusal(ErrorTask):
    """What the server refuses by itself has the form and the headers of all answers."""

    def execute(self) -> None:
        error = self.request.error
        path = getattr(self.request, "path", "")  # not there if the first line made no sense
        response = answers.refusal(path, error.code if error.code in (400, 413) else 400)
        present = {name.lower(): value for name, value in response.headers.items()}
        further = answers.missing({"PATH_INFO": path}, error.code, present)
        self.status = f"{error.code} {error.reason}"
        self.response_headers += [*response.headers.items(), *further.items()]
        self.set_close_on_finish()
        self.content_length = len(response.content)
        self.write(response.content)


class Channel(HTTPChannel):
    """A connection. Only the server's own thread makes, reads and closes connections."""

    error_task_class = Refusal

    def __init__(self, server: Any, *args: Any, **options: Any) -> None:
        self._request_began = 0.0
        waiting = [channel for channel in server.active_channels.values() if not channel.requests]
        if waiting and len(server.active_channels) >= CONNECTIONS:
            min(waiting, key=lambda channel: channel.last_activity).handle_close()
        super().__init__(server, *args, **options)

    def received(self, data: bytes) -> bool:
        if self.request is None:
            self._request_began = time.monotonic()
        elif time.monotonic() - self._request_began > REQUEST_SECONDS:
            self.will_close = True
            return False
        return bool(super().received(data))


def create(application: WSGIApplication, host: str, port: int) -> Any:
    """A server that has its port already: raises OSError if that is taken."""
    server = create_server(
        application,
        host=host,
        port=port,
        threads=THREADS,
        ident="wharf",
        max_request_body_size=settings.DATA_UPLOAD_MAX_MEMORY_SIZE,
        max_request_header_size=64 * 1024,
        channel_timeout=IDLE_SECONDS,
        cleanup_interval=5,
        connection_limit=2 * CONNECTIONS,  # the server would stop to accept any; see Channel
        asyncore_use_poll=True,
    )
    for listener in [server, *server._map.values()]:  # of a name there may be one for each of its addresses
        if isinstance(listener, BaseWSGIServer):
            listener.channel_class = Channel
    return server
