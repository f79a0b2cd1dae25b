"""The API's errors as RFC 9457 problem details. A problem's `code` is stable; its texts may change."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from django.http import HttpRequest, HttpResponse
from ninja.errors import ValidationError
from pydantic import BaseModel

from values.errors import RuleError

MEDIA_TYPE = "application/problem+json"
MAX_SHOWN = 100  # characters of what was sent, in an answer
MAX_ERRORS = 20  # of one request; who sends more finds the rest after mending these

# The answer's status for each code. What is not named here is a business rule that refused a well-formed request.
RULE_BROKEN = 422
STATUSES: dict[str, int] = {
    "bad_request": 400,
    "malformed_json": 400,
    "invalid_cursor": 400,
    "missing_idempotency_key": 400,
    "invalid_idempotency_key": 400,
    "not_authenticated": 401,
    "invalid_credentials": 401,
    "invalid_token": 401,
    "token_expired": 401,
    "forbidden": 403,
    "not_found": 404,
    "product_not_found": 404,
    "order_not_found": 404,
    "method_not_allowed": 405,
    "body_too_large": 413,
    "invalid_request": 422,
    # What the order, or its payment, does not allow as it stands.
    "already_confirmed": 409,
    "already_paid": 409,
    "already_shipped": 409,
    "cannot_cancel_paid": 409,
    "cannot_cancel_shipped": 409,
    "cannot_refund_shipped": 409,
    "conflict": 409,
    "idempotency_in_flight": 409,
    "not_reserved": 409,
    "not_yet_confirmed": 409,
    "not_yet_paid": 409,
    "not_yet_shipped": 409,
    "order_already_paid": 409,
    "order_already_placed": 409,
    "order_closed": 409,
    "payment_in_progress": 409,
    "payment_mismatch": 409,
    "payment_not_due": 409,
    "internal_error": 500,
    "overloaded": 503,
    "unavailable": 503,
}
_HEADERS = {
    "not_authenticated": {"WWW-Authenticate": "Bearer"},
    "invalid_token": {"WWW-Authenticate": 'Bearer error="invalid_token"'},
    "token_expired": {"WWW-Authenticate": 'Bearer error="invalid_token", error_description="expired"'},
    "invalid_credentials": {"WWW-Authenticate": "Bearer"},
    "idempotency_in_flight": {"Retry-After": "1"},
    "overloaded": {"Retry-After": "5"},
    "unavailable": {"Retry-After": "5"},
}
_OF_STATUS = {
    400: ("bad_request", "The request cannot be understood."),
    403: ("forbidden", "This is not allowed."),
    404: ("not_found", "There is nothing at this address."),
    405: ("method_not_allowed", "This address does not take this method."),
    413: ("body_too_large", "The body is too large."),
    500: ("internal_error", "Something went wrong on our side; it was reported."),
    503: ("unavailable", "The service cannot answer at the moment; try again."),
}


class FieldError(BaseModel):
    """What is wrong with one part of a request: `pointer` is a JSON pointer into the body, or a parameter's name."""

    location: str
    pointer: str
    code: str
    detail: str


class ProblemDetails(BaseModel):
    """Why a request was refused (RFC 9457). Programs go by `code`, people read `detail`."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    errors: list[FieldError] | None = None


class Problem(Exception):
    """Ends a request of the API with this code and detail."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


def respond(code: str, detail: str, *, errors: Sequence[Mapping[str, str]] = ()) -> HttpResponse:
    """The answer for a problem; its status is that of the code in `STATUSES`."""
    status = STATUSES.get(code, RULE_BROKEN)
    body: dict[str, Any] = {
        "type": f"urn:wharf:problem:{code}",
        "title": code.replace("_", " ").capitalize(),
        "status": status,
        "code": code,
        "detail": detail,
    }
    if errors:
        body["errors"] = errors
    return HttpResponse(
        msgspec.json.encode(body), status=status, content_type=MEDIA_TYPE, headers=_HEADERS.get(code, {})
    )


def respond_to_error(request: HttpRequest, error: Problem | RuleError) -> HttpResponse:
    """The answer for an error that has a code: a Problem or what a context refused."""
    return respond(error.code, str(error))


def respond_to_invalid(request: HttpRequest, error: ValidationError) -> HttpResponse:
    """The answer for a request of the wrong shape, naming what is wrong with which part.

    An address that names nothing possible is one at which nothing is; a header has a code of its own.
    """
    locations = {item["loc"][0] for item in error.errors}
    if "path" in locations:
        return respond_to_status(404)
    errors = list(_field_errors(error.errors))
    for item in error.errors:
        if item["loc"][0] == "header":
            name = str(item["loc"][-1])
            code = name.replace("-", "_").lower()
            if item["type"] == "missing":
                return respond(f"missing_{code}", f"Send the header {name}.", errors=errors)
            return respond(f"invalid_{code}", f"The header {name}: {item['msg']}.", errors=errors)
    return respond("invalid_request", f"{errors[0]['pointer']}: {errors[0]['detail']}.", errors=errors)


def respond_to_unknown_parameters(unknown: Sequence[str], known: Collection[str]) -> HttpResponse:
    """The answer for parameters of a query that the address does not have."""
    there = f"It has {', '.join(sorted(known))}" if known else "It has none"
    errors = [
        {
            "location": "query",
            "pointer": name[:MAX_SHOWN],
            "code": "unknown_parameter",
            "detail": f"There is no such parameter. {there}",
        }
        for name in unknown[:MAX_ERRORS]
    ]
    return respond("invalid_request", f"{errors[0]['pointer']}: {errors[0]['detail']}.", errors=errors)


def respond_to_status(status: int) -> HttpResponse:
    """The answer for an error of which only the status is known."""
    code, detail = _OF_STATUS.get(status, _OF_STATUS[500 if status >= 500 else 400])
    return respond(code, detail)


def _field_errors(errors: Iterable[Mapping[str, Any]]) -> Iterable[dict[str, str]]:
    for error in list(errors)[:MAX_ERRORS]:
        location, _, *inside = error["loc"]  # the second part is our own name for the whole
        name = "".join(f"/{part}" for part in inside) or "/" if location == "body" else str(error["loc"][-1])
        yield {"location": location, "pointer": name, "code": error["type"], "detail": error["msg"]}
