"""An error is true for the one who reads it, and what the API does not know it refuses instead of ignoring it."""

from __future__ import annotations

import re
from typing import Any

import pytest

from api.root import api as application
from eventing.testing import drain
from orders import handlers as orders
from orders.commands import RefundOrder
from payments.models import Payment
from sharding import numbers
from tests.integration.shop_api import METADATA, Api, assert_problem, stock_the_shop

pytestmark = [pytest.mark.once, pytest.mark.django_db(databases="__all__")]

DOCUMENT: dict[str, Any] = application.get_openapi_schema(path_prefix="/")
OPERATIONS = [(method, path) for path, methods in DOCUMENT["paths"].items() for method in methods]


@pytest.fixture
def api(db: None) -> Api:
    stock_the_shop()
    return Api.of("ann")


@pytest.mark.parametrize("method, path", OPERATIONS)
def test_no_operation_ignores_an_unknown_parameter(api: Api, method: str, path: str) -> None:
    address = re.sub(r"\{\w+\}", "BOOK", path).removeprefix("/")
    call = getattr(api.client, method)
    answer = call(f"/api/v1/{address}?status=paid&colour=red", headers=api.headers(None, {}))
    problem = assert_problem(answer, 422, "invalid_request")
    assert [(error["location"], error["pointer"], error["code"]) for error in problem["errors"]] == [
        ("query", "status", "unknown_parameter"),
        ("query", "colour", "unknown_parameter"),
    ]


def test_a_customer_is_told_what_a_customer_can_do(api: Api) -> None:
    number = api.place(("BOOK", 1))
    drain()
    api.post(f"/orders/{number}/pay", {"payment_token": "tok_ok"})
    drain()
    paid = assert_problem(api.post(f"/orders/{number}/cancel"), 409, "cannot_cancel_paid")
    assert paid["detail"] == "The order is paid and can no longer be cancelled."
    assert_problem(api.post(f"/orders/{number}/pay", {"payment_token": "tok_ok"}), 409, "already_paid")

    orders.handle(RefundOrder(order_id=numbers.parse(number), at=Payment.objects.get().requested_at), METADATA)
    drain()
    refunded = assert_problem(api.post(f"/orders/{number}/pay", {"payment_token": "tok_ok"}), 409, "already_paid")
    assert refunded["detail"] == "This order has been paid already."
