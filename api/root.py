"""The root of the API: its routers, how its errors are answered, and its OpenAPI document."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any

import msgspec
from django.core.exceptions import RequestDataTooBig, SuspiciousOperation
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from ninja import NinjaAPI, Swagger
from ninja.errors import AuthenticationError, HttpError, ValidationError
from ninja.openapi.schema import OpenAPISchema
from ninja.parser import Parser
from ninja.renderers import BaseRenderer

from api import problems, tokens
from api.catalogue import router as products
from api.orders import router as orders
from eventing.errors import Overloaded, WrongExpectedVersion
from values.errors import RuleError

DESCRIPTION = """
Browse products, place orders, follow and pay them. Amounts are whole numbers of minor units (cents).

Get a token from `POST token` and send it as `Authorization: Bearer …`. An order is accepted at once (202) and
confirmed, or rejected, a moment later: follow its `Location`. Errors are RFC 9457 problem details with a stable `code`.
"""


class JSONParser(Parser):
    """Takes what RFC 8259 calls JSON and nothing else: UTF-8, no NaN, no lone surrogates."""

    def parse_body(self, request: HttpRequest) -> Any:
        return msgspec.json.decode(request.body)


class JSONRenderer(BaseRenderer):
    media_type = "application/json"

    def render(self, request: HttpRequest, data: Any, *, response_status: int) -> bytes:
        return msgspec.json.encode(data)


class Documentation(Swagger):
    """Its page, with scripts that come from here although ninja is none of the applications (see the settings)."""

    def render_page(self, request: HttpRequest, api: NinjaAPI, **kwargs: Any) -> HttpResponse:
        settings = {**self.settings, "url": self.get_openapi_url(api, kwargs)}
        return render(request, self.template, {"swagger_settings": json.dumps(settings), "api": api})


class API(NinjaAPI):
    def get_openapi_schema(self, **kwargs: Any) -> OpenAPISchema:
        """The document, in which every operation can also answer with a problem."""
        document = super().get_openapi_schema(**kwargs)
        schema = problems.ProblemDetails.model_json_schema(ref_template="#/components/schemas/{model}")
        document["components"]["schemas"] |= schema.pop("$defs") | {"ProblemDetails": schema}
        document["components"]["responses"] = {
            "Problem": {
                "description": "A problem; programs go by its `code`.",
                "content": {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}},
            }
        }
        for path in document["paths"].values():
            for operation in path.values():
                operation["responses"] |= {
                    status: {"$ref": "#/components/responses/Problem"} for status in ("4XX", "5XX")
                }
        return document


api = API(
    title="Wharf",
    version="1",
    description=DESCRIPTION,
    urls_namespace="api",
    # The page would otherwise ask a server of Swagger's for a badge.
    docs=Documentation(settings={"validatorUrl": None, "persistAuthorization": True}),
    parser=JSONParser(),
    renderer=JSONRenderer(),
)


def only_known_parameters(run: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Refuse a query parameter that the operation does not have: a filter that is misspelt must not look like none."""
    operation: Any = run.__self__  # type: ignore[attr-defined]
    known = {
        name
        for model in operation.models
        if model.__ninja_param_source__ == "query"
        for name in model.__ninja_flatten_map__
    }

    @functools.wraps(run)
    def checked(request: HttpRequest, **path: Any) -> HttpResponse:
        if unknown := [name for name in request.GET if name not in known]:
            return problems.respond_to_unknown_parameters(unknown, known)
        return run(request, **path)

    return checked


api.add_decorator(only_known_parameters, mode="view")
bearer = tokens.Bearer()
api.add_router("", tokens.router)
api.add_router("/products", products)
api.add_router("/orders", orders, auth=bearer)

for error_class in (problems.Problem, RuleError):
    api.exception_handler(error_class)(problems.respond_to_error)
api.exception_handler(ValidationError)(problems.respond_to_invalid)


@api.exception_handler(AuthenticationError)
def without_token(request: HttpRequest, error: AuthenticationError) -> HttpResponse:
    return problems.respond("not_authenticated", "Send a token of `POST token` as `Authorization: Bearer …`.")


@api.exception_handler(HttpError)
def malformed(request: HttpRequest, error: HttpError) -> HttpResponse:
    """django-ninja raises this for a body that the parser does not understand."""
    return problems.respond("malformed_json", f"The body is not JSON: {error.__cause__}.")


@api.exception_handler(RequestDataTooBig)
def too_big(request: HttpRequest, error: RequestDataTooBig) -> HttpResponse:
    return problems.respond_to_status(413)


@api.exception_handler(SuspiciousOperation)
def suspicious(request: HttpRequest, error: SuspiciousOperation) -> HttpResponse:
    return problems.respond_to_status(400)


@api.exception_handler(Http404)
def nothing_there(request: HttpRequest, error: Http404) -> HttpResponse:
    return problems.respond_to_status(404)


@api.exception_handler(WrongExpectedVersion)
def conflict(request: HttpRequest, error: WrongExpectedVersion) -> HttpResponse:
    return problems.respond("conflict", "Others were changing the same thing and were faster; try again.")


@api.exception_handler(Overloaded)
def overloaded(request: HttpRequest, error: Overloaded) -> HttpResponse:
    return problems.respond("overloaded", "More orders come in than can be worked on; try again in a moment.")


@api.exception_handler(Exception)
def unexpected(request: HttpRequest, error: Exception) -> HttpResponse:
    """Leave it to the middleware and to Django, which log it."""
    raise error
