"""Answers what everybody sees alike from bytes, before Django: the products of the API, and the shop's shelves.

Only for GET, and for pages only without a cookie, so that nothing personal is ever kept. What Django answers with
anything but 200, or with a cookie of its own, is asked of it each time. What comes from here has been through all
middlewares, a moment ago (see config.levels).

The forms of a page carry a token against forged requests, which is each visitor's own (django.middleware.csrf). Pages
are kept with the token of nobody, and get the visitor's, with its cookie, on the way out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from functools import lru_cache, partial
from hashlib import blake2b
from io import BytesIO
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.request import split_domain_port, validate_host
from django.middleware.csrf import get_token

from config import levels
from config.levels import Levels
from inventory.domain import SKU

Headers = list[tuple[str, str]]
Start = Callable[..., Any]
Application = Callable[[dict[str, Any], Start], Iterable[bytes]]

API = "/api/v1/products"
SHELVES = "/"
PRODUCTS = "/products/"
# A page or a list for any other parameter would only fill the memory.
PARAMETERS = frozenset({"category", "sort", "after", "sku", "cursor", "limit"})
LONGEST_QUERY = 200
# The path is part of a key, so it has to be an address that there can be.
ADDRESS = re.compile(rf"{SHELVES}|{PRODUCTS}{SKU.pattern}/|{API}(/{SKU.pattern})?")

TOKEN = re.compile(rb'(name="csrfmiddlewaretoken" value=")[A-Za-z0-9]+(")')
NOBODY = "0" * 32  # a well-formed secret, which no visitor is given


class Answer(msgspec.Struct, frozen=True):
    """Of an API request `pieces` is the body; of a page they are what stands between the tokens."""

    headers: Headers
    pieces: list[bytes]
    etag: str


_answers: Levels[Answer] = Levels(
    "answers", Answer, seconds=lambda: float(settings.CATALOGUE_CACHE_SECONDS), entries=500
)


def _look_again(skus: Collection[str]) -> None:
    """These products have changed. Lists of them are CATALOGUE_CACHE_SECONDS old at most."""
    _answers.discard([address for sku in skus for address in (f"{API}/{sku}?", f"{PRODUCTS}{sku}/?")])


levels.on_drop("product", _look_again)


class Front:
    """The WSGI application before `application`."""

    def __init__(self, application: Application) -> None:
        self._application = application

    def __call__(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        if not _is_everybodys(environ):
            return self._application(environ, start)
        key = f"{environ['PATH_INFO']}?{environ.get('QUERY_STRING', '')}"
        answer = _answers.get(key, partial(self._load, environ))
        if answer is None:
            return self._application(environ, start)
        if answer.etag and environ.get("HTTP_IF_NONE_MATCH", "") == answer.etag:
            start("304 Not Modified", [("ETag", answer.etag), ("Cache-Control", "no-cache")])
            return []
        if len(answer.pieces) == 1:
            start("200 OK", answer.headers)
            return answer.pieces
        token, cookie = _visitors_token()
        body = token.join(answer.pieces)
        start("200 OK", [*answer.headers, ("Content-Length", str(len(body))), ("Set-Cookie", cookie)])
        return [body]

    def _load(self, environ: dict[str, Any]) -> Answer | None:
        """Ask Django as nobody; None if the answer is not for everybody."""
        started: list[tuple[str, Headers]] = []
        is_page = not environ["PATH_INFO"].startswith(API)
        asked = {name: value for name, value in environ.items() if name not in ("HTTP_COOKIE", "HTTP_AUTHORIZATION")}
        asked |= {"wsgi.input": BytesIO(), "HTTP_IF_NONE_MATCH": ""}
        if is_page:
            asked["HTTP_COOKIE"] = f"{settings.CSRF_COOKIE_NAME}={NOBODY}"
        chunks = self._application(asked, lambda status, headers, exc_info=None: started.append((status, headers)))
        try:
            body = b"".join(chunks)
        finally:
            if hasattr(chunks, "close"):
                chunks.close()
        [(status, headers)] = started
        # Django repeats the cookie whose token it has written into the page.
        headers = [(name, value) for name, value in headers if name.lower() != "set-cookie" or NOBODY not in value]
        names = {name.lower() for name, _ in headers}
        if not status.startswith("200") or "set-cookie" in names:
            return None
        if is_page:
            kept = [(name, value) for name, value in headers if name.lower() != "content-length"]
            pieces = TOKEN.sub(rb"\1\0\2", body).split(b"\0")
            if len(pieces) > 1:
                return Answer(kept, pieces, "")
        etag = f'"{blake2b(body, digest_size=12).hexdigest()}"'
        return Answer([*headers, ("ETag", etag)], [body], etag)


def _is_everybodys(environ: dict[str, Any]) -> bool:
    if environ["REQUEST_METHOD"] != "GET" or not settings.CATALOGUE_CACHE_SECONDS:
        return False
    if settings.SECURE_SSL_REDIRECT and environ["wsgi.url_scheme"] != "https":
        return False
    if not _is_ours(environ.get("HTTP_HOST", ""), tuple(settings.ALLOWED_HOSTS)):
        return False
    path: str = environ["PATH_INFO"]
    if ADDRESS.fullmatch(path) is None:
        return False
    if not path.startswith(API) and ("HTTP_COOKIE" in environ or "HTTP_HX_REQUEST" in environ):
        return False
    query = environ.get("QUERY_STRING", "")
    if not query:
        return True
    return len(query) <= LONGEST_QUERY and PARAMETERS.issuperset(name for name, _ in parse_qsl(query, True))


@lru_cache(maxsize=100)
def _is_ours(host: str, allowed: tuple[str, ...]) -> bool:
    """Whether Django would answer to this name."""
    return validate_host(split_domain_port(host)[0], allowed)


def _visitors_token() -> tuple[bytes, str]:
    """A new visitor's token, and the cookie that it belongs to."""
    request = HttpRequest()
    token = get_token(request)
    response = HttpResponse()
    response.set_cookie(
        settings.CSRF_COOKIE_NAME,
        request.META["CSRF_COOKIE"],
        max_age=settings.CSRF_COOKIE_AGE,
        domain=settings.CSRF_COOKIE_DOMAIN,
        path=settings.CSRF_COOKIE_PATH,
        secure=settings.CSRF_COOKIE_SECURE,
        httponly=settings.CSRF_COOKIE_HTTPONLY,
        samesite=settings.CSRF_COOKIE_SAMESITE,
    )
    return token.encode(), response.cookies[settings.CSRF_COOKIE_NAME].OutputString()
