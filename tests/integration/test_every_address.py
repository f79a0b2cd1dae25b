"""A random tester over every address of shop, admin and API, as each role: whatever is sent, nobody gets a 5xx.

The same requests each time. `EVERY_ADDRESS=2000` sends so many to each role, and others with `EVERY_ADDRESS_SEED`.
"""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import pytest
from django.contrib.auth.models import Group, User
from django.core.cache import cache
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from api import tokens
from api.root import api
from checkout import service as checkout
from eventing.testing import drain
from sharding import numbers
from tests.factories import CustomerFactory, EmployeeFactory, OperatorFactory
from tests.integration.shop_api import METADATA, stock_the_shop

pytestmark = [pytest.mark.once, pytest.mark.django_db(databases="__all__")]

REQUESTS = int(os.environ.get("EVERY_ADDRESS", "150"))
SEED = os.environ.get("EVERY_ADDRESS_SEED", "wharf")
ROLES = ("anonymous", "shopper", "viewer", "support", "stock", "admin")
# Not answers of ours: what stops the test itself, or asks the broker.
LEFT_OUT = re.compile(r"^(static|media)/")

EXTREMES = [
    "", " ", "0", "-0", "1", "-1", "00", "1e9", "1e999", "NaN", "Infinity", "-Infinity", "0x10", "1_000", "\u0663",
    "\xb2", "2147483647", "2147483648", "-2147483649", "9223372036854775807", "9223372036854775808", "9" * 400, "1.5",
    "0.001", "true", "null", "None", "[]", "{}", "[1]", '{"a": 1}', "\x00", "a\x00b", "\x1f", "\x7f", "\x85",
    "\u2028", "\u202e", "\ud800", "\U0001f4da", "\xe9", "e\u0301", "\u0130", "%", "%00", "%zz", "%ff", "_", "\\", "'",
    '"', "' OR 1=1 --", "<b>", "{{ 7 }}", "../../etc/passwd", "/", "//", "//example.org", "javascript:alert(1)",
    "/sign-in/", "/sign-out/", "0001-01-01", "9999-12-31", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00",
    "2026-02-30", "24:00", "0001-01-01T00:00:00+14:00,1", "9999-12-31T23:59:59.999999-23:59,9223372036854775807",
    "2026-01-01T00:00:00Z,0", "-62135596800000001~1", "253402300800000000~1", "1~1", "0~0", "~", "1~", "~1",
    "x" * 300, "é" * 5000, "MA", "W10", "WyJhIiwiQk9PSyJd", "eyJhIjoxfQ", "OTk5OTk5OTk5OTk5OTk5OTk5OTk5", "====",
    "0" * 13, "Z" * 13, "7ZZZZZZZZZZZZ", "order-0000000000001@1", "order-7ZZZZZZZZZZZZ@99999999999999999999", "@",
    "a@b", "default", "orders_0", "placed", "BOOK", "TEN",
]  # fmt: skip
NAMES = [
    "q", "p", "o", "e", "all", "before", "after", "next", "cursor", "limit", "sort", "category", "sku", "status",
    "since", "until", "seen", "quantity", "key", "prices", "coupon", "name", "city", "country", "token", "action",
    "username", "password", "customer", "shard", "bucket", "stream", "type", "reason", "rate", "page", "format", "id",
    "id__in", "status__exact", "kind__exact", "active__exact", "category__id__exact", "stock", "_popup", "_to_field",
    "_changelist_filters", "_facets", "is_staff__exact", "username__startswith", "order_id", "price", "description",
    "at", "data", "metadata", "schema_version", "index", "select_across", "_selected_action", "tracking",
    "payment_due_at", "app_label", "model_name", "field_name", "term", "csrfmiddlewaretoken", "lines", "ship_to",
    "payment_token", "version", "event", "subscriber", "error",
]  # fmt: skip
BODIES = [b"", b"null", b"[]", b"\xff", b'{"lines": [{"sku": "BOOK", "quantity": 1e400}]}']


def addresses() -> list[str]:
    """The address of every page, with `{}` for what varies in it."""

    def walk(patterns: Any, before: str) -> Iterator[str]:
        for pattern in patterns:
            text = before + str(pattern.pattern)
            if isinstance(pattern, URLResolver):
                yield from walk(pattern.url_patterns, text)
            elif isinstance(pattern, URLPattern):
                yield (
                    re.sub(r"\(\?P<\w+>[^)]*\)|<[^>]+>", "{}", text)
                    .replace("^", "")
                    .replace("$", "")
                    .replace("\\Z", "")
                    .replace("\\", "")
                )

    return sorted({f"/{address}" for address in walk(get_resolver().url_patterns, "") if not LEFT_OUT.match(address)})


@pytest.fixture(scope="module")
def world(shared_databases: None) -> dict[str, Any]:
    """A small shop with an order in it, and somebody of each role."""
    stock_the_shop()
    people: dict[str, User] = {
        "shopper": CustomerFactory.create(username="shopper", email="s@example.org", password="x")
    }
    for role in ("viewer", "support", "stock"):
        people[role] = EmployeeFactory.create(username=role)
        people[role].groups.set(Group.objects.filter(name=role))
    people["admin"] = OperatorFactory.create(username="admin")
    order = checkout.place(people["shopper"].pk, [("BOOK", 1)], "TEN", key="k", metadata=METADATA).order_id
    drain()
    return {"people": people, "number": numbers.to_text(order)}


@pytest.mark.parametrize("role", ROLES)
def test_nothing_that_anybody_sends_to_any_address_is_a_5xx(world: dict[str, Any], role: str) -> None:
    chance = random.Random(f"{SEED} {role}")
    client = Client(raise_request_exception=False)
    user = world["people"].get(role)
    headers = {}
    if user is not None:
        client.force_login(user)
        headers["Authorization"] = f"Bearer {tokens.issue(user.pk, datetime.now(UTC))}"
    pages = addresses()
    assert len(pages) > 100
    values = [*EXTREMES, world["number"], *(str(person.pk) for person in world["people"].values())]
    failed: list[str] = []
    for number in range(REQUESTS):
        if not number % 50:
            cache.clear()  # the bounds of attempts
            if user is not None:
                client.force_login(user)
        address = pages[(number + chance.randrange(len(pages))) % len(pages)]
        path = re.sub(r"\{\}", lambda _: quote(chance.choice(values), safe="", errors="surrogatepass"), address)
        fields = {chance.choice(NAMES): chance.choice(values) for _ in range(chance.randrange(4))}
        query = "&".join(f"{name}={quote(value, safe='', errors='surrogatepass')}" for name, value in fields.items())
        sent = f"{path}?{query}"
        method = chance.choice(("get", "get", "get", "head", "post", "post", "put", "delete"))
        if method in ("post", "put"):
            form = {chance.choice(NAMES): chance.choice(values) for _ in range(chance.randrange(6))}
            if chance.random() < 0.5 or "/api/" in path:
                body = chance.choice((json.dumps(form).encode(), *BODIES))
                answer = getattr(client, method)(sent, body, content_type="application/json", headers=headers)
            else:
                clean = {name: value.encode("utf-8", "replace").decode() for name, value in form.items()}
                answer = getattr(client, method)(sent, clean if method == "post" else b"", headers=headers)
        else:
            answer = getattr(client, method)(sent, headers=headers)
        if answer.status_code >= 500:
            failed.append(f"{method} {sent[:300]!r}: {answer.status_code} {getattr(answer, 'exc_info', None)}")
    assert failed == []


@pytest.mark.parametrize(
    "address, status",
    [
        ("/sign-in/?next=/sign-in/", 302),
        ("/register/?next=/register/", 302),
        ("/inbox/?before=0001-01-01T00:00:00%2B14:00,1", 404),
        ("/inbox/?before=9999-12-31T23:59:59-14:00,1", 404),
        ("/inbox/?before=2026-01-01T00:00:00,1", 404),
        ("/?q=%00", 200),
        ("/?category=%00", 404),
        ("/?sort=price&after=%D9%A3&sku=BOOK", 200),
    ],
)
def test_addresses_that_failed_are_answered(world: dict[str, Any], address: str, status: int) -> None:
    client = Client()
    client.force_login(world["people"]["shopper"])
    assert client.get(address).status_code == status


def test_the_api_has_no_operation_that_is_no_address() -> None:
    written = {re.sub(r"\{\w+\}", "{}", path) for path in api.get_openapi_schema(path_prefix="/api/v1/")["paths"]}
    assert written <= set(addresses())
