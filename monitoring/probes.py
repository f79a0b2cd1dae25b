"""`/healthz`, `/readyz` and `/metrics`, answered before Django: a probe costs next to nothing, however many ask.

The answers name parts of the system and count orders, so only PROBE_NETWORKS are told; everybody else gets the bare
status.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import msgspec
from django.conf import settings
from django.db import connections
from django.http import HttpRequest, HttpResponse
from django.urls import path
from prometheus_client.exposition import choose_encoder

from monitoring import health
from monitoring.kept import Kept
from monitoring.metrics import registry
from values.networks import is_in

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

SAFE = ("GET", "HEAD")
PROBE_SECONDS = 5  # that a client may take to ask
JSON = "application/json"
OPEN_METRICS = "application/openmetrics-text"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: HTTPStatus
    body: bytes
    content_type: str = JSON

    @property
    def headers(self) -> list[tuple[str, str]]:
        return [
            ("Content-Type", self.content_type),
            ("Content-Length", str(len(self.body))),
            ("Cache-Control", "private, no-store"),
            ("X-Content-Type-Options", "nosniff"),
        ]


def healthz(environ: dict[str, Any]) -> Answer:
    """The process is alive. It asks nobody: a restart would not bring a database back."""
    return Answer(status=HTTPStatus.OK, body=b'{"status":"ok"}')


def readyz(environ: dict[str, Any]) -> Answer:
    """503 if the process can serve nothing useful, else 200; the body says what does not work, and what still does."""
    readiness = health.readiness()
    body: dict[str, Any] = {"status": readiness.status}
    if _is_told(environ):
        body |= {"dependencies": readiness.dependencies, "impaired": readiness.impaired}
    is_up = readiness.status is not health.Status.UNAVAILABLE
    return Answer(status=HTTPStatus.OK if is_up else HTTPStatus.SERVICE_UNAVAILABLE, body=msgspec.json.encode(body))


def metrics(environ: dict[str, Any]) -> Answer:
    """For Prometheus, in the format that it asks for."""
    if not _is_told(environ):
        return Answer(status=HTTPStatus.FORBIDDEN, body=b'{"status":"forbidden"}')
    wanted = OPEN_METRICS if OPEN_METRICS in environ.get("HTTP_ACCEPT", "") else ""
    return _scrapes[wanted].get()


def _scrape(wanted: str) -> Answer:
    encode, content_type = choose_encoder(wanted)
    return Answer(status=HTTPStatus.OK, body=encode(registry()), content_type=content_type)


_scrapes = {wanted: Kept(partial(_scrape, wanted)) for wanted in (OPEN_METRICS, "")}

PROBES = {"/healthz": healthz, "/readyz": readyz, "/metrics": metrics}


def answer(environ: dict[str, Any]) -> Answer:
    """The answer to a probe; its address is one of PROBES."""
    if environ["REQUEST_METHOD"] not in SAFE:
        return Answer(status=HTTPStatus.METHOD_NOT_ALLOWED, body=b'{"status":"method_not_allowed"}')
    return PROBES[environ["PATH_INFO"]](environ)


class Probes:
    """The WSGI application before `application`."""

    def __init__(self, application: Application) -> None:
        self._application = application

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if environ.get("PATH_INFO") not in PROBES:
            return self._application(environ, start)
        try:
            found = answer(environ)
        finally:
            connections.close_all()  # back to the pool: no request of Django ends here, which would do it
        start(f"{found.status.value} {found.status.phrase}", found.headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [found.body]


class _Server(ThreadingMixIn, WSGIServer):
    """Each process of the web server listens on the same port; whoever is asked answers for itself."""

    daemon_threads = True
    allow_reuse_port = True

    def server_bind(self) -> None:
        # As HTTPServer does it, but without asking who this machine is, which may take seconds.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]
        self.setup_environ()


class _Handler(WSGIRequestHandler):
    timeout = PROBE_SECONDS

    def log_message(self, format: str, *args: Any) -> None:
        """Probes come every few seconds; nothing is to be learnt from them."""


def serve() -> WSGIServer | None:
    """Answer probes on HEALTH_PORT, too, in threads of their own: they do not queue behind orders."""
    if not settings.HEALTH_PORT:
        return None
    server = make_server("", settings.HEALTH_PORT, Probes(_nothing), _Server, _Handler)
    threading.Thread(target=server.serve_forever, name="probes", daemon=True).start()
    return server


def _nothing(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
    start("404 Not Found", [("Content-Length", "0")])
    return []


def view(request: HttpRequest) -> HttpResponse:
    """The same for who asks Django, as tests and `runserver` do."""
    found = answer(request.META)
    response = HttpResponse(found.body, status=found.status)
    for name, value in found.headers:
        response.headers[name] = value
    return response


def _is_told(environ: dict[str, Any]) -> bool:
    """Whether the request comes from one of PROBE_NETWORKS, and not from elsewhere through an unknown proxy."""
    if "HTTP_X_FORWARDED_FOR" in environ or "HTTP_FORWARDED" in environ:
        return False
    return is_in(environ.get("REMOTE_ADDR", ""), settings.PROBE_NETWORKS)


urlpatterns = [path(address.removeprefix("/"), view) for address in PROBES]
