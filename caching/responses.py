"""The response cache: answers that are the same for every visitor, kept as bytes and sent before Django is asked.

Only for GET, and for pages only without a cookie, so that nothing personal is kept. Answers other than 200, or with a
cookie of their own, are not kept. What comes from here has been through all middlewares a moment ago (see
caching.two_level).

The forms of a page carry a token against forged requests, which is each visitor's own (django.middleware.csrf). Pages
are kept with a placeholder, and get the visitor's token, with its cookie, when they are sent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
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

from caching import two_level
from caching.two_level import TwoLevelCache

Headers = list[tuple[str, str]]
Start = Callable[..., Any]
Application = Callable[[dict[str, Any], Start], Iterable[bytes]]

LONGEST_QUERY = 200

TOKEN = re.compile(rb'(name="csrfmiddlewaretoken" value=")[A-Za-z0-9]+(")')
NOBODY = "0" * 32  # a well-formed secret, which no visitor is given


class Answer(msgspec.Struct, frozen=True):
    """Of an API request `pieces` is the body; of a page they are what stands between the tokens."""

    headers: Headers
    pieces: list[bytes]
    etag: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cacheable:
    """Addresses whose answers are the same for every visitor.

    `address` is the form of their paths, which is part of a key, so it fits only what there can be. `parameters` may
    stand in the query: with any other one a request would only fill the memory. `pages` have forms, and are kept for
    visitors without cookies only. `of_product` is the address that shows one product, by its SKU.
    """

    address: re.Pattern[str]
    parameters: frozenset[str]
    of_product: Callable[[str], str]
    pages: bool


class ResponseCache:
    """The WSGI application before `application`. An answer is `seconds()` old at most, 0 turns the cache off.

    The page of a product is evicted as soon as the cache named "product" evicts the product.
    """

    def __init__(
        self, application: Application, cacheable: Sequence[Cacheable], *, seconds: Callable[[], float]
    ) -> None:
        self._application = application
        self._cacheable = cacheable
        self._seconds = seconds
        self._answers: TwoLevelCache[Answer] = TwoLevelCache("answers", Answer, seconds=seconds, entries=500)
        two_level.on_evict("product", self._evict)

    def _evict(self, skus: Collection[str]) -> None:
        """These products have changed. Lists of them stay until their time is over."""
        self._answers.evict([f"{each.of_product(sku)}?" for sku in skus for each in self._cacheable])

    def __call__(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        cacheable = self._rule_for(environ)
        if cacheable is None:
            return self._application(environ, start)
        key = f"{environ['PATH_INFO']}?{environ.get('QUERY_STRING', '')}"
        answer = self._answers.get(key, partial(self._load, environ, cacheable.pages))
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

    def _rule_for(self, environ: dict[str, Any]) -> Cacheable | None:
        """What makes the answer to this request the same for every visitor, if it is."""
        if environ["REQUEST_METHOD"] != "GET" or not self._seconds():
            return None
        if settings.SECURE_SSL_REDIRECT and environ["wsgi.url_scheme"] != "https":
            return None
        if not _is_ours(environ.get("HTTP_HOST", ""), tuple(settings.ALLOWED_HOSTS)):
            return None
        rule = next((each for each in self._cacheable if each.address.fullmatch(environ["PATH_INFO"])), None)
        if rule is None or (rule.pages and ("HTTP_COOKIE" in environ or "HTTP_HX_REQUEST" in environ)):
            return None
        query = environ.get("QUERY_STRING", "")
        if query and (
            len(query) > LONGEST_QUERY or not rule.parameters.issuperset(n for n, _ in parse_qsl(query, True))
        ):
            return None
        return rule

    def _load(self, environ: dict[str, Any], is_page: bool) -> Answer | None:
        """Django's answer to an anonymous visitor; None if it is not the same for every visitor."""
        started: list[tuple[str, Headers]] = []
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
        # The id is this request's alone, and Django repeats the cookie whose token it has written into the page.
        headers = [(name, value) for name, value in headers if name.lower() != "x-request-id" and NOBODY not in value]
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
