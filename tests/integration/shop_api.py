"""A customer who talks to the API, a small shop to talk about, and what has been written in all databases."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any
from uuid import uuid4

from django.apps import apps
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connections, router
from django.http import HttpResponse
from django.test import Client

from api import tokens
from eventing.recorded import Metadata
from tests.factories import CouponFactory, CustomerFactory, ProductFactory

PASSWORD = "correct horse battery staple"
METADATA = Metadata(correlation_id="test")
WATCHED = ("eventing", "orders", "inventory", "coupons", "payments", "notifications")


def stock_the_shop() -> None:
    """BOOK (10.00), PEN (2.50) and LAMP (30.00), and a coupon TEN of ten percent."""
    for sku, name, price in (("BOOK", "A book", 1000), ("PEN", "A pen", 250), ("LAMP", "A lamp", 3000)):
        ProductFactory.create(sku=sku, name=name, price=price, pieces=1000)
    CouponFactory.create()


@dataclass
class Api:
    """A customer's client. Every request carries the token, unless it says otherwise."""

    customer: User
    client: Client = field(default_factory=Client)

    @classmethod
    def of(cls, username: str, **fields: Any) -> Api:
        """A new customer, who has no password unless the test sets one: hashing takes its time."""
        return cls(CustomerFactory.create(username=username, **fields))

    def set_password(self) -> None:
        self.customer.set_password(PASSWORD)
        self.customer.save()

    @cached_property
    def token(self) -> str:
        return tokens.issue(self.customer.pk, datetime.now(UTC))

    def headers(self, token: str | None, more: dict[str, str]) -> dict[str, str]:
        token = self.token if token is None else token
        return ({"Authorization": f"Bearer {token}"} if token else {}) | more

    def get(self, path: str, *, token: str | None = None, **query: Any) -> Any:
        """GET below /api/v1; a token of "" sends none."""
        return self.client.get(f"/api/v1{path}", query, headers=self.headers(token, {}))

    def post(self, path: str, body: Any = None, *, token: str | None = None, **headers: str) -> Any:
        """POST below /api/v1; a body of bytes is sent as it is."""
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.post(
            f"/api/v1{path}", data, content_type="application/json", headers=self.headers(token, more)
        )

    def order(self, body: Any, *, key: str | None = None, token: str | None = None) -> Any:
        return self.post("/orders", body, token=token, Idempotency_Key=key or uuid4().hex)

    def place(self, *wanted: tuple[str, int], coupon: str | None = None) -> str:
        """Place an order and return its number."""
        body: dict[str, Any] = {"lines": [{"sku": sku, "quantity": quantity} for sku, quantity in wanted]}
        if coupon is not None:
            body["coupon"] = coupon
        response = self.order(body)
        assert response.status_code == 202, response.content
        return str(response.json()["number"])


def rows() -> dict[tuple[str, str], int]:
    """How many rows there are: events, orders, outbox and everything else, in every database."""
    models = [model for label in WATCHED for model in apps.get_app_config(label).get_models()]
    found: dict[tuple[str, str], int] = {}
    for alias in settings.DATABASES:
        here = [model for model in models if router.allow_migrate_model(alias, model)]
        with connections[alias].cursor() as cursor:
            cursor.execute("SELECT " + ", ".join(f"(SELECT count(*) FROM {model._meta.db_table})" for model in here))
            labels = [(alias, model._meta.label) for model in here]
            found |= dict(zip(labels, cursor.fetchone(), strict=True))
    return found


def assert_problem(response: HttpResponse, status: int, code: str) -> dict[str, Any]:
    """The answer is a problem of exactly this kind, in the form of RFC 9457; returns its body."""
    assert (response.status_code, response.headers["Content-Type"]) == (status, "application/problem+json"), (
        response.content
    )
    body: dict[str, Any] = json.loads(response.content)
    assert body["code"] == code, body
    assert set(body) - {"errors"} == {"type", "title", "status", "code", "detail"}
    assert body["status"] == status
    assert body["type"] == f"urn:wharf:problem:{code}"
    assert body["title"]
    assert body["detail"]
    return body
