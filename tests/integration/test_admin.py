"""The back office as operators see it: orders of all shards, their events, stock, coupons, dead letters."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import OperationalError, connections
from django.http import HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from backoffice import eventing as pages
from backoffice.orders import PAGE_SIZE
from checkout import service as checkout
from coupons.models import Coupon
from eventing import deadletters, wire
from eventing.models import DeadLetter, Event
from eventing.recorded import Metadata
from eventing.testing import drain
from inventory import handlers as inventory
from inventory.models import Category, Product, Stock, StockMovement
from notifications.models import Message
from orders import handlers, selectors
from orders.domain import Status
from orders.events import OrderDeadlineExtended
from payments.models import Payment
from sharding import numbers, shards
from tests.factories import NOON, CustomerFactory, EmployeeFactory, OperatorFactory, ProductFactory
from tests.integration.browser_forms import opened
from tests.integration.order_samples import order_in, place
from tests.integration.shop_api import stock_the_shop

pytestmark = pytest.mark.django_db(databases="__all__")

ORDERS = "/admin/orders/order/"


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def operator(db: None) -> User:
    return OperatorFactory.create()


@pytest.fixture
def office(operator: User) -> Client:
    return client_of(operator)


@pytest.fixture
def customer(db: None) -> User:
    return CustomerFactory.create(username="ann", first_name="Ann", last_name="Archer")


def staff(*permissions: str) -> Client:
    """Somebody who works here and may do just this."""
    return client_of(EmployeeFactory.create(permissions=permissions))


def page_of(order_id: int) -> str:
    return f"{ORDERS}{numbers.to_text(order_id)}/change/"


def text(response: Any) -> str:
    """What is on the page, without markup and with single spaces."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", response.content.decode())).split())


def listed(response: HttpResponse) -> list[str]:
    """The numbers of the orders on a page of the list, from top to bottom."""
    return re.findall(r'class="bo-number" href="/admin/orders/order/(\w+)/change/"', response.content.decode())


def link(response: HttpResponse, relation: str) -> str | None:
    found = re.search(rf'<a href="([^"]+)" rel="{relation}"', response.content.decode())
    return unescape(found[1]) if found else None


def down(alias: str) -> Any:
    def refuse(*args: Any) -> None:
        raise OperationalError("connection refused")

    return connections[alias].execute_wrapper(refuse)


def bought(customer: User, *wanted: tuple[str, int], coupon: str | None = None, token: str | None = None) -> int:
    """An order whose events have all been delivered; paid if there is a token."""
    metadata = Metadata(correlation_id="a-request", actor=f"customer:{customer.pk}")
    order_id = checkout.place(customer.pk, wanted, coupon, key=uuid4().hex, metadata=metadata).order_id
    drain()
    if token is not None:
        checkout.pay(order_id, customer.pk, token, metadata)
        drain()
    return order_id


# --- The list of orders -------------------------------------------------------------------------------------------


def test_orders_of_all_shards_are_listed_newest_first(office: Client) -> None:
    order_ids = [place(customer_id, at=NOON + timedelta(minutes=customer_id)) for customer_id in (3, 70, 126)]

    response = office.get(ORDERS)

    assert len({shards.alias_of(order_id) for order_id in order_ids}) > 1
    assert listed(response) == [numbers.to_text(order_id) for order_id in reversed(order_ids)]
    assert link(response, "next") is None
    assert link(response, "prev") is None


def test_the_list_is_read_page_by_page_down_and_up_again(office: Client) -> None:
    count = 2 * PAGE_SIZE + 3
    newest_first = [numbers.to_text(place(number, at=NOON - timedelta(minutes=number))) for number in range(count)]

    first = office.get(ORDERS)
    second = office.get(ORDERS + str(link(first, "next")))
    third = office.get(ORDERS + str(link(second, "next")))
    back = office.get(ORDERS + str(link(third, "prev")))
    top = office.get(ORDERS + str(link(back, "prev")))

    assert listed(first) + listed(second) + listed(third) == newest_first
    assert link(third, "next") is None
    assert (listed(back), listed(top)) == (listed(second), listed(first))
    assert link(top, "prev") is None


def test_a_cursor_that_makes_no_sense_shows_the_first_page(office: Client) -> None:
    number = numbers.to_text(place())

    for cursor in ("x", "1-2", "-", "99999999999999999999-0000000000001", "1-0000000000001-2"):
        assert listed(office.get(ORDERS, {"before": cursor, "customer": "x", "status": "lost"})) in ([number], [])


def test_orders_of_one_status_can_be_picked(office: Client) -> None:
    paid = order_in(Status.PAID)
    order_in(Status.REJECTED)

    assert listed(office.get(ORDERS, {"status": "paid"})) == [numbers.to_text(paid)]
    assert "No order is shipped." in text(office.get(ORDERS, {"status": "shipped"}))


@pytest.mark.parametrize("spelling", [str.lower, lambda number: f" {number[:5]}-{number[5:]} "])
def test_a_number_in_the_search_leads_to_the_order(office: Client, spelling: Any) -> None:
    order_id = place()

    response = office.get(ORDERS, {"q": spelling(numbers.to_text(order_id))})

    assert (response.status_code, response.headers["Location"]) == (302, page_of(order_id))


@pytest.mark.parametrize("search", ["ann@example.org", "ANN@Example.org", "ann", "Archer", "archer ann"])
def test_a_customer_in_the_search_leads_to_their_orders(office: Client, customer: User, search: str) -> None:
    order_id = place(customer.pk)
    place(customer.pk + 1)

    response = office.get(ORDERS, {"q": search}, follow=True)

    assert response.redirect_chain == [(f"{ORDERS}?customer={customer.pk}", 302)]
    assert listed(response) == [numbers.to_text(order_id)]
    assert "ann@example.org" in text(response)


def test_several_customers_are_offered_to_choose_from(office: Client, customer: User) -> None:
    CustomerFactory.create(username="anna")
    place(customer.pk)

    response = office.get(ORDERS, {"q": "an"})

    assert f'href="{ORDERS}?customer={customer.pk}"' in response.content.decode()
    assert "anna" in text(response)
    assert listed(response) == []


@pytest.mark.parametrize("spelling", [str.lower, lambda part: f"{part[:2]}-{part[2:]}"])
@pytest.mark.parametrize("part", [slice(0, 12), slice(3, 11), slice(5, 13), slice(1, 13)])
def test_a_part_of_a_number_in_the_search_leads_to_the_orders_with_it(
    office: Client, part: slice, spelling: Any
) -> None:
    number = numbers.to_text(place())
    others = [numbers.to_text(place(customer_id)) for customer_id in (70, 126)]

    response = office.get(ORDERS, {"q": spelling(number[part])}, follow=True)

    assert number in listed(response)
    assert sorted(listed(response)) == sorted(one for one in (number, *others) if number[part] in one)


def test_a_tracking_number_in_the_search_leads_to_its_orders(office: Client) -> None:
    order_id = order_in(Status.PAID)
    order_in(Status.SHIPPED, customer_id=9)
    act(office, order_id, "ship", tracking="JJD-0042 X")

    for search in ("JJD-0042 X", "jjd-0042 x"):
        assert listed(office.get(ORDERS, {"q": search}, follow=True)) == [numbers.to_text(order_id)]
    assert listed(office.get(ORDERS, {"tracking": "JJD-0042"})) == []


def test_a_product_in_the_search_leads_to_its_orders(office: Client, customer: User) -> None:
    stock_the_shop()
    with_book = bought(customer, ("BOOK", 1))
    bought(customer, ("PEN", 1))

    assert listed(office.get(ORDERS, {"q": "book"}, follow=True)) == [numbers.to_text(with_book)]


def test_what_can_mean_several_things_is_offered_to_choose_from(office: Client, customer: User) -> None:
    stock_the_shop()
    bought(customer, ("BOOK", 1))
    CustomerFactory.create(username="booker", email="")

    response = office.get(ORDERS, {"q": "book"})

    assert "“book” can be one of these: booker Orders of BOOK A book" in text(response)


def test_a_search_that_finds_nobody_says_so(office: Client) -> None:
    assert "No order, customer, product or parcel matches “nobody”." in text(office.get(ORDERS, {"q": "nobody"}))


def test_a_shard_that_is_down_is_named_above_the_orders_of_the_others(office: Client) -> None:
    here, there = place(0), place(127)
    away = shards.alias_of(here)

    with down(away):
        response = office.get(ORDERS)

    assert listed(response) == [numbers.to_text(there)]
    assert f"({away}) did not answer, so its orders are missing here." in text(response)


def test_the_list_neither_counts_nor_skips_orders_and_asks_the_same_for_few_and_for_many(office: Client) -> None:
    def asked() -> Sequence[str]:
        statements: list[str] = []
        captures = {alias: CaptureQueriesContext(connections[alias]) for alias in ("default", *shards.aliases())}
        for capture in captures.values():
            capture.__enter__()
        office.get(ORDERS)
        for capture in captures.values():
            capture.__exit__(None, None, None)
            statements += [query["sql"] for query in capture.captured_queries]
        return statements

    place(1)
    asked()  # content types and the like are asked for once
    few = asked()
    for customer_id in range(2, 40):
        CustomerFactory.create(username=f"customer{customer_id}")
        place(customer_id)
    many = asked()

    assert len(many) == len(few) <= 12 + len(shards.aliases())
    assert not [sql for sql in many if "orders_order" in sql and ("COUNT(" in sql or "OFFSET" in sql)]


# --- The page of an order -----------------------------------------------------------------------------------------


def test_the_page_of_an_order_shows_what_it_is_and_everything_that_happened(office: Client, customer: User) -> None:
    stock_the_shop()
    order_id = bought(customer, ("BOOK", 2), ("PEN", 1), coupon="ten", token="tok_ok")

    page = text(office.get(page_of(order_id)))

    for line in ("A book BOOK €10.00 2 €20.00", "A pen PEN €2.50 1 €2.50", "Subtotal €22.50", "Coupon TEN", "€20.25"):
        assert line in page
    for event in (
        "order.placed", "inventory.stock_reserved", "coupon.redeemed", "order.check_passed", "order.confirmed",
        "payment.requested", "payment.captured", "order.paid",
    ):  # fmt: skip
        assert event in page
    assert f"by customer:{customer.pk}" in page
    assert "by inventory because of order.placed" in page
    assert "by orders because of payment.captured" in page
    assert "correlation id a-request" in page
    assert "Your order" in page  # one of the messages
    assert f"Database {shards.alias_of(order_id)} Bucket {numbers.bucket_of(order_id)}" in page


def test_every_event_of_the_timeline_has_its_data_and_links_to_its_cause(office: Client, customer: User) -> None:
    stock_the_shop()
    order_id = bought(customer, ("BOOK", 2))
    number = numbers.to_text(order_id)

    html = office.get(page_of(order_id)).content.decode()

    events = [f"order-{number}@1", f"reservation-{number}@1", f"order-{number}@2"]
    assert re.findall(r'<li id="([^"]+)"', html) == events
    assert f'<a href="#order-{number}@1">order.placed</a>' in html
    assert '<span class="bo-json-key">&quot;unit_price&quot;</span>: <span class="bo-json-value">1000</span>' in html


def test_what_customers_typed_is_shown_as_text(office: Client, customer: User) -> None:
    name = "<script>alert(1)</script>"
    User.objects.filter(pk=customer.pk).update(first_name=name)
    ProductFactory.create(sku="EVIL", name=name)
    inventory.receive_stock("EVIL", 5, name, NOON, Metadata(correlation_id="test"))
    order_id = bought(customer, ("EVIL", 1))

    for path in (ORDERS, page_of(order_id), "/admin/inventory/stockmovement/", "/admin/notifications/message/"):
        assert "<script>alert" not in office.get(path).content.decode()


def test_a_dead_letter_of_an_order_is_on_its_page_and_links_back(office: Client) -> None:
    order_id = order_in(Status.CONFIRMED)
    letter = park(order_id)

    assert f"/admin/eventing/deadletter/{letter.pk}/change/" in office.get(page_of(order_id)).content.decode()
    assert page_of(order_id) in office.get(f"/admin/eventing/deadletter/{letter.pk}/change/").content.decode()


def test_an_order_that_does_not_exist_leads_back_to_the_list_with_a_message(office: Client) -> None:
    for number in ("0000000000001", "nonsense"):
        response = office.get(f"{ORDERS}{number}/change/", follow=True)

        assert response.redirect_chain[-1][0] == ORDERS
        assert f"There is no order “{number}”." in text(response)


def test_an_order_whose_shard_is_down_says_which_one(office: Client) -> None:
    order_id = place()
    alias = shards.alias_of(order_id)

    with down(alias):
        response = office.get(page_of(order_id))

    assert (response.status_code, response.headers["Retry-After"]) == (503, "5")
    assert f"The database {alias} does not answer" in text(response)


def test_the_page_of_an_order_takes_a_bounded_number_of_queries(office: Client, customer: User) -> None:
    stock_the_shop()
    order_id = bought(customer, ("BOOK", 2), ("PEN", 1), ("LAMP", 1), coupon="ten", token="tok_ok")
    office.get(page_of(order_id))

    shard_of_order = connections[shards.alias_of(order_id)]
    with CaptureQueriesContext(connections["default"]) as default, CaptureQueriesContext(shard_of_order) as shard:
        office.get(page_of(order_id))

    assert len(default) + len(shard) <= 20
    assert not [query for query in (*default, *shard) if "COUNT(" in query["sql"] and "eventing_event" in query["sql"]]


# --- What operators ask of orders ---------------------------------------------------------------------------------


def act(client: Client, order_id: int, action: str, **fields: str) -> Any:
    return client.post(f"{ORDERS}{numbers.to_text(order_id)}/act/", {"action": action, **fields}, follow=True)


@pytest.mark.parametrize(
    "before,action,after",
    [
        (Status.PAID, "ship", Status.SHIPPED),
        (Status.SHIPPED, "deliver", Status.DELIVERED),
        (Status.PLACED, "cancel", Status.CANCELLED),
        (Status.CONFIRMED, "cancel", Status.CANCELLED),
        (Status.PAID, "refund", Status.REFUNDED),
    ],
)
def test_an_action_is_offered_where_it_is_possible_and_moves_the_order(
    office: Client, operator: User, before: Status, action: str, after: Status
) -> None:
    order_id = order_in(before)
    assert f'name="action" value="{action}"' in office.get(page_of(order_id)).content.decode()

    response = act(office, order_id, action, tracking="T1")

    order = selectors.get(order_id)
    assert order is not None
    assert order.status is after
    assert selectors.history(order_id)[-1].metadata.actor == f"operator:{operator.pk}"
    assert f"Order {order.number} is {after}." in text(response)
    assert f'name="action" value="{action}"' not in response.content.decode()
    assert LogEntry.objects.get().object_id == order.number
    assert "Olga" not in text(office.get(f"{ORDERS}{order.number}/history/"))
    assert operator.username in text(office.get(f"{ORDERS}{order.number}/history/"))


def test_the_tracking_number_is_kept(office: Client) -> None:
    order_id = order_in(Status.PAID)

    act(office, order_id, "ship", tracking=" 1Z 999 ")

    assert selectors.history(order_id)[-1].event.tracking == "1Z 999"  # type: ignore[union-attr]


def test_a_refusal_is_told_and_changes_nothing(office: Client) -> None:
    order_id = order_in(Status.SHIPPED)
    before = selectors.history(order_id)

    for action, said in (
        ("cancel", "Cancel was refused. The order has been shipped and can no longer be cancelled: it is shipped."),
        ("refund", "Refund was refused. The order has been shipped and can no longer be refunded: it is shipped."),
        ("ship", "Ship was refused. The order has been shipped with another tracking number"),
    ):
        assert said in text(act(office, order_id, action))
    assert selectors.history(order_id) == before
    assert not LogEntry.objects.exists()


def test_a_second_click_does_nothing_and_says_so(office: Client) -> None:
    order_id = order_in(Status.SHIPPED)
    act(office, order_id, "deliver")
    before = selectors.history(order_id)

    response = act(office, order_id, "deliver")

    assert "is delivered already." in text(response)
    assert selectors.history(order_id) == before
    assert LogEntry.objects.count() == 1


@pytest.mark.parametrize("tracking", ["x" * 101, "line\nbreak", "bell\x07"])
def test_a_tracking_number_of_another_kind_is_refused(office: Client, tracking: str) -> None:
    order_id = order_in(Status.PAID)

    assert "A tracking number has up to 100 printable characters: " in text(
        act(office, order_id, "ship", tracking=tracking)
    )
    assert selectors.get(order_id).status is Status.PAID  # type: ignore[union-attr]


def test_an_operator_gives_more_time_to_pay(office: Client, operator: User) -> None:
    order_id = order_in(Status.CONFIRMED, at=timezone.now())
    order = selectors.get(order_id)
    assert order is not None
    assert order.expires_at is not None
    until = (order.expires_at + timedelta(hours=3)).replace(second=0, microsecond=0)
    assert 'type="datetime-local"' in office.get(page_of(order_id)).content.decode()

    response = act(office, order_id, "extend", until=f"{until:%Y-%m-%dT%H:%M}")
    again = act(office, order_id, "extend", until=f"{until:%Y-%m-%dT%H:%M}")

    assert f"Order {order.number} has the new deadline." in text(response)
    assert "has the new deadline already." in text(again)
    last = selectors.history(order_id)[-1]
    assert last.event == OrderDeadlineExtended(customer_id=order.customer_id, payment_due_at=until, at=last.event.at)
    assert last.metadata.actor == f"operator:{operator.pk}"
    assert selectors.get(order_id).expires_at == until  # type: ignore[union-attr]
    assert LogEntry.objects.count() == 1


@pytest.mark.parametrize(
    "status,until,said",
    [
        (Status.CONFIRMED, "", "Give the new deadline as a date and a time"),
        (Status.CONFIRMED, "soon", "Give the new deadline as a date and a time"),
        (Status.CONFIRMED, "2020-01-01T00:00", "must lie in the future and within the longest payment term"),
        (Status.CONFIRMED, "2999-01-01T00:00", "must lie in the future and within the longest payment term"),
        (Status.PAID, "2999-01-01T00:00", "has no deadline: it is paid."),
        (Status.CANCELLED, "2999-01-01T00:00", "has no deadline: it is cancelled."),
    ],
)
def test_a_deadline_that_cannot_be_is_refused_and_changes_nothing(
    office: Client, status: Status, until: str, said: str
) -> None:
    order_id = order_in(status)
    before = selectors.history(order_id)

    assert said in text(act(office, order_id, "extend", until=until))
    assert selectors.history(order_id) == before
    assert not LogEntry.objects.exists()


def test_an_action_nobody_knows_and_one_that_is_only_looked_at_do_nothing(office: Client) -> None:
    order_id = order_in(Status.PAID)
    before = selectors.history(order_id)

    act(office, order_id, "explode")
    office.get(f"{ORDERS}{numbers.to_text(order_id)}/act/?action=ship", follow=True)

    assert selectors.history(order_id) == before


def test_an_order_that_does_not_exist_cannot_be_acted_on(office: Client) -> None:
    assert "There is no such order." in text(act(office, numbers.new_order_id(7, NOON), "cancel"))


def test_an_action_on_a_shard_that_is_down_says_that_nothing_was_changed(
    office: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    order_id = order_in(Status.PAID)

    def refuse(*args: Any) -> None:
        raise OperationalError("connection refused")

    monkeypatch.setattr(handlers, "handle", refuse)

    assert "does not answer, so nothing was changed." in text(act(office, order_id, "ship"))


# --- Who may do what ----------------------------------------------------------------------------------------------


def test_who_may_only_look_sees_the_page_without_buttons_and_is_refused_the_actions() -> None:
    order_id = order_in(Status.PAID)
    viewer = staff("view_order")

    page = viewer.get(page_of(order_id))
    assert page.status_code == 200
    assert 'name="action"' not in page.content.decode()
    assert act(viewer, order_id, "ship").status_code == 403
    assert selectors.get(order_id).status is Status.PAID  # type: ignore[union-attr]


def test_who_may_not_look_at_orders_is_refused_their_pages() -> None:
    order_id = place()
    somebody = staff("view_product")

    for path in (ORDERS, page_of(order_id)):
        assert somebody.get(path).status_code == 403


def test_a_shopper_is_asked_to_sign_in_as_somebody_else(customer: User) -> None:
    order_id = place()
    for path in ("/admin/", ORDERS, page_of(order_id)):
        response = client_of(customer).get(path)
        assert response.status_code == 302
        assert response.headers["Location"].startswith("/admin/login/")


def test_orders_are_neither_added_nor_deleted_here(office: Client) -> None:
    order_id = place()

    assert office.get(f"{ORDERS}add/").status_code == 403
    assert office.post(f"{ORDERS}{numbers.to_text(order_id)}/delete/", {"post": "yes"}).status_code == 403
    assert selectors.get(order_id) is not None


def test_the_sidebar_has_what_the_operator_may_see() -> None:
    page = staff("view_product", "view_payment").get("/admin/").content.decode()

    assert re.findall(r'<a href="(/admin/\w+/\w+/)"', page[page.index("bo-cards") :]) == [
        "/admin/inventory/product/",
        "/admin/payments/payment/",
    ]
    assert "Dead letters" not in page


# --- Products and stock -------------------------------------------------------------------------------------------


@pytest.fixture
def book(db: None) -> Product:
    stock_the_shop()
    return Product.objects.get(sku="BOOK")


def product_form(book: Product, **changes: Any) -> dict[str, Any]:
    fields = {"name": book.name, "category": book.category_id, "description": "", "price": "10.00", "picture": ""}
    return fields | {"active": "on"} | changes


def test_a_price_is_typed_as_an_amount_and_kept_in_minor_units(office: Client, book: Product) -> None:
    path = f"/admin/inventory/product/{book.pk}/change/"
    assert 'value="10.00"' in office.get(path).content.decode()

    office.post(path, product_form(book, price="12.34") | opened(office, path))

    book.refresh_from_db()
    assert (book.price, book.currency) == (1234, "EUR")


@pytest.mark.parametrize("price", ["0", "-1", "1.234", "free", ""])
def test_a_price_that_is_none_is_refused_beside_the_field(office: Client, book: Product, price: str) -> None:
    path = f"/admin/inventory/product/{book.pk}/change/"
    response = office.post(path, product_form(book, price=price) | opened(office, path))

    assert response.status_code == 200
    book.refresh_from_db()
    assert book.price == 1000


def test_saving_a_product_does_not_touch_its_number_or_stock(office: Client, book: Product) -> None:
    path = f"/admin/inventory/product/{book.pk}/change/"
    office.post(path, product_form(book, sku="OTHER", on_hand="5", name="New") | opened(office, path))

    book.refresh_from_db()
    assert (book.sku, book.name, book.stock.on_hand) == ("BOOK", "New", 1000)


def test_a_new_product_starts_with_an_empty_stock(office: Client, book: Product) -> None:
    response = office.post("/admin/inventory/product/add/", product_form(book, sku="CUP", name="A cup", price="4.50"))

    assert response.status_code == 302
    cup = Product.objects.select_related("stock").get(sku="CUP")
    assert (cup.price, cup.currency, cup.stock.on_hand) == (450, "EUR", 0)


@pytest.mark.parametrize("sku", ["BOOK", "with space", "-dash", ""])
def test_a_product_number_that_is_taken_or_malformed_is_refused(office: Client, book: Product, sku: str) -> None:
    response = office.post("/admin/inventory/product/add/", product_form(book, sku=sku))

    assert response.status_code == 200
    assert Product.objects.count() == 3


def receive(client: Client, book: Product, **fields: Any) -> Any:
    path = f"/admin/inventory/product/{book.pk}/receive-stock/"
    seen = Stock.objects.get(pk=book.sku).version
    return client.post(path, {"quantity": "5", "reason": "delivery 7", "seen": seen} | fields, follow=True)


def test_stock_is_received_with_a_quantity_and_a_reason(office: Client, operator: User, book: Product) -> None:
    assert "1000 on hand" in text(office.get(f"/admin/inventory/product/{book.pk}/receive-stock/"))

    response = receive(office, book)

    assert "A book: Received 5:" in text(response)
    assert Stock.objects.get(pk="BOOK").on_hand == 1005
    newest = StockMovement.objects.filter(sku="BOOK").first()
    assert newest is not None
    assert (newest.quantity, newest.reason) == (5, "delivery 7")
    event = Event.objects.filter(type="inventory.stock_received", stream_id=book.pk).order_by("-version").first()
    assert event is not None
    assert event.metadata["actor"] == f"operator:{operator.pk}"


def test_a_delivery_that_is_sent_twice_comes_in_once(office: Client, book: Product) -> None:
    seen = Stock.objects.get(pk="BOOK").version
    receive(office, book, seen=seen)

    again = receive(office, book, seen=seen)

    assert "The stock of this product was changed since this form was opened." in text(again)
    assert Stock.objects.get(pk="BOOK").on_hand == 1005
    assert f'name="seen" value="{seen + 1}"' in again.content.decode()


@pytest.mark.parametrize(
    "fields", [{"quantity": "0"}, {"quantity": "-3"}, {"quantity": "1.5"}, {"quantity": "9999999"}, {"reason": ""}]
)
def test_what_is_no_delivery_is_refused(office: Client, book: Product, fields: dict[str, str]) -> None:
    response = receive(office, book, **fields)

    assert response.redirect_chain == []
    assert Stock.objects.get(pk="BOOK").on_hand == 1000


def test_who_may_only_look_at_products_receives_no_stock(book: Product) -> None:
    assert receive(staff("view_product"), book).status_code == 403
    assert Stock.objects.get(pk="BOOK").on_hand == 1000


def test_products_are_found_and_filtered(office: Client, book: Product) -> None:
    Stock.objects.filter(pk="PEN").update(on_hand=0, available=0)
    category = Category.objects.create(slug="others", name="Others")

    def names(**query: Any) -> set[str]:
        found = office.get("/admin/inventory/product/", query).content.decode()
        return {name for name in ("A book", "A pen", "A lamp") if name in found}

    assert names() == {"A book", "A pen", "A lamp"}
    assert names(q="lam") == {"A lamp"}
    assert names(stock="none") == {"A pen"}
    assert names(stock="some") == {"A book", "A lamp"}
    assert names(category__id__exact=category.pk) == set()


# --- Coupons ------------------------------------------------------------------------------------------------------


def coupon_form(**changes: Any) -> dict[str, Any]:
    return {
        "code": "ten",
        "kind": "percentage",
        "value": "10",
        "minimum_spend": "20.00",
        "valid_from_0": "2026-01-01",
        "valid_from_1": "00:00",
        "valid_until_0": "",
        "valid_until_1": "",
        "total_limit": "5",
        "per_customer_limit": "",
        "active": "on",
    } | changes


def test_a_coupon_is_made_in_the_units_of_people(office: Client) -> None:
    response = office.post("/admin/coupons/coupon/add/", coupon_form())

    assert response.status_code == 302
    coupon = Coupon.objects.get()
    assert (coupon.code, coupon.value, coupon.minimum_spend, coupon.currency) == ("TEN", 1000, 2000, "EUR")
    assert coupon.valid_from == datetime(2026, 1, 1, tzinfo=UTC)
    page = text(office.get("/admin/coupons/coupon/"))
    assert "TEN 10 % €20.00" in page
    assert "0 of 5" in page


@pytest.mark.parametrize(
    "changes,said",
    [
        ({"value": "100.01"}, "a percentage is 0.01 % to 100 %, got 100.01 %"),
        ({"value": "0"}, "a percentage is 0.01 % to 100 %, got 0 %"),
        ({"value": "0", "kind": "fixed"}, "an amount off is 0.01 EUR to 10000000000.00 EUR, got 0.00 EUR"),
        ({"code": "no spaces"}, "A code has up to 40"),
        ({"valid_until_0": "2025-01-01", "valid_until_1": "00:00"}, "before it begins"),
        ({"total_limit": "0"}, "a limit is at least 1"),
    ],
)
def test_terms_that_make_no_sense_are_refused(office: Client, changes: dict[str, str], said: str) -> None:
    response = office.post("/admin/coupons/coupon/add/", coupon_form(**changes))

    assert response.status_code == 200
    assert said.lower() in text(response).lower()
    assert not Coupon.objects.exists()


def test_saving_a_coupon_leaves_alone_how_often_it_is_used(office: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    office.post("/admin/coupons/coupon/add/", coupon_form())
    coupon = Coupon.objects.get()
    save = Coupon.save

    def save_late(self: Coupon, *args: Any, **kwargs: Any) -> None:
        Coupon.objects.filter(pk=coupon.pk).update(redeemed=3)  # a worker was faster
        save(self, *args, **kwargs)

    fields = opened(office, f"/admin/coupons/coupon/{coupon.pk}/change/")
    monkeypatch.setattr(Coupon, "save", save_late)
    path = f"/admin/coupons/coupon/{coupon.pk}/change/"
    office.post(path, coupon_form(code="OTHER", total_limit="9") | fields)

    coupon.refresh_from_db()
    assert (coupon.code, coupon.total_limit, coupon.redeemed) == ("TEN", 9, 3)


# --- Dead letters -------------------------------------------------------------------------------------------------


def park(order_id: int, subscriber: str = "inventory") -> DeadLetter:
    """The first event of an order could not be handled."""
    event = Event.objects.using(shards.alias_of(order_id)).get(stream_id=order_id, category="order", version=1)
    envelope = wire.Envelope(
        stream_id=event.stream_id,
        category=event.category,
        version=event.version,
        type=event.type,
        schema_version=event.schema_version,
        data=event.data,
        metadata=event.metadata,
        recorded_at=event.recorded_at,
    )
    error = ValueError("<b>no</b> such shelf")
    deadletters.park(envelope, subscriber, error, "Traceback: line 1\n  line 2", attempts=3)
    return DeadLetter.objects.get(stream_id=order_id, subscriber=subscriber)


class FakePublisher:
    """Takes messages, or has no broker."""

    errors: tuple[type[Exception], ...] = (ConnectionError,)

    def __init__(self, broken_after: int | None = None) -> None:
        self.sent: list[str] = []
        self.broken_after = broken_after

    def __enter__(self) -> FakePublisher:
        return self

    def __exit__(self, *args: Any) -> None: ...

    def send(self, message: wire.Message[wire.Envelope]) -> None:
        if len(self.sent) == self.broken_after:
            raise ConnectionError("broker away")
        self.sent += [f"{message.subscriber}: {envelope.id}" for envelope in message.events]


def settle(client: Client, action: str, *letters: DeadLetter) -> str:
    return text(
        client.post(
            "/admin/eventing/deadletter/",
            {"action": action, "_selected_action": [letter.pk for letter in letters]},
            follow=True,
        )
    )


def statuses() -> list[str]:
    return list(DeadLetter.objects.order_by("id").values_list("status", flat=True))


def test_a_dead_letter_shows_event_error_and_traceback(office: Client) -> None:
    letter = park(place())

    listing = text(office.get("/admin/eventing/deadletter/"))
    page = office.get(f"/admin/eventing/deadletter/{letter.pk}/change/")

    assert "order.placed" in listing
    assert letter.event_id in listing
    assert "<b>no</b> such shelf" in unescape(page.content.decode())
    assert "&lt;b&gt;no&lt;/b&gt; such shelf" in page.content.decode()
    assert "Traceback: line 1" in text(page)
    assert "bo-json-key" in page.content.decode()
    assert 'name="_save"' not in page.content.decode()


def test_dead_letters_are_filtered_by_what_failed_and_how(office: Client) -> None:
    park(place(1), "inventory")
    park(place(2), "coupons")

    def found(**query: str) -> int:
        return office.get("/admin/eventing/deadletter/", query).content.decode().count("@1</a>")

    assert (found(), found(subscriber="coupons"), found(error="KeyError"), found(status="open")) == (2, 1, 0, 2)


def test_open_dead_letters_are_counted_in_the_sidebar(office: Client) -> None:
    park(place())

    assert re.search(r"Dead letters\s+1\b", text(office.get("/admin/")))


def test_a_redriven_letter_is_sent_to_its_subscriber_once_more(office: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    publisher = FakePublisher()
    monkeypatch.setattr(pages, "Publisher", lambda **options: publisher)
    letters = [park(place(1)), park(place(2), "coupons")]

    page = settle(office, "redrive", *letters)

    assert publisher.sent == [f"inventory: {letters[0].event_id}", f"coupons: {letters[1].event_id}"]
    assert statuses() == ["redriven", "redriven"]
    assert "2 dead letters were sent to the subscriber again." in page


def test_without_a_broker_the_letters_stay_open(office: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    publisher = FakePublisher(broken_after=1)
    monkeypatch.setattr(pages, "Publisher", lambda **options: publisher)

    page = settle(office, "redrive", park(place(1)), park(place(2)))

    assert statuses() == ["redriven", "open"]
    assert "The broker does not answer: broker away" in page
    assert "1 dead letter was sent to the subscriber again." in page


def test_who_may_only_look_at_dead_letters_settles_none() -> None:
    letter = park(place())
    viewer = staff("view_deadletter")

    settle(viewer, "archive", letter)

    assert statuses() == ["open"]
    assert "Redrive" not in text(viewer.get(f"/admin/eventing/deadletter/{letter.pk}/change/"))


# --- Everything else ----------------------------------------------------------------------------------------------

READ_ONLY = {
    "inventory_reservation": "reservation",
    "inventory_stockmovement": "stockmovement",
    "coupons_redemption": "redemption",
    "payments_payment": "payment",
    "notifications_message": "message",
    "eventing_deadletter": "deadletter",
    "sharding_bucket": "bucket",
}


@pytest.mark.parametrize("name", READ_ONLY)
def test_what_workers_write_is_only_looked_at(office: Client, customer: User, name: str) -> None:
    stock_the_shop()
    order_id = bought(customer, ("BOOK", 2), coupon="ten", token="tok_ok")
    park(order_id)
    listing = office.get(reverse(f"admin:{name}_changelist"))
    page = re.search(rf'href="(/admin/\w+/{READ_ONLY[name]}/[^/"]+/change/)', listing.content.decode())

    assert listing.status_code == 200
    assert page is not None
    assert office.get(page[1]).status_code == 200
    assert 'name="_save"' not in office.get(page[1]).content.decode()
    assert office.get(reverse(f"admin:{name}_add")).status_code == 403
    assert office.post(page[1].replace("change", "delete"), {"post": "yes"}).status_code == 403


@pytest.mark.parametrize("name", ["inventory_reservation", "coupons_redemption", "payments_payment"])
def test_what_belongs_to_an_order_is_found_by_its_number(office: Client, customer: User, name: str) -> None:
    stock_the_shop()
    order_id, _ = (bought(customer, ("BOOK", 2), coupon="ten", token="tok_ok") for _ in range(2))
    path = reverse(f"admin:{name}_changelist")

    assert len(listed(office.get(path))) == 2
    assert listed(office.get(path, {"q": numbers.to_text(order_id).lower()})) == [numbers.to_text(order_id)]
    assert listed(office.get(path, {"q": "nonsense"})) == []


def test_stock_movements_are_found_by_product_or_order(office: Client, customer: User) -> None:
    stock_the_shop()
    order_id = bought(customer, ("BOOK", 2), token="tok_ok")
    act(office, order_id, "ship")
    drain()

    by_order = text(office.get("/admin/inventory/stockmovement/", {"q": numbers.to_text(order_id)}))
    by_product = text(office.get("/admin/inventory/stockmovement/", {"q": "PEN"}))

    assert "-2 BOOK" in by_order
    assert "+1000 PEN" in by_product
    assert "BOOK" not in by_product


@pytest.mark.parametrize("name", ["notifications_message", "payments_payment", "inventory_reservation", "orders_order"])
def test_a_longer_list_takes_no_more_queries(office: Client, customer: User, name: str) -> None:
    stock_the_shop()
    path = reverse(f"admin:{name}_changelist")

    def asked() -> int:
        with CaptureQueriesContext(connections["default"]) as default:
            assert office.get(path).status_code == 200
        return len(default)

    bought(customer, ("BOOK", 1), token="tok_ok")
    asked()
    few = asked()
    for number in range(3):
        bought(CustomerFactory.create(username=f"more{number}"), ("BOOK", 1), token="tok_ok")

    assert asked() == few


def test_a_payment_does_not_show_its_token(office: Client, customer: User) -> None:
    stock_the_shop()
    order_id = bought(customer, ("BOOK", 1), token="tok_declined")
    payment = Payment.objects.get(order_id=order_id)

    page = text(office.get(f"/admin/payments/payment/{payment.pk}/change/"))

    assert "card_declined" in page
    assert "tok_declined" not in page


def test_a_mail_is_shown_as_it_was_sent_where_it_can_do_no_harm(office: Client, customer: User) -> None:
    stock_the_shop()
    bought(customer, ("BOOK", 1))
    message = Message.objects.filter(channel="email").first()
    assert message is not None

    page = office.get(f"/admin/notifications/message/{message.pk}/change/").content.decode()

    assert '<iframe class="bo-mail" sandbox srcdoc="' in page
    assert "ann@example.org" in page


def test_a_failed_mail_is_sent_again_by_who_may(office: Client, customer: User) -> None:
    stock_the_shop()
    bought(customer, ("BOOK", 1))
    message = Message.objects.filter(channel="email").first()
    assert message is not None
    Message.objects.filter(pk=message.pk).update(status="failed", next_attempt_at=None)
    form = {"action": "send_again", "_selected_action": [message.pk]}

    staff("view_message").post("/admin/notifications/message/", form)
    message.refresh_from_db()
    assert message.status == "failed"

    assert "1 mail queued again." in text(office.post("/admin/notifications/message/", form, follow=True))
    message.refresh_from_db()
    assert message.status in ("pending", "sent")


def test_the_shard_map_shows_each_database_with_its_buckets(office: Client) -> None:
    page = text(office.get("/admin/sharding/bucket/"))

    for alias in shards.aliases():
        assert f"{alias} {len(shards.buckets_of(alias))} buckets" in page


def test_schedules_can_be_changed(office: Client) -> None:
    interval, _ = IntervalSchedule.objects.get_or_create(every=5, period="seconds")
    task = PeriodicTask.objects.create(name="A task", task="orders.tasks.cancel_overdue_orders", interval=interval)
    path = f"/admin/django_celery_beat/periodictask/{task.pk}/change/"

    for page in ("/admin/django_celery_beat/periodictask/", path, "/admin/django_celery_beat/crontabschedule/"):
        assert office.get(page).status_code == 200
    empty = {"args": "[]", "kwargs": "{}", "headers": "{}", "regtask": ""}
    fields = {"name": "Another name", "task": task.task, "interval": interval.pk} | empty
    office.post(path, fields | opened(office, path))

    task.refresh_from_db()
    assert (task.name, task.enabled) == ("Another name", False)
    assert "Another name" in text(office.get(f"/admin/django_celery_beat/intervalschedule/{interval.pk}/change/"))


@pytest.mark.parametrize("path", ["", "auth/user/", "auth/user/add/", "auth/group/", "auth/group/add/"])
def test_people_have_their_pages(office: Client, path: str) -> None:
    assert office.get(f"/admin/{path}").status_code == 200


def test_the_page_of_a_user_links_to_their_orders(office: Client, customer: User) -> None:
    page = office.get(f"/admin/auth/user/{customer.pk}/change/").content.decode()

    assert f"{ORDERS}?customer={customer.pk}" in page
