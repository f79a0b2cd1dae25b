"""What the API refuses: each with a clear problem and a stable code, and nothing written anywhere."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Callable
from copy import copy
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from django.conf import settings
from django.contrib.auth.models import User
from pytest_django.fixtures import Settings

from api import tokens
from coupons import handlers as coupons
from coupons.domain import Kind
from eventing.testing import drain
from inventory.models import Product
from orders import handlers as orders
from orders.commands import DeliverOrder, RefundOrder, ShipOrder
from sharding import numbers
from tests.factories import CustomerFactory
from tests.integration.shop_api import METADATA, PASSWORD, Api, assert_problem, rows, stock_the_shop

pytestmark = [pytest.mark.once, pytest.mark.django_db(databases="__all__")]

ONE_BOOK = {"lines": [{"sku": "BOOK", "quantity": 1}]}
NOW = datetime.now(UTC)
LONG = "x" * 100_000


@pytest.fixture(scope="module")
def customer(shared_databases: None) -> User:
    stock_the_shop()
    return CustomerFactory.create(username="ann")


@pytest.fixture
def api(db: None, customer: User) -> Api:
    return Api(copy(customer))


def line(sku: Any, quantity: Any) -> dict[str, Any]:
    return {"lines": [{"sku": sku, "quantity": quantity}]}


SHAPES: dict[str, tuple[Any, str, str]] = {
    # body, pointer of the first error, its code
    "no lines": ({"lines": []}, "/lines", "too_short"),
    "more than 100 lines": ({"lines": ONE_BOOK["lines"] * 101}, "/lines", "too_long"),
    "lines missing": ({}, "/lines", "missing"),
    "lines null": ({"lines": None}, "/lines", "list_type"),
    "lines an object": ({"lines": {"sku": "BOOK", "quantity": 1}}, "/lines", "list_type"),
    "a line that is a number": ({"lines": [1]}, "/lines/0", "model_type"),
    "a line without a quantity": ({"lines": [{"sku": "BOOK"}]}, "/lines/0/quantity", "missing"),
    "quantity 0": (line("BOOK", 0), "/lines/0/quantity", "greater_than_equal"),
    "quantity below 0": (line("BOOK", -1), "/lines/0/quantity", "greater_than_equal"),
    "quantity above 999": (line("BOOK", 1000), "/lines/0/quantity", "less_than_equal"),
    "quantity beyond 64 bits": (line("BOOK", 10**30), "/lines/0/quantity", "less_than_equal"),
    "a fractional quantity": (line("BOOK", 1.5), "/lines/0/quantity", "int_type"),
    "a whole fraction": (line("BOOK", 3.0), "/lines/0/quantity", "int_type"),
    "a quantity in quotes": (line("BOOK", "3"), "/lines/0/quantity", "int_type"),
    "a truth for a quantity": (line("BOOK", True), "/lines/0/quantity", "int_type"),
    "quantity null": (line("BOOK", None), "/lines/0/quantity", "int_type"),
    "an empty sku": (line("", 1), "/lines/0/sku", "string_too_short"),
    "an over-long sku": (line("B" * 41, 1), "/lines/0/sku", "string_too_long"),
    "a sku that is a number": (line(1, 1), "/lines/0/sku", "string_type"),
    "NUL in a sku": (line("BO\x00OK", 1), "/lines/0/sku", "string_pattern_mismatch"),
    "a line break in a sku": (line("BOOK\n", 1), "/lines/0/sku", "string_pattern_mismatch"),
    "an escape in a coupon": (ONE_BOOK | {"coupon": "TEN\x1b"}, "/coupon", "string_pattern_mismatch"),
    "NUL in a coupon": (ONE_BOOK | {"coupon": "\x00"}, "/coupon", "string_pattern_mismatch"),
    "an over-long coupon": (ONE_BOOK | {"coupon": "T" * 41}, "/coupon", "string_too_long"),
    "an empty coupon": (ONE_BOOK | {"coupon": ""}, "/coupon", "string_too_short"),
    "a coupon that is a list": (ONE_BOOK | {"coupon": ["TEN"]}, "/coupon", "string_type"),
    "an unknown field": (ONE_BOOK | {"discount": 1000}, "/discount", "extra_forbidden"),
    "an unknown field of a line": (
        {"lines": [{"sku": "BOOK", "quantity": 1, "unit_price": 1}]},
        "/lines/0/unit_price",
        "extra_forbidden",
    ),
    "lists in lists": (b'{"lines":' + b"[" * 500 + b"]" * 500 + b"}", "/lines/0", "model_type"),
    "a list": ([ONE_BOOK], "/", "model_type"),
    "a text": ("BOOK", "/", "model_type"),
    "null": (b"null", "/", "model_type"),
    "nothing": (b"", "/", "missing"),
}


@pytest.mark.parametrize(("body", "pointer", "error"), SHAPES.values(), ids=SHAPES)
def test_a_body_of_the_wrong_shape_is_422_and_says_what_is_wrong_where(
    api: Api, body: Any, pointer: str, error: str
) -> None:
    before = rows()
    problem = assert_problem(api.order(body), 422, "invalid_request")
    first = problem["errors"][0]
    assert (first["location"], first["pointer"], first["code"]) == ("body", pointer, error)
    assert first["detail"] in problem["detail"]
    assert rows() == before


def test_only_the_first_errors_of_many_are_named(api: Api) -> None:
    body = {"lines": [{"sku": 1, "quantity": "1"}] * 100}
    assert len(assert_problem(api.order(body), 422, "invalid_request")["errors"]) == 20


MALFORMED: dict[str, bytes] = {
    "half an object": b'{"lines": [',
    "not JSON at all": b"lines=1",
    "two values": b"{} {}",
    "single quotes": b"{'lines': []}",
    "NaN": b'{"lines": NaN}',
    "Infinity": b'{"lines": [{"sku": "BOOK", "quantity": Infinity}]}',
    "a number beyond all bounds": b'{"lines": 1e999}',
    "Latin-1": '{"coupon": "ä"}'.encode("latin-1"),
    "UTF-16": json.dumps(ONE_BOOK).encode("utf-16"),
    "a lone surrogate": b'{"coupon": "\\ud800"}',
    "a bare NUL": b"\x00",
    "deeply nested lists": b"[" * 30_000 + b"]" * 30_000,
    "deeply nested objects": b'{"lines":' * 6_500 + b"1" + b"}" * 6_500,
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
def test_a_body_that_is_not_json_is_400(api: Api, body: bytes) -> None:
    before = rows()
    assert_problem(api.order(body), 400, "malformed_json")
    assert rows() == before


def test_a_body_of_more_than_64_kb_is_413(api: Api) -> None:
    before = rows()
    whole = json.dumps(ONE_BOOK | {"coupon": "T" * 64 * 1024}).encode()
    assert_problem(api.order(whole), 413, "body_too_large")
    assert_problem(api.post("/token", b" " * 64 * 1024 + b"{}", token=""), 413, "body_too_large")
    assert_problem(api.order(whole[: 64 * 1024]), 400, "malformed_json")
    assert rows() == before


@pytest.mark.parametrize("sku", ["NOPE", "book", "BOOK ", "no such thing", "Büch", "📚", "'; --", "\u202eKOOB"])
def test_an_unknown_sku_is_named(api: Api, sku: str) -> None:
    before = rows()
    problem = assert_problem(api.order(line(sku, 1)), 422, "unknown_sku")
    assert sku in problem["detail"]
    assert rows() == before


def test_a_product_that_is_no_longer_on_sale_cannot_be_ordered(api: Api) -> None:
    Product.objects.filter(sku="BOOK").update(active=False)
    before = rows()
    assert api.get("/products/BOOK").json()["active"] is False
    assert "no longer on sale: BOOK." in assert_problem(api.order(ONE_BOOK), 422, "not_on_sale")["detail"]
    assert rows() == before


def test_the_lines_of_one_product_count_together(api: Api) -> None:
    before = rows()
    body = {"lines": [{"sku": "BOOK", "quantity": 500}, {"sku": "BOOK", "quantity": 500}]}
    assert_problem(api.order(body), 422, "invalid_quantity")
    assert rows() == before


def test_products_of_two_currencies_do_not_go_into_one_order(api: Api) -> None:
    Product.objects.filter(sku="PEN").update(currency="USD")
    before = rows()
    body = {"lines": [{"sku": "BOOK", "quantity": 1}, {"sku": "PEN", "quantity": 1}]}
    assert_problem(api.order(body), 422, "mixed_currencies")
    assert rows() == before


COUPONS: dict[str, tuple[dict[str, Any], str]] = {
    "not yet valid": ({"valid_from": NOW + timedelta(days=1)}, "coupon_not_yet_valid"),
    "expired": ({"valid_until": NOW - timedelta(days=1)}, "coupon_expired"),
    "not active": ({"active": False}, "unknown_coupon"),
    "for a larger order": ({"minimum_spend": 1001}, "spend_too_low"),
    "of another currency": ({"currency": "USD"}, "coupon_currency_mismatch"),
}


@pytest.mark.parametrize(("terms", "code"), COUPONS.values(), ids=COUPONS)
def test_a_coupon_that_does_not_apply_says_why(api: Api, terms: dict[str, Any], code: str) -> None:
    coupons.add_coupon(**{"code": "SPECIAL", "kind": Kind.FIXED, "value": 100, "currency": "EUR"} | terms)
    before = rows()
    assert_problem(api.order(ONE_BOOK | {"coupon": "SPECIAL"}), 422, code)
    assert rows() == before


@pytest.mark.parametrize("coupon", ["NOPE", "   ", "TEN TEN", "zehn%", "\u2028"])
def test_an_unknown_coupon_is_refused(api: Api, coupon: str) -> None:
    before = rows()
    assert_problem(api.order(ONE_BOOK | {"coupon": coupon}), 422, "unknown_coupon")
    assert rows() == before


@pytest.mark.parametrize(
    ("limits", "code"),
    [({"total_limit": 1}, "coupon_used_up"), ({"per_customer_limit": 1}, "coupon_already_used")],
    ids=["by all", "by this customer"],
)
def test_a_used_up_coupon_is_refused(api: Api, limits: dict[str, int], code: str) -> None:
    coupons.add_coupon(code="ONCE", kind=Kind.FIXED, value=100, currency="EUR", **limits)
    api.place(("BOOK", 1), coupon="ONCE")
    drain()
    before = rows()
    assert_problem(api.order(ONE_BOOK | {"coupon": "ONCE"}), 422, code)
    assert rows() == before


def test_an_order_without_an_idempotency_key_is_400(api: Api) -> None:
    before = rows()
    assert_problem(api.post("/orders", ONE_BOOK), 400, "missing_idempotency_key")
    assert rows() == before


@pytest.mark.parametrize("key", ["", "x" * 256, "two words", "a\x00b", "a\x1bb", "schlüssel", "鍵"])
def test_an_idempotency_key_that_cannot_be_one_is_400(api: Api, key: str) -> None:
    before = rows()
    assert_problem(api.post("/orders", ONE_BOOK, Idempotency_Key=key), 400, "invalid_idempotency_key")
    assert rows() == before


def test_an_idempotency_key_may_have_255_characters(api: Api) -> None:
    assert api.order(ONE_BOOK, key="x" * 255).status_code == 202


def cursor_of(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


GARBAGE = {
    "a word": "garbage",
    "not base64": "%%%",
    "nothing": "",
    "not ASCII": "ü",
    "not UTF-8": "_____w",
    "standard base64": "+/+/",
    "null": cursor_of(None),
    "a text": cursor_of("x"),
    "an object": cursor_of({"id": 1}),
    "an empty list": cursor_of([]),
    "a negative number": cursor_of(-1),
    "zero": cursor_of(0),
    "too large a number": cursor_of(2**63),
    "a huge number": cursor_of(10**100),
    "a fraction": cursor_of(1.5),
    "NUL": cursor_of(["\x00", "BOOK"]),
    "NUL in the sku": cursor_of(["A book", "\x00"]),
    "a number for a name": cursor_of([1, "BOOK"]),
    "three parts": cursor_of(["A book", "BOOK", 1]),
}


@pytest.mark.parametrize("path", ["/orders", "/products"])
@pytest.mark.parametrize("cursor", GARBAGE.values(), ids=GARBAGE)
def test_a_garbage_cursor_is_400(api: Api, path: str, cursor: str) -> None:
    assert_problem(api.get(path, cursor=cursor), 400, "invalid_cursor")


def test_a_cursor_of_another_order_is_400(api: Api) -> None:
    cursor = api.get("/products", limit=1, sort="price").json()["next_cursor"]
    assert_problem(api.get("/products", cursor=cursor), 400, "invalid_cursor")


@pytest.mark.parametrize("path", ["/orders", "/products"])
@pytest.mark.parametrize("limit", ["0", "-1", "101", "abc", "", "1.5", "1e2", "9" * 5000, "\x00", "NaN", "１０x"])
def test_a_garbage_limit_is_422(api: Api, path: str, limit: str) -> None:
    problem = assert_problem(api.get(path, limit=limit), 422, "invalid_request")
    assert [(error["location"], error["pointer"]) for error in problem["errors"]] == [("query", "limit")]


@pytest.mark.parametrize(
    "query",
    [
        {"q": "a\x00b"},
        {"q": "x" * 201},
        {"category": "\x00"},
        {"sort": "colour"},
        {"cursor": "\x00"},
        {"cursor": LONG[:2001]},
    ],
    ids=["NUL", "too long", "NUL category", "unknown sort", "NUL cursor", "over-long cursor"],
)
def test_a_garbage_filter_is_422(api: Api, query: dict[str, str]) -> None:
    assert_problem(api.get("/products", **query), 422, "invalid_request")


@pytest.mark.parametrize("sku", ["NOPE", "%00", "BO%00OK", "%0a", "x" * 41, "%ff", "..%2f", "📚", "no%20such"])
def test_an_unknown_product_is_404(api: Api, sku: str) -> None:
    response = api.get(f"/products/{sku}")
    assert response.status_code == 404
    assert response.json()["code"] in ("product_not_found", "not_found")


ASKING: dict[str, Callable[[Api, str], Any]] = {
    "see": lambda api, number: api.get(f"/orders/{number}"),
    "see the events of": lambda api, number: api.get(f"/orders/{number}/events"),
    "pay": lambda api, number: api.post(f"/orders/{number}/pay", {"payment_token": "tok_ok"}),
    "cancel": lambda api, number: api.post(f"/orders/{number}/cancel", {}),
}
asking = pytest.mark.parametrize("ask", ASKING.values(), ids=ASKING)


@asking
def test_the_order_of_another_customer_is_404(api: Api, ask: Callable[[Api, str], Any]) -> None:
    number = api.place(("BOOK", 1))
    drain()
    bob = Api.of("bob")
    neighbour = Api.of("neighbour", id=api.customer.pk + numbers.BUCKETS)  # lives in the same bucket
    before = rows()
    for stranger in (bob, neighbour):
        assert_problem(ask(stranger, number), 404, "order_not_found")
    assert rows() == before


@asking
@pytest.mark.parametrize(
    "number", ["0000000000000", "7ZZZZZZZZZZZZ", "ZZZZZZZZZZZZZ", "x", "%00", "-", "1" * 1000, "Ä", "%ff", "1.5"]
)
def test_a_number_that_is_no_order_is_404(api: Api, ask: Callable[[Api, str], Any], number: str) -> None:
    before = rows()
    assert_problem(ask(api, number), 404, "order_not_found")
    assert rows() == before


@asking
def test_an_order_of_mine_that_does_not_exist_is_404(api: Api, ask: Callable[[Api, str], Any]) -> None:
    number = numbers.to_text(numbers.new_order_id(api.customer.pk, NOW))
    assert_problem(ask(api, number), 404, "order_not_found")


def forged(
    key: str | bytes | None = tokens._keys()[0], algorithm: str = "HS256", **changes: Any
) -> Callable[[int], str]:
    """Makes a token that is right but for what is named; a claim that is None is left out."""

    def forge(user_id: int) -> str:
        claims = {"sub": str(user_id), "aud": tokens.AUDIENCE, "iat": NOW, "exp": NOW + timedelta(hours=1)} | changes
        kept = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(kept, key=key or "", algorithm=algorithm)

    return forge


TOKENS: dict[str, tuple[Callable[[int], str], str]] = {
    "expired": (lambda user_id: tokens.issue(user_id, NOW - timedelta(hours=2)), "token_expired"),
    "garbage": (lambda user_id: "garbage", "invalid_token"),
    "three garbage parts": (lambda user_id: "a.b.c", "invalid_token"),
    "not ASCII": (lambda user_id: "ü.ü.ü", "invalid_token"),
    "NUL": (lambda user_id: "\x00", "invalid_token"),
    "signed with the secret key": (forged(key=settings.SECRET_KEY), "invalid_token"),
    "signed by somebody else": (forged(key="x" * 64), "invalid_token"),
    "not signed": (forged(key=None, algorithm="none"), "invalid_token"),
    "signed in another way": (forged(algorithm="HS384"), "invalid_token"),
    "without an end": (forged(exp=None), "invalid_token"),
    "for another purpose": (forged(aud="mail"), "invalid_token"),
    "of nobody": (lambda user_id: tokens.issue(999_999_999, NOW), "invalid_token"),
    "truncated": (lambda user_id: tokens.issue(user_id, NOW)[:-2], "invalid_token"),
}


@pytest.mark.parametrize(("make", "code"), TOKENS.values(), ids=TOKENS)
def test_a_wrong_token_is_401(api: Api, make: Callable[[int], str], code: str) -> None:
    token = make(api.customer.pk)
    before = rows()
    for response in (api.get("/orders", token=token), api.order(ONE_BOOK, token=token)):
        assert_problem(response, 401, code)
        assert response.headers["WWW-Authenticate"].startswith('Bearer error="invalid_token"')
    assert rows() == before


@pytest.mark.parametrize("seconds", [290, -290])
def test_a_token_is_good_for_processes_whose_clock_is_minutes_off(api: Api, settings: Settings, seconds: int) -> None:
    settings.API_TOKEN_SECONDS = 60
    token = tokens.issue(api.customer.pk, datetime.now(UTC) + timedelta(seconds=seconds))
    assert api.get("/orders", token=token).status_code == 200


@pytest.mark.parametrize("name", ["SECRET_KEY", "API_TOKEN_KEYS"])
def test_a_token_outlives_the_change_of_its_key_for_as_long_as_that_is_known(
    api: Api, settings: Settings, name: str
) -> None:
    old, new = (secrets.token_urlsafe(50) for _ in range(2))
    token = {}
    for key, keys in ((old, [old]), (new, [new, old])):
        if name == "SECRET_KEY":
            settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = key, keys[1:]
        else:
            settings.API_TOKEN_KEYS = keys
        token[key] = tokens.issue(api.customer.pk, NOW)
        assert {api.get("/orders", token=known).status_code for known in token.values()} == {200}

    settings.SECRET_KEY_FALLBACKS = []
    settings.API_TOKEN_KEYS = settings.API_TOKEN_KEYS[:1]
    tokens.forget()
    assert api.get("/orders", token=token[new]).status_code == 200
    assert_problem(api.get("/orders", token=token[old]), 401, "invalid_token")


@pytest.mark.parametrize("header", ["", "Bearer", "Basic YW5uOmFubg==", "Token x", "bearer"])
def test_a_request_without_a_token_is_401(api: Api, header: str) -> None:
    before = rows()
    body = json.dumps(ONE_BOOK)
    headers = {"Authorization": header, "Idempotency-Key": "a"}
    response = api.client.post("/api/v1/orders", body, content_type="application/json", headers=headers)
    assert response.status_code == 401
    assert response.json()["code"] in ("not_authenticated", "invalid_token")
    assert response.headers["WWW-Authenticate"].startswith("Bearer")
    assert rows() == before


def test_the_token_of_a_user_who_may_no_longer_sign_in_is_401(api: Api) -> None:
    assert api.get("/orders").status_code == 200
    api.customer.is_active = False
    api.set_password()
    tokens.forget()  # as after KNOWN_SECONDS
    assert_problem(api.get("/orders"), 401, "invalid_token")
    credentials = {"username": "ann", "password": PASSWORD}
    assert_problem(api.post("/token", credentials, token=""), 401, "invalid_credentials")


@pytest.mark.parametrize(
    "credentials", [("ann", "wrong"), ("nobody", PASSWORD), ("ann.", PASSWORD), ("ann", PASSWORD + " ")]
)
def test_a_wrong_name_or_password_is_401_and_does_not_say_which(api: Api, credentials: tuple[str, str]) -> None:
    api.set_password()
    username, password = credentials
    response = api.post("/token", {"username": username, "password": password}, token="")
    problem = assert_problem(response, 401, "invalid_credentials")
    assert problem["detail"] == "The name or the password is wrong."


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"username": "ann"},
        {"username": "a\x00nn", "password": "x"},
        {"username": "ann", "password": PASSWORD + "\x00"},
        {"username": "a" * 151, "password": "x"},
        {"username": "ann", "password": "x" * 1001},
        {"username": 1, "password": "x"},
        {"username": "ann", "password": PASSWORD, "admin": True},
    ],
    ids=[
        "nothing",
        "no password",
        "NUL",
        "NUL at the end",
        "over-long name",
        "over-long password",
        "a number",
        "unknown field",
    ],
)
def test_credentials_of_the_wrong_shape_are_422(api: Api, body: Any) -> None:
    assert_problem(api.post("/token", body, token=""), 422, "invalid_request")


@pytest.mark.parametrize(
    "body",
    [{}, {"payment_token": ""}, {"payment_token": "\x00"}, {"payment_token": "x" * 101}, {"payment_token": 1}, []],
    ids=["missing", "empty", "NUL", "over-long", "a number", "a list"],
)
def test_a_payment_token_of_the_wrong_shape_is_422(api: Api, body: Any) -> None:
    number = api.place(("BOOK", 1))
    drain()
    before = rows()
    assert_problem(api.post(f"/orders/{number}/pay", body), 422, "invalid_request")
    assert rows() == before


def test_a_payment_token_of_unprintable_characters_is_422(api: Api) -> None:
    number = api.place(("BOOK", 1))
    drain()
    before = rows()
    assert_problem(api.post(f"/orders/{number}/pay", {"payment_token": "\u2028"}), 422, "invalid_request")
    assert rows() == before


def test_a_cancellation_with_unknown_fields_is_422(api: Api) -> None:
    number = api.place(("BOOK", 1))
    before = rows()
    assert_problem(api.post(f"/orders/{number}/cancel", {"reason": "operator"}), 422, "invalid_request")
    assert rows() == before


def placed(api: Api) -> str:
    return api.place(("BOOK", 1))


def confirmed(api: Api) -> str:
    number = placed(api)
    drain()
    return number


def being_paid(api: Api) -> str:
    number = confirmed(api)
    assert api.post(f"/orders/{number}/pay", {"payment_token": "tok_ok"}).status_code == 202
    return number


def paid(api: Api) -> str:
    number = being_paid(api)
    drain()
    return number


def shipped(api: Api) -> str:
    number = paid(api)
    orders.handle(ShipOrder(order_id=numbers.parse(number), tracking="T1", at=datetime.now(UTC)), METADATA)
    drain()
    return number


def delivered(api: Api) -> str:
    number = shipped(api)
    orders.handle(DeliverOrder(order_id=numbers.parse(number), at=datetime.now(UTC)), METADATA)
    drain()
    return number


def refunded(api: Api) -> str:
    number = paid(api)
    orders.handle(RefundOrder(order_id=numbers.parse(number), at=datetime.now(UTC)), METADATA)
    drain()
    return number


def cancelled(api: Api) -> str:
    number = confirmed(api)
    assert api.post(f"/orders/{number}/cancel", {}).status_code == 200
    drain()
    return number


def rejected(api: Api) -> str:
    number = api.place(("BOOK", 600))
    other = api.place(("BOOK", 600))
    drain()
    statuses = {each: api.get(f"/orders/{each}").json()["status"] for each in (number, other)}
    return next(each for each, status in statuses.items() if status == "rejected")


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (placed, "not_yet_confirmed"),
        (being_paid, "payment_in_progress"),
        (paid, "already_paid"),
        (shipped, "already_paid"),
        (delivered, "already_paid"),
        (refunded, "already_paid"),
        (cancelled, "order_closed"),
        (rejected, "order_closed"),
    ],
)
def test_an_order_that_is_not_to_be_paid_is_409(api: Api, state: Callable[[Api], str], code: str) -> None:
    number = state(api)
    before = rows()
    assert_problem(api.post(f"/orders/{number}/pay", {"payment_token": "tok_ok"}), 409, code)
    assert rows() == before


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (paid, "cannot_cancel_paid"),
        (shipped, "cannot_cancel_shipped"),
        (delivered, "cannot_cancel_shipped"),
        (refunded, "order_closed"),
        (rejected, "order_closed"),
    ],
)
def test_an_order_that_is_not_to_be_cancelled_is_409(api: Api, state: Callable[[Api], str], code: str) -> None:
    number = state(api)
    before = rows()
    assert_problem(api.post(f"/orders/{number}/cancel", {}), 409, code)
    assert rows() == before


@pytest.mark.parametrize(
    "path", ["/api/", "/api/v1/", "/api/v1/nothing", "/api/v2/orders", "/api/v1/orders/", "/api/%00"]
)
def test_an_unknown_address_is_a_problem_too(api: Api, path: str) -> None:
    assert_problem(api.client.get(path), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/orders", {"GET", "POST"}),
        ("PUT", "/orders/0000000000000", {"GET"}),
        ("GET", "/token", {"POST"}),
        ("PATCH", "/products", {"GET"}),
        ("POST", "/products/BOOK", {"GET"}),
        ("OPTIONS", "/orders", {"GET", "POST"}),
        ("TRACE", "/orders", {"GET", "POST"}),
        ("BREW", "/orders", {"GET", "POST"}),
    ],
)
def test_a_wrong_method_is_405_and_names_the_right_ones(api: Api, method: str, path: str, allowed: set[str]) -> None:
    response = api.client.generic(method, f"/api/v1{path}", headers=api.headers(None, {}))
    assert_problem(response, 405, "method_not_allowed")
    assert set(response.headers["Allow"].split(", ")) == allowed | ({"HEAD"} if "GET" in allowed else set())


def test_a_request_for_another_host_is_a_problem_too(api: Api) -> None:
    response = api.client.get("/api/v1/products", headers={"Host": "elsewhere.example"})
    assert_problem(response, 400, "bad_request")


def test_too_many_parameters_are_400(api: Api) -> None:
    query = "&".join(f"a{number}=1" for number in range(1001))
    assert_problem(api.client.get(f"/api/v1/products?{query}"), 400, "bad_request")


def test_a_failure_of_ours_is_a_problem_that_tells_nothing(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("the secret is 42")

    monkeypatch.setattr("inventory.selectors.product", fail)
    api.client.raise_request_exception = False
    problem = assert_problem(api.get("/products/BOOK"), 500, "internal_error")
    assert "42" not in str(problem)
