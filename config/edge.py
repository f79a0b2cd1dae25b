"""The outermost WSGI application: makes requests alike on every server, and answers complete.

Django never sees HEAD, which is GET without the body, nor a body whose length is not known. What a request says about
where it comes from is believed of TRUSTED_PROXIES only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from io import BytesIO
from ipaddress import IPv4Network, IPv6Network
from typing import Any

from django.conf import settings

from config import answers
from values.networks import is_in

Headers = list[tuple[str, str]]
Start = Callable[..., Any]
Application = Callable[[dict[str, Any], Start], Iterable[bytes]]

ANYWHERE = (IPv4Network("0.0.0.0/0"), IPv6Network("::/0"))


class Edge:
    """The WSGI application before `application`."""

    def __init__(self, application: Application) -> None:
        self._application = application

    def __call__(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        def start_complete(status: str, headers: Headers, exc_info: Any = None) -> Any:
            present = {name.lower(): value for name, value in headers}
            found = answers.missing(environ, int(status[:3]), present)
            if "Vary" in found:
                headers = [(name, value) for name, value in headers if name.lower() != "vary"]
            return start(status, [*headers, *found.items()], exc_info)

        answers.identify(environ)
        _believe_proxies(environ)
        _measure_body(environ)
        if environ["REQUEST_METHOD"] != "HEAD":
            return self._application(environ, start_complete)
        chunks = self._application(environ | {"REQUEST_METHOD": "GET"}, start_complete)
        if hasattr(chunks, "close"):
            chunks.close()
        return []


def _believe_proxies(environ: dict[str, Any]) -> None:
    """Take the client's address and scheme from a proxy of ours. What anybody else says in these headers stays there,
    and nobody looks at it.
    """
    proxies = settings.TRUSTED_PROXIES
    if not proxies or not is_in(environ.get("REMOTE_ADDR", ""), proxies):
        return
    scheme = environ.pop("HTTP_X_FORWARDED_PROTO", "")
    if scheme in ("http", "https"):
        environ["wsgi.url_scheme"] = scheme
    # Each proxy writes the one before it at the end, so all before the last stranger may be invented.
    for address in reversed(environ.pop("HTTP_X_FORWARDED_FOR", "").split(",")):
        if not is_in(address.strip(), ANYWHERE):
            return
        environ["REMOTE_ADDR"] = address.strip()
        if not is_in(address.strip(), proxies):
            return


def _measure_body(environ: dict[str, Any]) -> None:
    """Read a body that comes in chunks, to one byte more than it may have, so that its length is known."""
    if environ.get("CONTENT_LENGTH") or "chunked" not in environ.get("HTTP_TRANSFER_ENCODING", "").lower():
        return
    body = environ["wsgi.input"].read(settings.DATA_UPLOAD_MAX_MEMORY_SIZE + 1)
    environ |= {"CONTENT_LENGTH": str(len(body)), "wsgi.input": BytesIO(body)}
