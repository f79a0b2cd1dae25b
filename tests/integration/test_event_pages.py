"""The back office's pages of events: over all databases, paged by key, and one event's whole way."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connections
from django.test import Client
from django.test.utils import CaptureQueriesContext

from backoffice.eventing.events import PAGE_SIZE
from eventing import browser
from eventing.models import OutboxMessage
from orders.domain import Status
from sharding import numbers, shards
from tests.factories import NOON, CustomerFactory, OperatorFactory
from tests.integration.order_samples import order_in, place
from tests.integration.shop_api import stock_the_shop
from tests.integration.test_admin import bought, client_of, down, link, park, text

pytestmark = pytest.mark.django_db(databases="__all__")

EVENTS = "/admin/eventing/event/"


@pytest.fixture
def office(db: None) -> Client:
    return client_of(OperatorFactory.create())


@pytest.fixture
def order_id() -> int:
    stock_the_shop()
    return bought(CustomerFactory.create(username="ann"), ("BOOK", 2), coupon="ten", token="tok_ok")


def listed(response: Any) -> list[str]:
    return re.findall(rf'<a href="{EVENTS}([^"/]+)/"', response.content.decode())


def test_events_of_all_databases_are_listed_newest_first(office: Client, order_id: int) -> None:
    number = numbers.to_text(order_id)

    response = office.get(EVENTS)

    found = listed(response)
    assert {f"order-{number}@1", f"reservation-{number}@1", f"redemption-{number}@1", f"payment-{number}@1"} <= set(
        found
    )
    assert found.index(f"order-{number}@4") < found.index(f"order-{number}@1")
    assert found.index(f"payment-{number}@2") < found.index(f"payment-{number}@1")
    assert shards.alias_of(order_id) in text(response)


def test_the_list_is_read_page_by_page_without_gaps(office: Client) -> None:
    for number in range(PAGE_SIZE):
        order_in(Status.CONFIRMED, at=NOON + timedelta(milliseconds=number))
    place(127)

    response = office.get(EVENTS)
    seen = listed(response)
    while (older := link(response, "next")) is not None:
        response = office.get(EVENTS + older)
        seen += listed(response)

    assert len(seen) == len(set(seen)) == 2 * PAGE_SIZE + 1
    assert "Newest" in text(response)


def test_events_are_found_by_type_stream_and_time(office: Client, order_id: int) -> None:
    number = numbers.to_text(order_id)

    def found(**query: str) -> set[str]:
        return set(listed(office.get(EVENTS, query)))

    assert found(type="payment.captured") == {f"payment-{number}@2"}
    assert found(stream=f"reservation-{number}") == {f"reservation-{number}@1"}
    assert {name.partition("-")[0] for name in found(stream=number.lower())} == {
        "order", "reservation", "redemption", "payment",
    }  # fmt: skip
    assert found(stream=number, type="order.paid") == {f"order-{number}@5"}
    assert found(until="2026-01-02T00:00") == set()
    assert f"order-{number}@1" in found(since="2026-01-02T00:00")


@pytest.mark.parametrize(
    "query,said",
    [
        ({"type": "order.burnt"}, "Select a valid choice"),
        ({"stream": "nonsense"}, "Neither a stream, nor an event, nor an order"),
        ({"since": "yesterday"}, "Enter a valid date/time"),
        ({"before": "x~y"}, "order.placed"),
        ({"before": "99999999999999999999~order-0000000000001@1"}, "order.placed"),
    ],
)
def test_what_makes_no_sense_narrows_nothing(office: Client, query: dict[str, str], said: str) -> None:
    place()
    response = office.get(EVENTS, query)

    assert said in text(response)
    assert len(listed(response)) == 1


def test_the_name_of_an_event_leads_to_it(office: Client) -> None:
    name = f"order-{numbers.to_text(place())}@1"

    assert office.get(EVENTS, {"stream": name}).headers["Location"] == f"{EVENTS}{name}/"


def test_an_event_shows_what_it_says_and_where_it_went(office: Client, order_id: int) -> None:
    number = numbers.to_text(order_id)

    response = office.get(f"{EVENTS}order-{number}@1/")

    page, html = text(response), response.content.decode()
    assert '<span class="bo-json-key">&quot;unit_price&quot;</span>' in html
    for subscriber in ("inventory", "coupons", "notifications"):
        assert re.search(rf"{subscriber} handled", page)
    assert f'href="{EVENTS}reservation-{number}@1/"' in html  # what it led to
    assert f'href="/admin/orders/order/{number}/change/"' in html
    assert f"Database {shards.alias_of(order_id)} Bucket {numbers.bucket_of(order_id)}" in page
    assert "Outbox published" in page

    effect = office.get(f"{EVENTS}reservation-{number}@1/").content.decode()
    assert f'because of <a class="bo-number" href="{EVENTS}order-{number}@1/"' in effect


def test_an_event_that_is_not_published_or_failed_says_so(office: Client) -> None:
    order_id = place()
    letter = park(order_id, "inventory")

    response = office.get(f"{EVENTS}order-{numbers.to_text(order_id)}@1/")

    assert "Outbox still waiting" in text(response)
    assert re.search(r"coupons not yet|notifications not yet", text(response))
    assert f"/admin/eventing/deadletter/{letter.pk}/change/" in response.content.decode()


@pytest.mark.parametrize("name", ["nonsense", "order-0000000000001@1", "order-0000000000001", "order-x@y"])
def test_an_event_that_is_not_there_is_not_found(office: Client, name: str) -> None:
    assert office.get(f"{EVENTS}{name}/").status_code == 404


def test_a_database_that_is_down_is_named(office: Client) -> None:
    here, there = place(0), place(127)

    with down(shards.alias_of(here)):
        response = office.get(EVENTS)
        outbox = office.get("/admin/eventing/outbox/")

    assert listed(response) == [f"order-{numbers.to_text(there)}@1"]
    assert f"The database {shards.alias_of(here)} does not answer" in text(response)
    assert f"{shards.alias_of(here)} does not answer" in text(outbox)


def test_pages_of_events_neither_count_nor_skip(office: Client, order_id: int) -> None:
    for path in (EVENTS, f"{EVENTS}order-{numbers.to_text(order_id)}@1/", "/admin/eventing/outbox/"):
        captures = {alias: CaptureQueriesContext(connections[alias]) for alias in connections}
        for capture in captures.values():
            capture.__enter__()
        assert office.get(path).status_code == 200
        for capture in captures.values():
            capture.__exit__(None, None, None)
        asked = [query["sql"] for capture in captures.values() for query in capture.captured_queries]
        of_events = [sql for sql in asked if "eventing_event" in sql]
        assert not [sql for sql in of_events if "COUNT(" in sql or "OFFSET" in sql]
        assert all(len(capture) <= 10 for capture in captures.values())


def test_the_outbox_shows_what_waits_in_each_database(office: Client) -> None:
    order_id = place()
    OutboxMessage.objects.using("default").all().delete()

    page = text(office.get("/admin/eventing/outbox/"))

    assert "default empty" in page
    age = r"(now|a second ago|\d+\sseconds ago) \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC"  # however slow the page was
    assert re.search(f"{shards.alias_of(order_id)} 1 waiting, the oldest from {age} order.placed", page)


def test_events_that_wait_are_shown_up_to_a_limit() -> None:
    for _ in range(3):
        place(0)
    alias = shards.alias_of_bucket(numbers.bucket_of_customer(0))

    outbox = next(one for one in browser.outboxes(limit=2) if one.alias == alias)

    assert (len(outbox.events), outbox.more) == (2, True)
    assert outbox.oldest == outbox.events[0].recorded_at


def test_what_operators_do_is_on_record_and_cannot_be_changed(office: Client) -> None:
    order_id = order_in(Status.PAID)
    number = numbers.to_text(order_id)
    office.post(f"/admin/orders/order/{number}/act/", {"action": "ship"})
    entry = LogEntry.objects.get()

    response = office.get("/admin/admin/logentry/", {"q": "olga"})

    assert f"olga changed Order {number} It is shipped." in text(response)
    assert f"/admin/orders/order/{number}/change/" in unescape(response.content.decode())
    assert 'name="_save"' not in office.get(f"/admin/admin/logentry/{entry.pk}/change/").content.decode()
    assert office.post(f"/admin/admin/logentry/{entry.pk}/delete/", {"post": "yes"}).status_code == 403
