"""What every request goes through: errors of the API in one form, and a polite answer while a database is away."""

from __future__ import annotations

from collections.abc import Callable

import structlog
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string

from config import problems

logger = structlog.get_logger(__name__)

API = "/api/"
RETRY_SECONDS = 5

GetResponse = Callable[[HttpRequest], HttpResponse]


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


class DatabaseUnavailable:
    """Innermost: 503 with Retry-After when a view cannot reach a database that it needs.

    A pool that has no connection to give counts too: Django turns its PoolTimeout into an OperationalError.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        if not isinstance(exception, OperationalError | InterfaceError):
            return None
        logger.error("database.unavailable", path=request.path, error=str(exception), exc_info=exception)
        if request.path.startswith(API):
            return problems.respond_to_status(503)
        # Without the request: a context processor would ask the database who is signed in.
        return HttpResponse(render_to_string("503.html"), status=503, headers={"Retry-After": str(RETRY_SECONDS)})
