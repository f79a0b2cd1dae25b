"""What every request goes through: complete answers, a limit of bodies, errors of the API in one form, and a polite
answer while a database is away."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable

import structlog
from django.conf import settings
from django.contrib.sessions.middleware import SessionMiddleware
from django.http import HttpRequest, HttpResponse
from django.views import defaults

from api import problems
from config import answers
from config.answers import API
from eventing.transient import is_transient

SESSION_KEY = re.compile(r"[a-z0-9]{8,40}")

logger = structlog.get_logger(__name__)

GetResponse = Callable[[HttpRequest], HttpResponse]


class Sessions(SessionMiddleware):
    """Django's sessions. What cannot be the key of a session is no question for a database."""

    def process_request(self, request: HttpRequest) -> None:
        if SESSION_KEY.fullmatch(request.COOKIES.get(settings.SESSION_COOKIE_NAME, "")) is None:
            request.COOKIES.pop(settings.SESSION_COOKIE_NAME, None)
        super().process_request(request)


class ApiProblems:
    """Under /api/ every error is a problem, whoever answered it (an unknown address, a wrong method, …)."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if not request.path.startswith(API) or response.status_code < 400:
            return response
        if response.headers.get("Content-Type") == problems.MEDIA_TYPE:
            return response
        problem = problems.respond_to_status(response.status_code)
        if allowed := response.headers.get("Allow"):
            problem.headers["Allow"] = allowed + ", HEAD" if "GET" in allowed and "HEAD" not in allowed else allowed
        return problem


class Answers:
    """Outermost: every answer has the headers of its kind (see config.answers), whoever gave it.

    HEAD is asked as GET, here as well as before Django (config.edge), so that a test's client sees the same.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.method == "HEAD":
            request.method = "GET"
        answers.identify(request.META)
        response = self.get_response(request)
        answers.complete(request, response)
        return response


class BodyLimit:
    """Refuses a body that is longer than any that the shop takes, before a byte of it is read."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        length = request.META.get("CONTENT_LENGTH") or "0"
        if length.isdecimal() and int(length) > settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
            return answers.refusal(request.path, 413)
        return self.get_response(request)


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
    return answers.refusal(request.path, 503)
