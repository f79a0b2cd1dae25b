"""The OpenAPI document is complete, is served without anybody else's server, and is what the API does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import schemathesis
from django.contrib.staticfiles import finders
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections
from django.test import Client
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.generation.case import Case

from eventing.testing import drain
from tests.integration.shop_api import Api, stock_the_shop

pytestmark = [pytest.mark.once, pytest.mark.django_db(databases="__all__")]

OPERATIONS = {
    ("post", "/api/v1/token"),
    ("get", "/api/v1/products"),
    ("get", "/api/v1/products/{sku}"),
    ("post", "/api/v1/orders"),
    ("get", "/api/v1/orders"),
    ("get", "/api/v1/orders/{number}"),
    ("get", "/api/v1/orders/{number}/events"),
    ("post", "/api/v1/orders/{number}/pay"),
    ("post", "/api/v1/orders/{number}/cancel"),
}
EXAMPLES = 40  # of each operation


@pytest.fixture
def document(client: Client) -> dict[str, Any]:
    response = client.get("/api/v1/openapi.json")
    assert response.status_code == 200
    body: dict[str, Any] = response.json()
    return body


def test_the_document_has_every_operation(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    assert {(method, path) for path, methods in document["paths"].items() for method in methods} == OPERATIONS


def test_every_operation_can_answer_with_a_problem_and_only_browsing_needs_no_token(document: dict[str, Any]) -> None:
    for path, methods in document["paths"].items():
        for operation in methods.values():
            assert {"4XX", "5XX"} <= set(operation["responses"])
            assert ("security" in operation) == path.startswith("/api/v1/orders")


def test_orders_need_an_idempotency_key_and_say_where_they_are(document: dict[str, Any]) -> None:
    operation = document["paths"]["/api/v1/orders"]["post"]
    [parameter] = operation["parameters"]
    assert (parameter["in"], parameter["name"], parameter["required"]) == ("header", "Idempotency-Key", True)
    assert "Location" in operation["responses"]["202"]["headers"]


def test_the_documentation_needs_no_server_but_ours(client: Client) -> None:
    page = client.get("/api/v1/docs").content.decode()
    assert re.findall(r"https?:|[\"'(]//", page) == []
    addresses = re.findall(r"(?:src|href)=\"([^\"]+)\"", page)
    assert any(address.endswith(".js") for address in addresses)
    assert any(address.endswith(".css") for address in addresses)
    for address in addresses:
        assert finders.find(address.removeprefix("/static/")), address
    found = re.search(r"id=\"swagger-settings\">(.*?)</script>", page, re.DOTALL)
    assert found is not None
    swagger = json.loads(found[1])
    assert swagger["url"] == "/api/v1/openapi.json"
    assert swagger["validatorUrl"] is None


@contextmanager
def kept_connections() -> Iterator[None]:
    """Requests that come through WSGI leave the test's transaction open, as those of Django's client do."""
    signals = (request_started, request_finished)
    for signal in signals:
        signal.disconnect(close_old_connections)
    try:
        yield
    finally:
        for signal in signals:
            signal.connect(close_old_connections)


@pytest.mark.slow  # all cases together
@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode), ids=str)
@pytest.mark.parametrize(("method", "path"), sorted(OPERATIONS))
def test_the_api_does_what_its_document_says(
    db: None, method: str, path: str, mode: schemathesis.GenerationMode
) -> None:
    """No server error, and statuses, types and shapes as documented, for what the document allows and for what not."""
    stock_the_shop()
    api = Api.of("ann")
    number = api.place(("BOOK", 1))
    drain()
    with kept_connections():
        document = schemathesis.openapi.from_wsgi("/api/v1/openapi.json", get_wsgi_application())
        # A cursor is opaque: its schema also allows texts that the API has never given out.
        document.config.checks.positive_data_acceptance.enabled = False
        document.config.generation.allow_extra_parameters = False  # those of a query that nobody knows are ignored
        operation = document[path][method]
        cases = operation.as_strategy(mode)
        if path.startswith("/api/v1/orders/{number}") and mode is schemathesis.GenerationMode.POSITIVE:
            cases |= operation.as_strategy(mode, path_parameters={"number": number})

        @given(case=cases)
        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def holds(case: Case) -> None:
            case.call_and_validate(headers=api.headers(None, {}))

        holds()
