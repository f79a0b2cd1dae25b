"""The API as its clients see it: tokens, products, orders and what becomes of them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import OperationalError, connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from api import tokens
from caching import two_level
from coupons import handlers as coupons
from coupons.domain import Kind
from eventing import pressure
from eventing.models import Event
from eventing.testing import drain
from orders import handlers as orders
from orders.commands import ShipOrder
from orders.models import Order
from sharding import numbers, shards
from tests.factories import ProductFactory
from tests.integration.shop_api import METADATA, PASSWORD, Api, assert_problem, rows, stock_the_shop
from tests.integration.statements import counted
from tests.waiting import wait_until_changes_are_heard

pytestmark = pytest.mark.django_db(databases="__all__")


@pytest.fixture
def api(db: None) -> Api:
    stock_the_shop()
    return Api.of("ann")


def test_a_token_is_given_for_name_and_password_and_lets_in(api: Api) -> None:
    api.set_password()
    response = api.post("/token", {"username": "ann", "password": PASSWORD}, token="")

    assert response.status_code == 200
    assert response.headers["Cache-Control"] == "private, no-store"
    body = response.json()
    assert (set(body), body["token_type"], body["expires_in"]) == (
        {"access_token", "token_type", "expires_in"},
        "Bearer",
        3600,
    )
    assert api.get("/orders", token=body["access_token"]).json() == {"items": [], "next_cursor": None}


def test_products_are_listed_without_a_token_page_by_page(api: Api) -> None:
    first = api.get("/products", token="", limit=2).json()
    second = api.get("/products", token="", limit=2, cursor=first["next_cursor"]).json()

    assert [item["sku"] for item in first["items"]] == ["BOOK", "LAMP"]
    assert [item["sku"] for item in second["items"]] == ["PEN"]
    assert second["next_cursor"] is None
    assert first["items"][0] == {
        "sku": "BOOK",
        "name": "A book",
        "description": "",
        "category": "things",
        "price": 1000,
        "currency": "EUR",
        "picture": first["items"][0]["picture"],
        "active": True,
        "available": 1000,
    }


@pytest.mark.parametrize(
    ("sort", "expected"), [("price", ["PEN", "BOOK", "LAMP"]), ("-price", ["LAMP", "BOOK", "PEN"])]
)
def test_products_can_be_paged_by_price(api: Api, sort: str, expected: list[str]) -> None:
    found = []
    query: dict[str, Any] = {}
    for _ in expected:
        page = api.get("/products", limit=1, sort=sort, **query).json()
        found += [item["sku"] for item in page["items"]]
        query = {"cursor": page["next_cursor"]}

    assert found == expected
    assert query == {"cursor": None}


def test_products_can_be_searched_and_seen_one_by_one(api: Api) -> None:
    assert [item["sku"] for item in api.get("/products", q="lamp", category="things").json()["items"]] == ["LAMP"]
    assert api.get("/products", category="nothing").json()["items"] == []
    assert api.get("/products/LAMP").json()["price"] == 3000


def test_an_order_is_accepted_and_says_where_to_follow_it(api: Api) -> None:
    response = api.order({"lines": [{"sku": "BOOK", "quantity": 2}, {"sku": "PEN", "quantity": 1}], "coupon": "ten"})

    assert response.status_code == 202
    body = response.json()
    assert response.headers["Location"] == f"/api/v1/orders/{body['number']}"
    placed_at = datetime.fromisoformat(body["placed_at"])
    assert timezone.now() - placed_at < timedelta(minutes=1)
    assert body == {
        "number": body["number"],
        "status": "placed",
        "currency": "EUR",
        "subtotal": 2250,
        "discount": 225,
        "total": 2025,
        "coupon": "TEN",
        "placed_at": body["placed_at"],
        "updated_at": body["placed_at"],
        "expires_at": body["expires_at"],
        "reason": "",
        "lines": [
            {"sku": "BOOK", "name": "A book", "quantity": 2, "unit_price": 1000, "amount": 2000},
            {"sku": "PEN", "name": "A pen", "quantity": 1, "unit_price": 250, "amount": 250},
        ],
        "ship_to": None,
        "payment": None,
    }
    assert api.client.get(response.headers["Location"], headers=api.headers(None, {})).json() == body


def test_a_product_named_twice_becomes_one_line(api: Api) -> None:
    lines = [{"sku": sku, "quantity": quantity} for sku, quantity in (("BOOK", 1), ("PEN", 1), ("BOOK", 2))]
    body = api.order({"lines": lines}).json()
    assert [(line["sku"], line["quantity"]) for line in body["lines"]] == [("BOOK", 3), ("PEN", 1)]


def test_the_event_of_an_order_says_who_asked_for_it(api: Api) -> None:
    order_id = numbers.parse(api.place(("BOOK", 1)))
    event = Event.objects.using(shards.alias_of(order_id)).get(stream_id=order_id)
    metadata = json.loads(event.metadata) if isinstance(event.metadata, str) else event.metadata
    assert metadata["actor"] == f"customer:{api.customer.pk}"
    assert metadata["correlation_id"]


def test_the_same_key_and_body_replays_the_first_answer_whatever_has_happened_since(api: Api) -> None:
    coupons.add_coupon(code="ONCE", kind=Kind.FIXED, value=100, currency="EUR", total_limit=1, per_customer_limit=1)
    body = {"lines": [{"sku": "BOOK", "quantity": 1}], "coupon": "ONCE"}
    first = api.order(body, key="key-1")
    drain()
    before = rows()

    again = api.order(body, key="key-1")

    assert api.get(f"/orders/{first.json()['number']}").json()["status"] == "confirmed"
    assert (again.status_code, again.content) == (202, first.content)
    assert again.headers["Location"] == first.headers["Location"]
    assert rows() == before


def test_keys_of_different_customers_have_nothing_to_do_with_each_other(api: Api) -> None:
    body = {"lines": [{"sku": "BOOK", "quantity": 1}]}
    numbers_placed = {one.order(body, key="same").json()["number"] for one in (api, Api.of("bob"))}
    assert len(numbers_placed) == 2


def test_the_same_key_with_another_body_is_refused(api: Api) -> None:
    api.order({"lines": [{"sku": "BOOK", "quantity": 1}]}, key="key-1")
    before = rows()
    for lines in ([{"sku": "BOOK", "quantity": 2}], [{"sku": "NOPE", "quantity": 1}]):
        assert_problem(api.order({"lines": lines}, key="key-1"), 422, "idempotency_mismatch")
    assert rows() == before


@pytest.mark.services
def test_a_key_whose_first_request_is_not_answered_yet_is_a_conflict(api: Api) -> None:
    alias = shards.alias_of_bucket(numbers.bucket_of_customer(api.customer.pk))
    other = connections[alias].copy()
    other.settings_dict = {**other.settings_dict, "OPTIONS": {}}  # a connection of its own, from no pool
    try:
        with other.cursor() as cursor:
            name = f"idempotency:{api.customer.pk}:key-1"
            cursor.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", [name])
            before = rows()
            response = api.order({"lines": [{"sku": "BOOK", "quantity": 1}]}, key="key-1")
            assert_problem(response, 409, "idempotency_in_flight")
            assert response.headers["Retry-After"] == "1"
            assert rows() == before
    finally:
        other.close()


def test_an_order_goes_its_way_and_tells_its_history(api: Api) -> None:
    number = api.place(("BOOK", 1))
    drain()
    assert api.get(f"/orders/{number}").json()["status"] == "confirmed"

    paid = api.post(f"/orders/{number}/pay", {"payment_token": "tok_ok"})
    assert (paid.status_code, paid.headers["Location"]) == (202, f"/api/v1/orders/{number}")
    assert paid.json()["status"] == "confirmed"
    assert paid.json()["payment"]["progress"] == "in_progress"
    drain()

    order = api.get(f"/orders/{number}").json()
    assert (order["status"], order["payment"]["progress"], order["expires_at"]) == ("paid", "captured", None)
    history = api.get(f"/orders/{number}/events").json()
    assert history["next_cursor"] is None
    assert [(event["type"], event["version"]) for event in history["items"]] == [
        ("order.placed", 1),
        ("order.confirmed", 2),
        ("order.payment_started", 3),
        ("order.paid", 4),
    ]
    placed, confirmed, started, _ = history["items"]
    assert started["data"]["payment_id"] == paid.json()["payment"]["payment_id"]
    assert placed["id"] == f"order-{number}@1"
    assert (placed["causation_id"], placed["schema_version"]) == (None, 2)
    assert placed["data"]["lines"] == [{"sku": "BOOK", "name": "A book", "quantity": 1, "unit_price": 1000}]
    assert confirmed["causation_id"] == f"reservation-{number}@1"
    assert confirmed["correlation_id"] == placed["correlation_id"]


def test_a_declined_payment_says_why_and_leaves_the_order_payable(api: Api) -> None:
    number = api.place(("BOOK", 1))
    drain()
    api.post(f"/orders/{number}/pay", {"payment_token": "tok_declined"})
    drain()

    order = api.get(f"/orders/{number}").json()
    assert (order["status"], order["payment"]["progress"]) == ("confirmed", "declined")
    assert order["payment"]["reason"]
    assert order["payment"]["message"]

    api.post(f"/orders/{number}/pay", {"payment_token": "tok_ok"})
    drain()
    assert api.get(f"/orders/{number}").json()["status"] == "paid"


def test_a_rejected_order_names_what_was_short(api: Api) -> None:
    ProductFactory.create(sku="RARE")
    number = api.place(("RARE", 1))
    drain()
    order = api.get(f"/orders/{number}").json()
    assert order["status"] == "rejected"
    event = api.get(f"/orders/{number}/events").json()["items"][-1]
    assert event["data"]["short"] == [{"sku": "RARE", "wanted": 1, "available": 0}]


@pytest.mark.parametrize("body", [{}, None], ids=["an empty object", "no body"])
def test_an_order_can_be_cancelled_and_stays_so(api: Api, body: Any) -> None:
    number = api.place(("BOOK", 1))
    first = api.post(f"/orders/{number}/cancel", body)
    again = api.post(f"/orders/{number}/cancel", body)
    assert (first.status_code, first.json()["status"]) == (200, "cancelled")
    assert (again.status_code, again.json()) == (200, first.json())


def test_orders_are_listed_newest_first_page_by_page_and_only_ones_own(api: Api) -> None:
    placed = [api.place(("PEN", quantity)) for quantity in (1, 2, 3, 4, 5)]
    Api.of("bob").place(("PEN", 9))

    pages: list[list[str]] = []
    cursor: dict[str, str] = {}
    while True:
        page = api.get("/orders", limit=2, **cursor).json()
        pages.append([item["number"] for item in page["items"]])
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}

    newest_first = sorted(placed, reverse=True)
    assert pages == [newest_first[:2], newest_first[2:4], newest_first[4:]]


def test_a_number_may_be_typed_as_people_do(api: Api) -> None:
    number = api.place(("BOOK", 1))
    typed = f"{number[:4]}-{number[4:]}".lower()
    assert api.get(f"/orders/{typed}").json()["number"] == number


def test_placing_an_order_asks_the_databases_little(
    api: Api, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.CATALOGUE_CACHE_SECONDS = 600  # what is remembered is so for longer than this takes on a busy machine
    monkeypatch.setattr(two_level, "MEMORY_SECONDS", 600)
    monkeypatch.setattr(pressure, "REFRESH_SECONDS", 600.0)
    monkeypatch.setattr(tokens._known, "_TTLCache__ttl", 600)
    alias = shards.alias_of_bucket(numbers.bucket_of_customer(api.customer.pk))
    body = {"lines": [{"sku": "BOOK", "quantity": 1}, {"sku": "PEN", "quantity": 2}]}
    wait_until_changes_are_heard()
    api.place(("BOOK", 1), ("PEN", 1))  # the user's right to sign in and the prices are remembered for a while
    headers = api.headers(None, {"Idempotency-Key": uuid4().hex})
    with CaptureQueriesContext(connections["default"]) as default, CaptureQueriesContext(connections[alias]) as shard:
        response = api.client.post("/api/v1/orders", json.dumps(body), content_type="application/json", headers=headers)

    assert response.status_code == 202
    asked = [query["sql"] for query in default if "SAVEPOINT" not in query["sql"]]
    assert asked == []
    written = [query["sql"] for query in shard if "SAVEPOINT" not in query["sql"]]
    # the key; the event, its outbox row, the order, and its lines
    assert len(written) == counted(2, 5), written


def test_a_session_cookie_opens_nothing(api: Api) -> None:
    client = Client()
    client.force_login(api.customer)
    before = rows()
    assert_problem(client.get("/api/v1/orders"), 401, "not_authenticated")
    body = json.dumps({"lines": [{"sku": "BOOK", "quantity": 1}]})
    response = client.post("/api/v1/orders", body, content_type="application/json", headers={"Idempotency-Key": "a"})
    assert_problem(response, 401, "not_authenticated")
    assert rows() == before


def test_a_customer_of_a_shard_that_is_away_is_told_when_to_come_back_and_the_others_notice_nothing(api: Api) -> None:
    bob = Api.of("bob", id=api.customer.pk + numbers.BUCKETS // 2)  # lives far away, in another shard
    number = api.place(("BOOK", 1))

    def away(*args: Any) -> Any:
        raise OperationalError("connection refused")

    with connections[_shard_of(api)].execute_wrapper(away):
        for response in (api.get("/orders"), api.get(f"/orders/{number}"), api.post(f"/orders/{number}/cancel", {})):
            assert_problem(response, 503, "unavailable")
            assert response.headers["Retry-After"] == "5"
        assert bob.place(("BOOK", 1))
    assert api.get(f"/orders/{number}").json()["status"] == "placed"


def test_everybody_gets_503_while_the_default_database_is_away(api: Api) -> None:
    def away(*args: Any) -> Any:
        raise OperationalError("connection refused")

    token = api.token  # issuing one asks when the account was made
    with connections["default"].execute_wrapper(away):
        assert_problem(api.get("/orders", token=token), 503, "unavailable")
        assert_problem(api.post("/token", {"username": "ann", "password": PASSWORD}, token=""), 503, "unavailable")


def test_a_shipped_order_shows_so(api: Api) -> None:
    number = api.place(("BOOK", 1))
    drain()
    api.post(f"/orders/{number}/pay", {"payment_token": "tok_ok"})
    drain()
    order_id = numbers.parse(number)
    orders.handle(
        ShipOrder(order_id=order_id, tracking="T1", at=datetime.now(UTC)),
        METADATA,
    )
    assert api.get(f"/orders/{number}").json()["status"] == "shipped"
    assert Order.objects.using(shards.alias_of(order_id)).get(id=order_id).status == "shipped"


def _shard_of(api: Api) -> str:
    return shards.alias_of_bucket(numbers.bucket_of_customer(api.customer.pk))


ADDRESS = {"name": "Zoë Ångström", "street": "Kaivokatu 1", "postal_code": "00100", "city": "Helsinki", "country": "FI"}


def test_an_order_goes_to_the_address_that_came_with_it(api: Api) -> None:
    body = {"lines": [{"sku": "BOOK", "quantity": 1}], "ship_to": ADDRESS}
    placed = api.order(body, key="one").json()
    assert placed["ship_to"] == ADDRESS
    assert api.get(f"/orders/{placed['number']}").json()["ship_to"] == ADDRESS
    event = api.get(f"/orders/{placed['number']}/events").json()["items"][0]
    assert (event["schema_version"], event["data"]["ship_to"]) == (2, ADDRESS)
    assert api.order(body, key="one").json() == placed


def test_another_address_is_another_order(api: Api) -> None:
    body = {"lines": [{"sku": "BOOK", "quantity": 1}], "ship_to": ADDRESS}
    api.order(body, key="one")
    before = rows()
    for other in ({**body, "ship_to": ADDRESS | {"city": "Turku"}}, {"lines": body["lines"]}):
        assert_problem(api.order(other, key="one"), 422, "idempotency_mismatch")
    assert rows() == before


@pytest.mark.parametrize(
    "change, code",
    [
        ({"name": ""}, "invalid_request"),
        ({"name": "x" * 101}, "invalid_request"),
        ({"name": "   "}, "invalid_request"),
        ({"city": "Hel\x07sinki"}, "invalid_request"),
        ({"city": "Hel\u0085sinki"}, "invalid_request"),
        ({"country": "fi"}, "invalid_request"),
        ({"country": "FIN"}, "invalid_request"),
        ({"planet": "Earth"}, "invalid_request"),
    ],
)
def test_address_that_cannot_be_is_refused(api: Api, change: dict[str, str], code: str) -> None:
    before = rows()
    response = api.order({"lines": [{"sku": "BOOK", "quantity": 1}], "ship_to": ADDRESS | change})
    assert_problem(response, 422, code)
    assert rows() == before
