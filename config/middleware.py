"""What every request goes through: errors of the API in one form, what pages may load and run, and a polite answer
while a database is away."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import structlog
from django.contrib.auth import middleware as auth
from django.contrib.messages import middleware as messages
from django.contrib.sessions import middleware as sessions
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.views import defaults
from django_htmx import middleware as htmx

from config import problems
from eventing.transient import is_transient

logger = structlog.get_logger(__name__)

API = "/api/"
ADMIN = "/admin/"
RETRY_SECONDS = 5

GetResponse = Callable[[HttpRequest], HttpResponse]


class _ForPages:
    """Requests of the API pass by: who asks is said by their token, and they have no cookies and no pages."""

    get_response: Any

    def __call__(self, request: HttpRequest) -> Any:
        if request.path.startswith(API):
            return self.get_response(request)
        return super().__call__(request)  # type: ignore[misc]  # that of the middleware that it is mixed into


class Sessions(_ForPages, sessions.SessionMiddleware):
    """Django's sessions, for pages."""


class Authentication(_ForPages, auth.AuthenticationMiddleware):
    """Django's users, for pages."""


class Messages(_ForPages, messages.MessageMiddleware):
    """Django's messages, for pages."""


class Htmx(_ForPages, htmx.HtmxMiddleware):
    """What htmx asks for, for pages."""


class ApiProblems:
    """Outermost: under /api/ every error is a problem, whoever answered it (an unknown address, a wrong method, …)."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if not request.path.startswith(API) or response.status_code < 400:
            return response
        if response.headers.get("Content-Type") == problems.MEDIA_TYPE:
            return response
        problem = problems.respond_to_status(response.status_code)
        if "Allow" in response.headers:
            problem.headers["Allow"] = response.headers["Allow"]
        return problem


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


class ContentSecurityPolicy:
    """Tells browsers to run no script but the shop's own files, so that text which slips into a page stays text."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        policy = ADMIN_POLICY if request.path.startswith(ADMIN) else SHOP_POLICY
        response.headers.setdefault("Content-Security-Policy", policy)
        return response


class DatabaseUnavailable:
    """Innermost: 503 with Retry-After when a view cannot read or write a database that it needs.

    A pool that has no connection to give counts too: Django turns its PoolTimeout into an OperationalError.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        return unavailable(request, exception) if is_transient(exception) else None


def server_error(request: HttpRequest) -> HttpResponse:
    """The answer to what a middleware has raised, such as the one that saves the session. No view saw it."""
    error = sys.exc_info()[1]
    if isinstance(error, Exception) and is_transient(error):
        return unavailable(request, error)
    return defaults.server_error(request)


def unavailable(request: HttpRequest, error: Exception) -> HttpResponse:
    """Try again later: something that the request needs is away or busy."""
    logger.error("database.unavailable", path=request.path, error=str(error), exc_info=error)
    if request.path.startswith(API):
        return problems.respond_to_status(503)
    # Without the request: a context processor would ask the database who is signed in.
    return HttpResponse(render_to_string("503.html"), status=503, headers={"Retry-After": str(RETRY_SECONDS)})
