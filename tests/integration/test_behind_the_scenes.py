"""Behind the scenes of an order: who may look, what is told, the state at any event, and what it is waiting for."""

from __future__ import annotations

import re
from contextlib import ExitStack
from datetime import timedelta
from html import unescape
from typing import Any
from uuid import uuid4

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from checkout import service as checkout
from eventing import deadletters
from eventing.models import DeadLetter, Event, InboxEntry, OutboxMessage
from eventing.recorded import Metadata
from eventing.testing import drain, publish_all
from eventing.wire import Envelope
from notifications import sending
from orders import handlers as orders
from orders.commands import CancelOrder, DeliverOrder, RefundOrder, ShipOrder
from orders.domain import Status
from orders.events import CancelReason
from sharding import numbers, shards
from tests.factories import CustomerFactory, EmployeeFactory, ProductFactory
from tests.integration.shop_api import METADATA, stock_the_shop
from timeline import timeline

pytestmark = pytest.mark.django_db(databases="__all__")


@pytest.fixture
def ann(db: None) -> User:
    stock_the_shop()
    return CustomerFactory.create(username="ann")


@pytest.fixture
def shopper(ann: User) -> Client:
    return client_of(ann)


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def staff(*permissions: str) -> Client:
    """Somebody who works here and may do just this."""
    return client_of(EmployeeFactory.create(permissions=permissions))


def order_of(customer: User, *, coupon: str | None = None) -> int:
    metadata = Metadata(correlation_id="a-request", actor=f"customer:{customer.pk}")
    return checkout.place(customer.pk, [("BOOK", 2)], coupon, key=uuid4().hex, metadata=metadata).order_id


def paid_order_of(customer: User, *, coupon: str | None = None, token: str = "tok_ok") -> int:
    order_id = order_of(customer, coupon=coupon)
    drain()
    checkout.pay(order_id, customer.pk, token, checkout.metadata_for(customer.pk))
    drain()
    return order_id


def behind(order_id: int) -> str:
    return f"/orders/{numbers.to_text(order_id)}/behind/"


def name_of(order_id: int, category: str, version: int) -> str:
    return f"{category}-{numbers.to_text(order_id)}@{version}"


def text(response: Any) -> str:
    """What is on the page, without markup and with single spaces."""
    assert response.status_code == 200, response
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", response.content.decode())).split())


def picture(response: Any) -> str:
    found = re.search(r"<svg class=\"lanes\".*?</svg>", response.content.decode(), re.DOTALL)
    assert found is not None
    return found[0]


def waits(order_id: int) -> list[str]:
    return timeline.waiting_for(timeline.timeline_of(order_id), timezone.now())


# --- Who may look --------------------------------------------------------------------------------------------------


def test_order_page_leads_behind_the_scenes(shopper: Client, ann: User) -> None:
    order_id = order_of(ann)
    assert f'href="{behind(order_id)}"' in shopper.get(f"/orders/{numbers.to_text(order_id)}/").content.decode()
    assert "Behind the scenes" in text(shopper.get(behind(order_id)))


def test_visitor_is_asked_to_sign_in(ann: User) -> None:
    order_id = order_of(ann)
    assert Client().get(behind(order_id)).url.startswith("/sign-in/?next=")
    live = Client().get(f"{behind(order_id)}live/", headers={"HX-Request": "true"})
    assert (live.status_code, live.headers["HX-Refresh"]) == (204, "true")


def test_order_of_somebody_else_is_404(ann: User) -> None:
    order_id = order_of(ann)
    for stranger in (client_of(CustomerFactory.create(username="bob")), staff("view_product")):
        for path in (behind(order_id), f"{behind(order_id)}live/"):
            assert stranger.get(path, headers={"HX-Request": "true"}).status_code == 404


@pytest.mark.parametrize("number", ["0000000000001", "nonsense", "%00"])
def test_order_that_does_not_exist_is_404(shopper: Client, number: str) -> None:
    assert shopper.get(f"/orders/{number}/behind/").status_code == 404


def test_number_is_understood_however_it_is_typed(shopper: Client, ann: User) -> None:
    order_id = order_of(ann)
    assert shopper.get(behind(order_id).lower().replace("/orders/", "/orders/-")).url == behind(order_id)


@pytest.mark.parametrize("permission", ["view_order", "change_order"])
def test_operator_sees_every_order_from_its_page_in_the_back_office(ann: User, permission: str) -> None:
    order_id = order_of(ann)
    operator = staff(permission)
    admin_page = f"/admin/orders/order/{numbers.to_text(order_id)}/change/"
    assert f'href="{behind(order_id)}"' in operator.get(admin_page).content.decode()
    page = operator.get(behind(order_id))
    assert f'href="{admin_page}"' in page.content.decode()
    assert f"by customer:{ann.pk}" in text(page)


def test_customer_is_told_who_it_was_in_words(shopper: Client, ann: User) -> None:
    order_id = paid_order_of(ann)
    orders.handle(
        ShipOrder(order_id=order_id, tracking="T1", at=timezone.now()),
        Metadata(correlation_id="x", actor="operator:12345"),
    )
    page = text(shopper.get(behind(order_id)))
    assert "by you" in page
    assert "by the shop's staff" in page
    assert "operator:12345" not in page


# --- What is told --------------------------------------------------------------------------------------------------


def test_picture_shows_every_event_in_its_lane_with_its_causes(shopper: Client, ann: User) -> None:
    order_id = paid_order_of(ann, coupon="TEN")
    response = shopper.get(behind(order_id))
    svg = picture(response)
    events = re.findall(r'<a class="event of-(\w+)[^>]*>.*?class="event-title">([^<]*)<', svg, re.DOTALL)
    assert sorted(events) == [
        ("coupons", "redeemed"),
        ("inventory", "stock_reserved"),
        ("orders", "check_passed"),
        ("orders", "confirmed"),
        ("orders", "paid"),
        ("orders", "payment_started"),
        ("orders", "placed"),
        ("payments", "captured"),
        ("payments", "requested"),
    ]
    assert all(event in text(response).partition("The same as a table")[2] for _, event in events)
    for told in (shards.alias_of(order_id), f"bucket {numbers.bucket_of(order_id)}"):
        assert f">{told}</text>" in svg
    # Six of the nine events were caused by another one.
    assert len(re.findall(r'class="cause ', svg)) == 6
    assert 'class="mark done of-notifications"' in svg
    assert "published " in svg


def test_other_programs_have_a_lane_that_says_when_they_were_told(shopper: Client, ann: User) -> None:
    order_id = order_of(ann)
    assert "note done" not in picture(shopper.get(behind(order_id)))
    drain(skip=())
    svg = picture(shopper.get(behind(order_id)))
    told = InboxEntry.objects.filter(stream_id=order_id, subscriber="integration").count()
    assert told > 0
    assert svg.count('class="note done of-') == told
    assert ">other programs</text>" in svg


def test_timeline_knows_when_events_were_published_and_handled(ann: User) -> None:
    order_id = order_of(ann)
    drain()
    placed = timeline.timeline_of(order_id).entries[0]
    entries = InboxEntry.objects.filter(stream_id=order_id, category="order", version=1)
    assert {(one.subscriber, one.attempts) for one in placed.handled} == {
        ("inventory", 1), ("coupons", 1), ("notifications", 1),
    }  # fmt: skip
    entry = entries.get(subscriber="inventory")
    since = round((entry.handled_at - placed.recorded_at).total_seconds() * 1000)
    published = round((entry.published_at - placed.recorded_at).total_seconds() * 1000)
    assert next(one for one in placed.handled if one.subscriber == "inventory").milliseconds == since
    assert placed.published == published
    assert placed.waiting == ()


def test_further_attempts_are_shown(shopper: Client, ann: User) -> None:
    order_id = order_of(ann)
    drain()
    InboxEntry.objects.filter(stream_id=order_id, subscriber="coupons").update(attempts=3)
    response = shopper.get(behind(order_id))
    assert "attempt 3" in picture(response)
    assert "at attempt 3" in text(response)


def test_event_never_stands_above_its_cause(ann: User) -> None:
    order_id = paid_order_of(ann)
    Event.objects.filter(stream_id=order_id, category="reservation").update(
        recorded_at=timezone.now() - timedelta(hours=1)
    )
    ids = [entry.id for entry in timeline.timeline_of(order_id).entries]
    assert ids[:3] == [name_of(order_id, *key) for key in (("order", 1), ("reservation", 1), ("order", 2))]


@pytest.mark.django_db(databases="__all__", transaction=True)
def test_mails_that_were_sent_are_events_of_the_timeline(ann: User) -> None:
    order_id = order_of(ann)
    drain()
    assert "2 e-mails to be sent." in waits(order_id)
    while sending.send_pending():
        pass
    found = timeline.timeline_of(order_id)
    sent = [entry for entry in found.entries if entry.category == "message"]
    assert [entry.type for entry in sent] == ["notification.sent"] * 2
    assert {entry.cause for entry in sent} == {"order.placed", "order.confirmed"}
    assert not any("e-mail" in sentence for sentence in waits(order_id))


def test_whatever_customers_and_operators_wrote_is_escaped(shopper: Client, ann: User) -> None:
    nasty = "<script>alert(1)</script>"
    ProductFactory.create(sku="EVIL", name=nasty, pieces=5)
    metadata = Metadata(correlation_id=nasty, actor=nasty)
    order_id = checkout.place(ann.pk, [("EVIL", 1)], None, key="k", metadata=metadata).order_id
    drain()
    assert "<script>alert" not in shopper.get(behind(order_id)).content.decode()


def test_page_takes_a_bounded_number_of_queries(shopper: Client, ann: User) -> None:
    short, long = order_of(ann), paid_order_of(ann, coupon="TEN")
    orders.handle(RefundOrder(order_id=long, at=timezone.now()), METADATA)
    drain()

    def asked(order_id: int) -> int:
        with ExitStack() as stack:
            captures = [stack.enter_context(CaptureQueriesContext(connections[alias])) for alias in settings.DATABASES]
            text(shopper.get(behind(order_id)))
            return sum(len(capture) for capture in captures)

    asked(short)
    assert asked(short) == asked(long) <= 16


# --- The state at an event -----------------------------------------------------------------------------------------


def facts(response: Any) -> dict[str, str]:
    """The state beside the picture, by name; what has changed as "before → after"."""
    found = re.findall(r"<dt>(.*?)</dt>\s*<dd>(.*?)</dd>", response.content.decode(), re.DOTALL)
    told = {}
    for name, value in found:
        value = re.sub(r'<span class="hidden">.*?</span>', "", value)
        value = re.sub(r"</del>\s*<ins>", " → ", value)
        told[name] = unescape(re.sub(r"<[^>]+>", "", value)).strip()
    return told


def test_state_after_the_latest_event_is_shown_by_itself(shopper: Client, ann: User) -> None:
    order_id = paid_order_of(ann, coupon="TEN")
    told = facts(shopper.get(behind(order_id)))
    assert told["Status"] == "confirmed → paid"
    assert told["Total"] == "€18.00"
    assert told["Lines"] == "2 × A book"


def test_state_at_any_event_is_folded_up_to_there(shopper: Client, ann: User) -> None:
    order_id = paid_order_of(ann, coupon="TEN")

    def at(category: str, version: int) -> dict[str, str]:
        return facts(shopper.get(behind(order_id), {"at": name_of(order_id, category, version)}))

    assert at("order", 1)["Status"] == "not placed → placed"
    assert at("order", 1)["Open checks"] == "– → coupon, stock"
    assert at("reservation", 1)["Open checks"] == "coupon, stock"
    assert at("order", 3)["Status"] == "placed → confirmed"
    assert at("payment", 1)["Status"] == "confirmed"
    assert at("payment", 1)["Payment"] == "–"


def test_chosen_event_is_marked_and_leads_to_its_neighbours(shopper: Client, ann: User) -> None:
    order_id = order_of(ann)
    drain()
    first, second, third = (name_of(order_id, *key) for key in (("order", 1), ("reservation", 1), ("order", 2)))
    html = shopper.get(behind(order_id), {"at": second}).content.decode()
    assert re.findall(r'aria-current="true"', picture(shopper.get(behind(order_id), {"at": second}))) == [
        'aria-current="true"'
    ]
    links = {name: unescape(href) for name, href in re.findall(r'id="walk-(\w+)" href="([^"]+)"', html)}
    assert links["back"].endswith(f"#lanes-{first}")
    assert links["on"].endswith(f"#lanes-{third}")
    assert links["end"] == behind(order_id)


def test_event_of_another_order_is_404(shopper: Client, ann: User) -> None:
    one, other = order_of(ann), order_of(ann)
    for at in (name_of(other, "order", 1), name_of(one, "order", 9), "", "x\x00"):
        expected = 200 if not at else 404
        assert shopper.get(behind(one), {"at": at}).status_code == expected


# --- What it is waiting for ----------------------------------------------------------------------------------------


def test_new_order_waits_for_its_checks_and_for_the_relay(shopper: Client, ann: User) -> None:
    order_id = order_of(ann, coupon="TEN")
    alias = shards.alias_of(order_id)
    assert waits(order_id) == [
        "The stock check, by inventory.",
        "The coupon check, by coupons.",
        f"The relay, to publish what is in the outbox of {alias}: order.placed.",
    ]
    page = shopper.get(behind(order_id))
    assert "in the outbox" in picture(page)
    assert "The stock check, by inventory." in text(page)


def test_published_event_waits_for_its_subscribers(shopper: Client, ann: User) -> None:
    order_id = order_of(ann)
    publish_all()
    first, *others = waits(order_id)
    assert first == "The stock check, by inventory."
    assert sorted(others) == [
        "Coupons, to handle order.placed.",
        "Inventory, to handle order.placed.",
        "Notifications, to handle order.placed.",
    ]
    assert 'class="mark waiting of-inventory"' in picture(shopper.get(behind(order_id)))


def test_outbox_row_of_an_event_that_is_handled_counts_for_nothing(ann: User) -> None:
    order_id = order_of(ann)
    alias = shards.alias_of(order_id)
    drain()
    OutboxMessage.objects.using(alias).create(stream_id=order_id, category="order", version=1)
    assert not timeline.timeline_of(order_id).entries[0].in_outbox


def test_confirmed_order_waits_for_its_payment_until_the_clock_takes_over(ann: User) -> None:
    order_id = order_of(ann)
    drain()
    found = timeline.timeline_of(order_id)
    due = timeline.state_after(found.entries).payment_due_at
    assert due is not None
    before, after = (timeline.waiting_for(found, due + timedelta(seconds=shift))[0] for shift in (-1, 1))
    assert before.startswith("The payment, until ")
    assert f"{due:%H:%M:%S} UTC" in before
    assert after.startswith("The clock, to cancel it")


def test_payment_that_is_asked_for_waits_for_the_gateway(ann: User) -> None:
    order_id = order_of(ann)
    drain()
    checkout.pay(order_id, ann.pk, "tok_ok", checkout.metadata_for(ann.pk))
    assert waits(order_id)[0] == "The payment gateway, to take the money."


def test_declined_payment_leaves_the_order_waiting_for_another_one(ann: User) -> None:
    assert waits(paid_order_of(ann, token="tok_declined"))[0].startswith("The payment, until ")


def test_paid_and_shipped_orders_wait_for_operators(ann: User) -> None:
    order_id = paid_order_of(ann)
    assert waits(order_id)[0] == "Shipping, by an operator."
    orders.handle(ShipOrder(order_id=order_id, tracking="T1", at=timezone.now()), METADATA)
    drain()
    assert waits(order_id)[0] == "The delivery, which an operator confirms."


def test_refund_waits_for_the_gateway(ann: User) -> None:
    order_id = paid_order_of(ann)
    orders.handle(RefundOrder(order_id=order_id, at=timezone.now()), METADATA)
    drain()
    Event.objects.filter(stream_id=order_id, type="payment.refunded").delete()
    assert waits(order_id)[0] == "The payment gateway, to give the money back."


def test_dead_letter_is_what_the_order_waits_for_until_it_is_settled(shopper: Client, ann: User) -> None:
    order_id = order_of(ann)
    publish_all()
    letter = park(order_id)
    said = "An operator: inventory could not handle order.placed and has given it up after 3 attempts."
    assert waits(order_id)[0].startswith(said)
    page = shopper.get(behind(order_id))
    assert 'class="mark failed of-inventory"' in picture(page)
    assert "no such shelf" not in page.content.decode()
    operator = staff("view_order", "view_deadletter").get(behind(order_id)).content.decode()
    assert f"/admin/eventing/deadletter/{letter.pk}/change/" in operator
    orders.handle(CancelOrder(order_id=order_id, reason=CancelReason.CUSTOMER, at=timezone.now()), METADATA)
    drain()
    assert not timeline.is_over(timeline.timeline_of(order_id))
    deadletters.archive(letter, by="ann", reason="not wanted")
    assert not any("operator" in sentence for sentence in waits(order_id))


def park(order_id: int) -> DeadLetter:
    """Inventory could not handle the placement."""
    event = Event.objects.using(shards.alias_of(order_id)).get(stream_id=order_id, category="order", version=1)
    envelope = Envelope(
        stream_id=event.stream_id,
        category=event.category,
        version=event.version,
        type=event.type,
        schema_version=event.schema_version,
        data=event.data,
        metadata=event.metadata,
        recorded_at=event.recorded_at,
    )
    deadletters.park(envelope, "inventory", ValueError("no such shelf"), "Traceback", attempts=3)
    return DeadLetter.objects.get(stream_id=order_id)


# --- Live ----------------------------------------------------------------------------------------------------------


def live(client: Client, html: str) -> Any:
    """Ask again as the page would."""
    found = re.search(r'hx-get="([^"]+)"', html)
    assert found is not None
    return client.get(unescape(found[1]), headers={"HX-Request": "true"})


def test_page_follows_the_order_and_says_nothing_new_while_nothing_is_new(shopper: Client, ann: User) -> None:
    order_id = order_of(ann)
    html = shopper.get(behind(order_id)).content.decode()
    assert live(shopper, html).status_code == 204
    drain()
    answer = live(shopper, html)
    assert 'data-status="confirmed"' in answer.content.decode()
    assert live(shopper, answer.content.decode()).status_code == 204


def test_page_that_shows_a_chosen_event_keeps_showing_it(shopper: Client, ann: User) -> None:
    order_id = order_of(ann)
    html = shopper.get(behind(order_id), {"at": name_of(order_id, "order", 1)}).content.decode()
    drain()
    assert facts(live(shopper, html))["Status"] == "not placed → placed"


def test_part_of_the_page_without_htmx_leads_to_the_page(shopper: Client, ann: User) -> None:
    order_id = order_of(ann)
    assert shopper.get(f"{behind(order_id)}live/").url == behind(order_id)


@pytest.mark.parametrize("end", [Status.CANCELLED, Status.DELIVERED])
def test_page_stops_asking_when_all_is_over(shopper: Client, ann: User, end: Status) -> None:
    ann.email = ""
    ann.save()
    now = timezone.now()
    if end is Status.CANCELLED:
        order_id = order_of(ann)
        drain()
        commands: tuple[Any, ...] = (CancelOrder(order_id=order_id, reason=CancelReason.CUSTOMER, at=now),)
    else:
        order_id = paid_order_of(ann)
        commands = (ShipOrder(order_id=order_id, tracking="T1", at=now), DeliverOrder(order_id=order_id, at=now))
    for command in commands:
        orders.handle(command, METADATA)
    assert "hx-get" in shopper.get(behind(order_id)).content.decode()
    drain()
    page = shopper.get(behind(order_id))
    assert "hx-get" not in page.content.decode()
    assert waits(order_id) == []
    assert f"Nothing: the order is {end}, and everybody has heard of it." in text(page)
