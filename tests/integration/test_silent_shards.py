"""Pages over all shards while one of them hangs: they come in time, say what is missing, and lose nothing else."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.test import Client

from backoffice import orders as orders_admin
from backoffice.monitoring import dashboard
from orders.domain import Status
from sharding import numbers, shards
from tests.factories import NOON, CustomerFactory, OperatorFactory
from tests.integration.locked import locked
from tests.integration.order_samples import order_in, place
from tests.integration.shop_api import Api, assert_problem
from tests.integration.test_admin import ORDERS, client_of, link, listed, page_of, text

pytestmark = [pytest.mark.services, pytest.mark.django_db(databases="__all__", transaction=True)]

SECONDS = 0.5
HANGS = "orders_1"
NOTICE = "Shard 1 (orders_1) did not answer, so its orders are missing here."
PAGE = 3


@pytest.fixture(autouse=True)
def patience(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.DATABASE_READ_SECONDS = settings.EVENTING_READ_SECONDS = SECONDS
    monkeypatch.setattr(orders_admin, "PAGE_SIZE", PAGE)


@pytest.fixture
def office(db: None) -> Client:
    client = client_of(OperatorFactory.create())
    client.get(ORDERS)  # what is only loaded once
    return client


def customer_of(alias: str) -> User:
    """Somebody whose orders live there."""
    bucket = shards.buckets_of(alias)[0]
    return CustomerFactory.create(username=f"of-{alias}", pk=bucket + numbers.BUCKETS, email=f"ann@{alias}.example")


def on_all_shards(each: int) -> dict[str, list[str]]:
    """The numbers of the orders of each shard, newest first."""
    placed: dict[str, list[str]] = {}
    for position in range(each):
        for number, alias in enumerate(shards.aliases()):
            at = NOON - timedelta(minutes=10 * position + number)
            order_id = place(shards.buckets_of(alias)[0], at=at)
            placed.setdefault(alias, []).append(numbers.to_text(order_id))
    return placed


def test_the_list_comes_in_time_and_names_the_shard_on_each_page(office: Client) -> None:
    placed = on_all_shards(each=4)
    others = {number for alias, found in placed.items() if alias != HANGS for number in found}
    shown: list[str] = []
    with locked(HANGS):
        address: str | None = ""
        while address is not None:
            started = time.monotonic()
            response = office.get(ORDERS + address)
            assert time.monotonic() - started < 10 * SECONDS
            assert NOTICE in text(response)
            shown += listed(response)
            address = link(response, "next")

    assert len(shown) == len(others) == 4 * (len(shards.aliases()) - 1)
    assert set(shown) == others


def test_what_was_missing_is_there_again_when_the_shard_is_back(office: Client) -> None:
    placed = on_all_shards(each=2)
    with locked(HANGS):
        second = str(link(office.get(ORDERS), "next"))
        assert not set(placed[HANGS]) & set(listed(office.get(ORDERS + second)))

    response = office.get(ORDERS + second)
    back = office.get(ORDERS + str(link(response, "prev")))
    top = office.get(ORDERS)

    for page in (response, back, top):
        assert "did not answer" not in text(page)
    # The page goes on behind the same order as before, and what was missing in front of it is found going back.
    assert placed[HANGS][1] in listed(response)
    assert placed[HANGS][0] in listed(back)
    assert placed[HANGS][0] in listed(top)


def test_a_list_of_a_shard_that_hangs_is_empty_and_does_not_say_that_there_is_nothing(office: Client) -> None:
    on_all_shards(each=1)
    with locked(HANGS):
        page = text(office.get(ORDERS, {"shard": HANGS}))
        nowhere = text(office.get(ORDERS, {"status": "delivered"}))

    for said in (page, nowhere):
        assert NOTICE in said
        assert "No orders in the databases that answered." in said


def test_a_search_finds_the_customer_and_says_that_their_shard_hangs(office: Client) -> None:
    customer = customer_of(HANGS)
    number = numbers.to_text(place(customer.pk))
    with locked(HANGS):
        found = office.get(ORDERS, {"q": customer.email}, follow=True)
        order = office.get(ORDERS, {"q": number}, follow=True)

    assert found.redirect_chain == [(f"{ORDERS}?customer={customer.pk}", 302)]
    assert NOTICE in text(found)
    assert order.status_code == 503
    assert f"The database {HANGS} does not answer." in text(order)
    assert listed(office.get(ORDERS, {"q": customer.email}, follow=True)) == [number]


def test_other_customers_notice_nothing_and_those_of_the_shard_are_told_to_come_back() -> None:
    away, here = customer_of(HANGS), customer_of("orders_0")
    place(away.pk)
    number = numbers.to_text(place(here.pk))
    with locked(HANGS):
        assert client_of(away).get("/orders/").status_code == 503
        assert_problem(Api(away).get("/orders"), 503, "unavailable")
        assert number in client_of(here).get("/orders/").content.decode()
        assert [one["number"] for one in Api(here).get("/orders").json()["items"]] == [number]


def test_ticked_orders_of_a_shard_that_hangs_are_left_out(office: Client) -> None:
    here, away = (order_in(Status.PAID, shards.buckets_of(alias)[0]) for alias in ("orders_0", HANGS))
    ticked = {"action": "ship", "order": [numbers.to_text(here), numbers.to_text(away)], "back": ""}
    with locked(HANGS):
        page = text(office.post(f"{ORDERS}act-on-many/", ticked))

    assert "Shard 1 (orders_1) did not answer, so its orders are left out." in page
    assert "Ship: 1 order" in page
    assert page_of(away).split("/")[-3] not in page


def test_the_dashboard_names_the_shard_and_leaves_nothing_waiting_there(
    office: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dashboard, "ANSWER_SECONDS", 1.0)
    cache.delete(dashboard.CACHE_KEY)
    with locked(HANGS):  # which waits until nobody waits there
        page = text(office.get("/admin/"))
    cache.delete(dashboard.CACHE_KEY)

    assert f"The database {HANGS} does not answer. Its orders are missing in these numbers." in page


def test_events_of_the_other_databases_are_listed(office: Client) -> None:
    on_all_shards(each=1)
    with locked(HANGS, table="eventing_event"):
        response = office.get("/admin/eventing/event/")

    assert f"The database {HANGS} does not answer, so its events are missing here." in text(response)
    assert response.content.decode().count("order.placed") >= len(shards.aliases()) - 1
