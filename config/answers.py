"""The headers of every answer, by its kind: one table for what Django answers and for what is answered before it.

A header that an answer has already stays as it is; see docs/reference/operations.md for the table in words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string

from api import problems
from eventing.transient import RETRY_SECONDS

API = "/api/"
CATALOGUE = "/api/v1/products"
ADMIN = "/admin/"
PERSONAL = "private, no-store"
WITHOUT_BODY = (204, 304)
REQUEST_ID = "HTTP_X_REQUEST_ID"
REQUEST_ID_FORM = re.compile(r"[A-Za-z0-9._-]{1,64}")


def _policy(**exceptions: str) -> str:
    """A policy under which a page may load what the shop serves, and nothing else but the exceptions."""
    sources = {
        "default-src": "'self'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data:",
        "object-src": "'none'",
        "base-uri": "'none'",
        "form-action": "'self'",
        "frame-ancestors": "'none'",
    }
    sources |= {name.replace("_", "-"): value for name, value in exceptions.items()}
    return "; ".join(f"{name} {value}" for name, value in sources.items())


SHOP_POLICY = _policy()
# Alpine, with which Unfold's pages are made, turns attributes into functions and writes styles into the page. Scripts
# within the page are not run here either.
ADMIN_POLICY = _policy(script_src="'self' 'unsafe-eval'", style_src="'self' 'unsafe-inline'")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """`cache` is who may keep the answer, `vary` which headers of the request it depends on."""

    cache: str | None
    vary: str = ""
    policy: str = SHOP_POLICY


STATIC = Kind(cache=None)  # WhiteNoise says how long: the names of most files change with their content
CATALOGUE_ANSWER = Kind(cache="no-cache")  # the same for everybody, asked again by its ETag
API_ANSWER = Kind(cache=PERSONAL, vary="Authorization")
PAGE = Kind(cache=PERSONAL, vary="Cookie, HX-Request")  # with the cart, the name, or a token against forged requests
ADMIN_PAGE = Kind(cache=PERSONAL, vary="Cookie, HX-Request", policy=ADMIN_POLICY)
ERROR = Kind(cache=PERSONAL)

EVERY_ANSWER = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}


def identify(environ: dict[str, Any]) -> None:
    """Give a request its id, by which it is found in the logs: its own if that has the form of one."""
    if REQUEST_ID_FORM.fullmatch(environ.get(REQUEST_ID, "")) is None:
        environ[REQUEST_ID] = str(uuid4())


def kind_of(path: str, status: int) -> Kind:
    if path.startswith(ADMIN):
        return ADMIN_PAGE
    if status >= 400:
        return ERROR
    if path.startswith(settings.STATIC_URL):
        return STATIC
    if path.startswith(CATALOGUE):
        return CATALOGUE_ANSWER
    return API_ANSWER if path.startswith(API) else PAGE


def missing(environ: Mapping[str, Any], status: int, present: Mapping[str, str]) -> dict[str, str]:
    """The headers that this answer still needs; `present` are those that it has, by their names in lower case.

    The value of Vary is the whole one, with what is present.
    """
    kind = kind_of(environ.get("PATH_INFO", ""), status)
    wanted = EVERY_ANSWER | {"Content-Security-Policy": kind.policy, "X-Request-ID": environ.get(REQUEST_ID, "")}
    if kind.cache:
        wanted["Cache-Control"] = kind.cache
    if settings.SECURE_HSTS_SECONDS and environ.get("wsgi.url_scheme") == "https":
        wanted["Strict-Transport-Security"] = f"max-age={settings.SECURE_HSTS_SECONDS}; includeSubDomains; preload"
    found = {name: value for name, value in wanted.items() if name.lower() not in present}
    varies = [name.strip() for name in present.get("vary", "").split(",") if name.strip()]
    further = [name for name in kind.vary.split(", ") if name and name.lower() not in map(str.lower, varies)]
    if further and "*" not in varies and "public" not in present.get("cache-control", ""):
        found["Vary"] = ", ".join([*varies, *further])
    return found


def complete(request: HttpRequest, response: HttpResponse) -> None:
    """Give an answer of Django the headers that it needs."""
    present = {name.lower(): value for name, value in response.headers.items()}
    for name, value in missing(request.META, response.status_code, present).items():
        response.headers[name] = value
    if not response.streaming and response.status_code not in WITHOUT_BODY:
        response.headers.setdefault("Content-Length", str(len(response.content)))


def refusal(path: str, status: int) -> HttpResponse:
    """The answer for an error of which only the status is known, in the form of the API or as a page."""
    if path.startswith(API):
        return problems.respond_to_status(status)
    # Without the request: a context processor would ask the database who is signed in.
    page = HttpResponse(render_to_string(f"{status}.html"), status=status)
    if status == 503:
        page.headers["Retry-After"] = str(RETRY_SECONDS)
    return page
