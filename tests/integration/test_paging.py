"""Lists that grow with the orders are paged by key: no counting, no offsets, and the same rows forwards and back."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from html import unescape
from typing import Any
from uuid import uuid4

import pytest
from django.contrib import admin
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import User
from django.db.models import Model
from django.test import Client
from django.urls import reverse

from backoffice.base import ReadOnlyList
from coupons.models import Redemption
from eventing import deadletters
from eventing.models import DeadLetter
from eventing.wire import Envelope
from inventory.models import Reservation, StockMovement
from monitoring.models import DailySales, StuckOrder
from notifications.models import Message
from orders.domain import Status
from payments.models import Payment
from sharding import numbers
from sharding.models import BucketMove
from tests.factories import NOON, CouponFactory, CustomerFactory, OperatorFactory
from tests.integration.order_samples import order_in
from tests.integration.statements import Statements, statements

pytestmark = pytest.mark.django_db(databases="__all__")

ROWS = 7
PAGE = 3
COUNTED = re.compile(r"SELECT COUNT\(", re.IGNORECASE)


def order_id(number: int) -> int:
    return numbers.new_order_id(7, NOON + timedelta(seconds=number))


def at(number: int) -> Any:
    """Two rows each are of the same moment."""
    return NOON + timedelta(seconds=number // 2)


def payments() -> None:
    for number in range(ROWS):
        Payment.objects.create(
            order_id=order_id(number), attempt=1, amount=100, currency="EUR", token="t", requested_at=at(number),
            status="captured" if number % 2 else "declined",
        )  # fmt: skip


def messages() -> None:
    for number in range(ROWS):
        Message.objects.create(
            customer_id=7, channel="inbox", about="placed", event_id=uuid4().hex, correlation_id="c",
            order_id=order_id(number), subject="Hello", body="", status="sent" if number % 2 else "pending",
            created_at=at(number),
        )  # fmt: skip


def movements() -> None:
    for number in range(ROWS):
        StockMovement.objects.create(
            sku="tea", kind="received" if number % 2 else "adjusted", quantity=1, reason="delivery", at=at(number)
        )


def reservations() -> None:
    for number in range(ROWS):
        Reservation.objects.create(
            order_id=order_id(number), status="reserved" if number % 2 else "shipped", version=1, created_at=at(number),
            updated_at=at(number),
        )  # fmt: skip


def redemptions() -> None:
    coupon = CouponFactory.create()
    for number in range(ROWS):
        Redemption.objects.create(
            order_id=order_id(number), customer_id=7, coupon=coupon, status="redeemed" if number % 2 else "released",
            version=1, at=at(number),
        )  # fmt: skip


def letters() -> None:
    for number in range(ROWS):
        envelope = Envelope(
            stream_id=order_id(number), category="order", version=1, type="order.placed", schema_version=1, data={},
            metadata={}, recorded_at=NOON,
        )  # fmt: skip
        deadletters.park(envelope, "inventory", ValueError("?"), "", attempts=1)


def actions() -> None:
    user = CustomerFactory.create(username="ann")
    for number in range(ROWS):
        LogEntry.objects.create(user=user, action_flag=CHANGE if number % 2 else 1, object_repr="A thing")


def days() -> None:
    for number in range(ROWS):
        DailySales.objects.create(
            day=NOON.date() + timedelta(days=number // 2), currency="EUR" if number % 2 else "USD", orders=1, paid=1,
            rejected=0, cancelled=0, refunded=0, revenue=100, counted_at=NOON,
        )  # fmt: skip


def stuck_orders() -> None:
    for number in range(ROWS):
        StuckOrder.objects.create(
            order_id=order_id(number), placed_at=at(number), waiting_for="The stock check.", reported_at=NOON
        )


def moves() -> None:
    for number in range(ROWS):
        BucketMove.objects.create(
            bucket=number, source="orders_0", target="orders_1", state="done" if number % 2 else "aborted"
        )


# How the list is filled, and a filter of it that leaves every second row.
FILLED: dict[type[Model], tuple[Callable[[], None], str]] = {
    Payment: (payments, "status__exact=captured"),
    Message: (messages, "status__exact=sent"),
    StockMovement: (movements, "kind__exact=received"),
    Reservation: (reservations, "status__exact=reserved"),
    Redemption: (redemptions, "status__exact=redeemed"),
    DeadLetter: (letters, "subscriber=inventory"),
    LogEntry: (actions, f"action_flag__exact={CHANGE}"),
    DailySales: (days, "currency=EUR"),
    StuckOrder: (stuck_orders, ""),
    BucketMove: (moves, "state__exact=done"),
}

models = pytest.mark.parametrize("model", FILLED, ids=lambda model: model.__name__)


@pytest.fixture
def office(db: None) -> Client:
    client = Client()
    client.force_login(OperatorFactory.create())
    return client


def list_of(model: type[Model], monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of the list, which is filled and has short pages."""
    FILLED[model][0]()
    monkeypatch.setattr(admin.site.get_model_admin(model), "list_per_page", PAGE)
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")


def keys(response: Any) -> list[Any]:
    assert response.status_code == 200
    return [row.pk for row in response.context["cl"].result_list]


def link(response: Any, rel: str) -> str | None:
    found = re.search(rf'<a href="([^"]+)" rel="{rel}"', response.content.decode())
    return None if found is None else unescape(found[1])


def walk(office: Client, path: str, query: str, rel: str) -> tuple[list[list[Any]], str]:
    """The keys of the pages, one after the other, and the last one's address."""
    pages = [keys(response := office.get(path + query))]
    while (following := link(response, rel)) is not None:
        query = following
        pages.append(keys(response := office.get(path + query)))
    return pages, query


@models
def test_a_list_is_read_forwards_and_back_without_gaps(
    office: Client, model: type[Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = list_of(model, monkeypatch)

    forwards, last = walk(office, path, "", "next")
    back, _ = walk(office, path, last, "prev")

    assert [len(page) for page in forwards] == [3, 3, 1]
    ordering = admin.site.get_model_admin(model).ordering
    assert [key for page in forwards for key in page] == list(
        model._default_manager.order_by(*ordering).values_list("pk", flat=True)
    )
    # Going back, the pages begin where the last one did.
    assert back == [forwards[2], forwards[1], forwards[0]]


@pytest.mark.parametrize(
    "model", [model for model, (_, chosen) in FILLED.items() if chosen], ids=lambda model: model.__name__
)
def test_pages_keep_the_filter(office: Client, model: type[Model], monkeypatch: pytest.MonkeyPatch) -> None:
    path, chosen = list_of(model, monkeypatch), FILLED[model][1]
    monkeypatch.setattr(admin.site.get_model_admin(model), "list_per_page", 1)
    name, value = chosen.split("=")
    wanted = model._default_manager.filter(**{name: value}).count()

    forwards, last = walk(office, path, f"?{chosen}", "next")

    assert [len(page) for page in forwards] == [1] * wanted
    assert wanted > 2
    assert chosen in last


def test_pages_keep_the_search(office: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    path = list_of(StockMovement, monkeypatch)
    StockMovement.objects.create(sku="cup", kind="received", quantity=1, reason="delivery", at=NOON)

    forwards, last = walk(office, path, "?q=tea", "next")

    assert [len(page) for page in forwards] == [3, 3, 1]
    assert "q=tea" in last
    # A new search begins at its first page.
    assert 'name="before"' not in office.get(path + last).content.decode()


def test_a_filter_leads_to_the_first_page_of_what_it_leaves(office: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    path = list_of(Payment, monkeypatch)

    second = office.get(path + str(link(office.get(path), "next")))

    filters = re.findall(r'href="(\?[^"]*status__exact[^"]*)"', second.content.decode())
    assert filters
    assert not [href for href in filters if "before" in href]


@models
def test_a_place_that_makes_no_sense_is_the_first_page(
    office: Client, model: type[Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = list_of(model, monkeypatch)
    first = keys(office.get(path))

    for place in ("nonsense", "1~2~3", "~", f"{10**30}~1", f"1~{10**30}", "1~not-a-key", "\x00"):
        assert keys(office.get(path, {"before": place})) == first, place


def test_rows_that_came_meanwhile_do_not_shift_the_pages(office: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    path = list_of(StockMovement, monkeypatch)
    first = office.get(path)
    movements()

    second = office.get(path + str(link(first, "next")))

    assert keys(second) == [key - PAGE for key in keys(first)]


def unwanted(noted: Statements) -> list[str]:
    """Offsets, and counts of more than a few rows."""
    return [sql for _, sql in noted.sent if " OFFSET " in sql.upper() or (COUNTED.search(sql) and "LIMIT" not in sql)]


@models
def test_no_page_of_a_list_counts_or_skips_rows(
    office: Client, model: type[Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, chosen = list_of(model, monkeypatch), FILLED[model][1]
    following = link(office.get(path), "next")

    with statements() as noted:
        for query in ("", str(following), f"?{chosen}", "?q=tea", "?all=", "?o=1", "?_facets=0"):
            office.get(path + query)

    assert noted.sent
    assert unwanted(noted) == []


@pytest.mark.parametrize("path", ["/admin/orders/order/", "/admin/eventing/event/"])
def test_no_page_of_orders_or_events_counts_or_skips_rows(office: Client, path: str) -> None:
    for number in range(51):
        order_in(Status.PLACED, number, at=NOON + timedelta(seconds=number))

    with statements() as noted:
        following = link(office.get(path), "next")
        office.get(path + str(following))

    assert following is not None
    assert len(noted.sent) > 4
    assert unwanted(noted) == []


def test_a_count_and_an_offset_are_noticed() -> None:
    with statements() as noted:
        User.objects.count()
        list(User.objects.order_by("pk")[2:4])
        User.objects.all()[:100].count()

    assert len(unwanted(noted)) == 2


def test_every_list_of_what_grows_with_the_orders_is_paged_by_key() -> None:
    assert {type(admin.site.get_model_admin(model)).__name__ for model in FILLED} == {
        type(one).__name__ for one in admin.site._registry.values() if isinstance(one, ReadOnlyList)
    }
