"""The list of orders, narrowed by what operators look for, and actions on many orders at once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connections
from django.test import Client
from django.test.utils import CaptureQueriesContext

from backoffice.orders import PAGE_SIZE
from eventing.databases import is_postgresql
from eventing.partitions import partitions
from orders import selectors
from orders.domain import Status
from orders.events import Line
from orders.selectors import Criteria
from sharding import numbers, shards
from tests.factories import NOON, TEA, OperatorFactory
from tests.integration.order_samples import order_in, place
from tests.integration.test_admin import ORDERS, client_of, down, link, listed, staff, text

pytestmark = pytest.mark.django_db(databases="__all__")

MANY = f"{ORDERS}act-on-many/"
POT = Line(sku="pot", name="Tea pot", quantity=1, unit_price=2500)


@pytest.fixture
def office(db: None) -> Client:
    return client_of(OperatorFactory.create())


def numbers_of(*order_ids: int) -> list[str]:
    return [numbers.to_text(order_id) for order_id in order_ids]


def status_of(order_id: int) -> Status:
    order = selectors.get(order_id)
    assert order is not None
    return order.status


# --- Filters ------------------------------------------------------------------------------------------------------


def test_orders_are_found_by_shard_and_bucket(office: Client) -> None:
    here, there = place(0), place(127)

    assert listed(office.get(ORDERS, {"shard": shards.alias_of(here)})) == numbers_of(here)
    assert listed(office.get(ORDERS, {"bucket": numbers.bucket_of(there)})) == numbers_of(there)
    assert listed(office.get(ORDERS, {"bucket": numbers.bucket_of(there), "shard": shards.alias_of(here)})) == []


def test_orders_are_found_by_the_days_on_which_they_were_placed(office: Client) -> None:
    before, first, last, after = (place(day, at=NOON + timedelta(days=day)) for day in range(4))

    assert listed(office.get(ORDERS, {"since": "2026-03-02", "until": "2026-03-03"})) == numbers_of(last, first)
    assert listed(office.get(ORDERS, {"since": "2026-03-04"})) == numbers_of(after)
    assert listed(office.get(ORDERS, {"until": "2026-03-01"})) == numbers_of(before)


def test_orders_are_found_by_product_and_coupon(office: Client) -> None:
    pot = place(3, lines=(TEA, POT))
    place(70)
    coupon = place(100, coupon_code="SPRING", discount=100, lines=(TEA,))

    assert listed(office.get(ORDERS, {"sku": "pot"})) == numbers_of(pot)
    assert listed(office.get(ORDERS, {"sku": " pot "})) == numbers_of(pot)
    assert listed(office.get(ORDERS, {"coupon": "spring"})) == numbers_of(coupon)
    assert "No orders match." in text(office.get(ORDERS, {"sku": "kettle"}))


def test_filters_go_together_and_stay_from_page_to_page(office: Client) -> None:
    count = PAGE_SIZE + 2
    pots = [place(number, at=NOON - timedelta(minutes=number), lines=(POT,)) for number in range(count)]
    place(5)

    first = office.get(ORDERS, {"sku": "pot", "status": "placed", "until": "2026-03-01"})
    second = office.get(ORDERS + str(link(first, "next")))

    assert listed(first) + listed(second) == numbers_of(*pots)
    assert listed(office.get(ORDERS + str(link(second, "prev")))) == listed(first)
    assert 'href="?until=2026-03-01&amp;sku=pot&amp;status=paid"' in second.content.decode()


@pytest.mark.parametrize(
    "wrong,said",
    [
        ({"bucket": "128"}, "less than or equal to 127"),
        ({"since": "yesterday"}, "Enter a valid date."),
        ({"shard": "orders_99"}, "Select a valid choice."),
        ({"sku": "x" * 41}, "at most 40 characters"),
    ],
)
def test_a_filter_that_makes_no_sense_says_so_and_narrows_nothing(
    office: Client, wrong: dict[str, str], said: str
) -> None:
    order_id = place()

    response = office.get(ORDERS, wrong)

    assert listed(response) == numbers_of(order_id)
    assert said in text(response)


def test_narrowed_lists_neither_count_nor_skip(office: Client) -> None:
    place(1, lines=(POT,))
    everything = {"sku": "pot", "coupon": "x", "since": "2026-01-01", "until": "2026-12-31", "status": "placed"}
    captures = {alias: CaptureQueriesContext(connections[alias]) for alias in shards.aliases()}
    for capture in captures.values():
        capture.__enter__()
    office.get(ORDERS, everything)
    for capture in captures.values():
        capture.__exit__(None, None, None)

    asked = [query["sql"] for capture in captures.values() for query in capture.captured_queries]
    assert len(asked) == len(shards.aliases())
    assert not [sql for sql in asked if "COUNT(" in sql or "OFFSET" in sql or "LIMIT" not in sql]


def test_one_bucket_asks_one_database() -> None:
    bucket = numbers.bucket_of(place(127))
    others = [alias for alias in shards.aliases() if alias != shards.alias_of_bucket(bucket)]

    with down(others[0]):
        page = selectors.all_orders(limit=10, criteria=Criteria(bucket=bucket))

    assert (len(page.items), page.unavailable) == (1, ())


def test_the_indexes_of_the_filters_are_in_every_bucket() -> None:
    for alias in shards.aliases():
        connection = connections[alias]
        if not is_postgresql(connection):
            with connection.cursor() as cursor:
                found = connection.introspection.get_constraints(cursor, "orders_orderline")
                found |= connection.introspection.get_constraints(cursor, "orders_order")
                found |= connection.introspection.get_constraints(cursor, "eventing_event")
            assert {"order_line_by_sku", "order_by_coupon", "event_by_time"} <= set(found)
            continue
        for index in ("order_line_by_sku", "order_by_coupon", "event_by_time"):
            assert len(partitions(alias, index)) == len(shards.buckets_of(alias))
            with connection.cursor() as cursor:
                cursor.execute("SELECT indisvalid FROM pg_index WHERE indexrelid = %s::regclass", [index])
                assert cursor.fetchone() == (True,)


# --- Many at once -------------------------------------------------------------------------------------------------


def ask(client: Client, action: str, *order_ids: int, **fields: Any) -> Any:
    return client.post(MANY, {"action": action, "order": numbers_of(*order_ids), "back": "?status=paid", **fields})


def test_many_orders_are_asked_about_before_anything_happens(office: Client) -> None:
    paid, placed = order_in(Status.PAID), place(70)

    response = ask(office, "ship", paid, placed)

    page = text(response)
    assert status_of(paid) is Status.PAID
    assert "Ship: 2 orders" in page
    assert "not possible while it is placed: left out" in page
    assert "Ship: 1 order" in page
    html = response.content.decode()
    assert f'name="order" value="{numbers.to_text(paid)}"' in html
    assert f'name="order" value="{numbers.to_text(placed)}"' not in html
    assert f'name="tracking-{numbers.to_text(paid)}"' in html
    assert 'href="/admin/orders/order/?status=paid"' in html


def test_many_orders_are_shipped_each_with_its_own_tracking_number(office: Client) -> None:
    orders = [order_in(Status.PAID), order_in(Status.PAID)]
    tracking = {f"tracking-{number}": f"parcel {number}" for number in numbers_of(*orders)}

    page = text(ask(office, "ship", *orders, confirmed="yes", **tracking))

    assert "2 of 2 orders done" in page
    for order_id in orders:
        number = numbers.to_text(order_id)
        assert f"Order {number} is shipped." in page
        assert selectors.history(order_id)[-1].event.tracking == f"parcel {number}"
        assert LogEntry.objects.filter(object_id=number, change_message="It is shipped.").exists()


@pytest.mark.parametrize(
    "action,before,after",
    [
        ("deliver", Status.SHIPPED, Status.DELIVERED),
        ("cancel", Status.CONFIRMED, Status.CANCELLED),
        ("refund", Status.PAID, Status.REFUNDED),
    ],
)
def test_the_other_actions_work_on_many_as_well(office: Client, action: str, before: Status, after: Status) -> None:
    orders = [order_in(before), order_in(before)]

    ask(office, action, *orders, confirmed="yes")

    assert [status_of(order_id) for order_id in orders] == [after, after]


def test_each_order_has_its_own_result(office: Client) -> None:
    paid, shipped, rejected = order_in(Status.PAID), order_in(Status.PAID), order_in(Status.REJECTED)
    ask(office, "ship", shipped, confirmed="yes")

    page = text(ask(office, "ship", paid, shipped, rejected, confirmed="yes"))

    assert "1 of 3 orders done" in page
    assert f"done Order {numbers.to_text(paid)} is shipped." in page
    assert f"nothing to do Order {numbers.to_text(shipped)} is shipped already." in page
    assert "refused Ship was refused." in page
    assert status_of(rejected) is Status.REJECTED


def test_sending_the_confirmation_twice_does_nothing_more(office: Client) -> None:
    order_id = order_in(Status.PAID)
    ask(office, "ship", order_id, confirmed="yes")
    before = len(selectors.history(order_id))

    page = text(ask(office, "ship", order_id, confirmed="yes"))

    assert "0 of 1 order done" in page
    assert len(selectors.history(order_id)) == before


def test_orders_on_a_shard_that_is_down_are_told_of(office: Client) -> None:
    order_id = order_in(Status.PAID)
    alias = shards.alias_of(order_id)

    with down(alias):
        asked = ask(office, "ship", order_id)
        done = ask(office, "ship", order_id, confirmed="yes")

    assert f"({alias}) did not answer, so its orders are left out." in text(asked)
    assert "does not answer, so nothing was changed." in text(done)
    assert status_of(order_id) is Status.PAID


def test_without_orders_or_an_action_it_goes_back_to_the_list(office: Client) -> None:
    order_id = place()

    for fields in ({"action": "ship"}, {"order": numbers_of(order_id)}, {"action": "burn", "order": "nonsense"}):
        response = office.post(MANY, {"back": "?status=paid", **fields}, follow=True)
        assert response.redirect_chain == [(f"{ORDERS}?status=paid", 302)]
        assert "Tick the orders" in text(response)
    assert office.get(MANY).status_code == 302
    elsewhere = office.post(MANY, {"back": "//elsewhere.example"})
    assert elsewhere.headers["Location"] == ORDERS


def test_who_may_only_look_at_orders_moves_none(office: Client) -> None:
    order_id = order_in(Status.PAID)
    viewer = staff("view_order")

    assert ask(viewer, "ship", order_id, confirmed="yes").status_code == 403
    assert status_of(order_id) is Status.PAID
    assert 'type="checkbox"' not in viewer.get(ORDERS).content.decode()
    assert 'type="checkbox"' in office.get(ORDERS).content.decode()
