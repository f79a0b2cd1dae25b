"""Replaying to the subscribers of a whole shop: nothing changes where nothing is missing, what was lost comes back."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.conf import LazySettings
from django.core import mail
from django.core.management import call_command

from coupons.models import Coupon, Redemption
from eventing.models import DeadLetter, Event, InboxEntry
from eventing.recorded import stream_name
from eventing.testing import drain
from inventory.models import Reservation, ReservationLine, Stock, StockMovement
from monitoring.audit import audit
from notifications import sending
from notifications.models import Message
from orders.commands import CancelOrder, DeliverOrder, RefundOrder, ShipOrder
from orders.domain import Status
from orders.events import CancelReason
from orders.models import Order, OrderLine
from payments.models import Account, Payment, SandboxCharge
from sharding import shards
from sharding.numbers import to_text
from tests.flows.conftest import Shop

pytestmark = pytest.mark.django_db(databases="__all__")

STATE = (
    *(Stock, StockMovement, Reservation, ReservationLine, Coupon, Redemption, Account, Payment, SandboxCharge),
    *(Message, Order, OrderLine),
)


@pytest.fixture(autouse=True)
def in_this_process(settings: LazySettings) -> None:
    """As in the embedded profile: without a broker."""
    settings.EVENTING_DURABLE_BROKER = False
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"


@pytest.fixture
def lived(shop: Shop, coupon: Coupon) -> dict[str, int]:
    """A shop in which everything has happened; the orders by what became of them."""
    shop.stock("BOOK", 20)
    shop.stock("PEN", 3)
    orders = {
        "delivered": shop.place(("BOOK", 2), ("PEN", 1), coupon=coupon.code),
        "cancelled": shop.place(("BOOK", 3), coupon=coupon.code),
        "rejected": shop.place(("PEN", 50), coupon=coupon.code),
        "refunded": shop.place(("PEN", 1)),
        "declined": shop.place(("BOOK", 1)),
        "late": shop.place(("BOOK", 1)),
        "confirmed": shop.place(("BOOK", 4), coupon=coupon.code),
    }
    shop.deliver()
    for name in ("delivered", "refunded", "late"):
        shop.pay(orders[name])
    shop.pay(orders["declined"], "tok_declined")
    for name in ("cancelled", "late"):
        shop.command(CancelOrder(order_id=orders[name], reason=CancelReason.CUSTOMER, at=shop.now))
    shop.deliver()
    shop.command(ShipOrder(order_id=orders["delivered"], tracking="T-1", at=shop.now))
    shop.command(RefundOrder(order_id=orders["refunded"], at=shop.now))
    shop.deliver()
    shop.command(DeliverOrder(order_id=orders["delivered"], at=shop.now))
    shop.deliver()
    sending.send_pending()
    shop.deliver()
    return orders


def state() -> dict[str, Any]:
    """Every row of every context, the events, and the keys in the inboxes."""
    rows: dict[str, Any] = {}
    aliases = [*shards.aliases(), "default"]
    for model in STATE:
        homes = shards.aliases() if model in (Order, OrderLine) else ["default"]
        pairs = [row for alias in homes for row in model._default_manager.using(alias).values()]
        rows[model.__name__] = sorted(map(str, pairs))
    rows["events"] = sorted(str(event) for alias in aliases for event in Event.objects.using(alias))
    rows["inbox"] = sorted(str(entry) for alias in aliases for entry in InboxEntry.objects.using(alias))
    rows["mails"] = len(mail.outbox)
    return rows


def replay(subscriber: str, *arguments: str) -> None:
    call_command("replay", f"--subscriber={subscriber}", "--forget", *arguments, stdout=StringIO(), stderr=StringIO())
    drain()
    sending.send_pending()
    drain()


@pytest.mark.parametrize(
    ("subscriber", "arguments"),
    [
        ("inventory", ()),
        ("coupons", ()),
        ("orders", ()),
        ("payments", ("--without-outside-effects",)),
        ("payments", ("--with-outside-effects",)),
        ("notifications", ("--without-outside-effects",)),
        ("notifications", ("--with-outside-effects",)),
    ],
)
def test_forgetting_and_replaying_everything_changes_nothing_in_a_shop_that_is_whole(
    lived: dict[str, int], subscriber: str, arguments: tuple[str, ...]
) -> None:
    before = state()
    assert before["mails"] > 10
    assert before["SandboxCharge"]

    replay(subscriber, *arguments)

    assert state() == before
    assert not DeadLetter.objects.exists()


def test_a_lost_message_comes_back_without_a_mail(lived: dict[str, int]) -> None:
    lost = Message.objects.filter(order_id=lived["delivered"], about="order_paid")
    kept = sorted(map(str, lost.values("channel", "subject", "body", "event_id", "order_id", "created_at")))
    [event_id] = set(lost.values_list("event_id", flat=True))
    lost.delete()
    InboxEntry.objects.filter(subscriber="notifications", stream_id=lived["delivered"], category="order").filter(
        version=int(event_id.rpartition("@")[2])
    ).delete()
    before = state()

    replay("notifications", "--without-outside-effects")

    again = Message.objects.filter(order_id=lived["delivered"], about="order_paid")
    [row] = map(str, again.values("channel", "subject", "body", "event_id", "order_id", "created_at"))
    assert row in kept
    assert again.get().channel == "inbox"
    after = state()
    assert len(mail.outbox) == before["mails"]
    assert after["inbox"] == before["inbox"]  # the mail is still missing, and that can still be seen

    replay("notifications", "--with-outside-effects")

    assert sorted(map(str, again.values("channel", "subject", "body", "event_id", "order_id", "created_at"))) == kept
    assert len(mail.outbox) == before["mails"] + 1
    assert len(state()["inbox"]) == len(before["inbox"]) + 1


def forget_lost_events(order_id: int) -> list[str]:
    """The handled events of this order whose key has another event by now; the audit does not name them any more."""
    assert broken_promises() == {"handled_was_committed"}
    lost = []
    for alias in (*shards.aliases(), "default"):
        for entry in InboxEntry.objects.using(alias).filter(stream_id=order_id, hashes__contains=" "):
            lost.append(f"{entry.subscriber}: {entry.event_id}")
            entry.hashes = (entry.hashes or "").split()[-1]
            entry.save(using=alias)
    return lost


def broken_promises() -> set[str]:
    return {one.check.name for one in audit(settle=timedelta(0)).results if one.violations} - {
        "events_reach_subscribers"
    }


def test_a_lost_reservation_comes_back(lived: dict[str, int], shop: Shop) -> None:
    """Everything that one transaction has written is gone, as after a backup that was too old."""
    order_id = lived["confirmed"]
    before = state()
    stock = shop.on_hand("BOOK")
    ReservationLine.objects.filter(reservation_id=order_id).delete()
    Reservation.objects.filter(order_id=order_id).delete()
    Event.objects.filter(stream_id=order_id, category="reservation").delete()
    InboxEntry.objects.filter(stream_id=order_id, subscriber="inventory").delete()
    book = Stock.objects.get(product__sku="BOOK")
    book.reserved, book.available = book.reserved - 4, book.available + 4
    book.save()

    replay("inventory", f"--stream=order-{to_text(order_id)}")

    assert shop.on_hand("BOOK") == stock
    assert ReservationLine.objects.get(reservation_id=order_id).quantity == 4
    after = state()
    assert {name: after[name] for name in ("events", "inbox", "Order", "Message")} == {
        name: before[name] for name in ("events", "inbox", "Order", "Message")
    }
    assert not DeadLetter.objects.exists()
    assert forget_lost_events(order_id) == [f"orders: {stream_name('reservation', order_id)}@1"]


def test_a_lost_redemption_comes_back(lived: dict[str, int]) -> None:
    order_id = lived["confirmed"]
    before = state()
    Redemption.objects.filter(order_id=order_id).delete()
    Event.objects.filter(stream_id=order_id, category="redemption").delete()
    InboxEntry.objects.filter(stream_id=order_id, subscriber="coupons").delete()
    ten = Coupon.objects.get(code="TEN")
    ten.redeemed -= 1
    ten.save()

    replay("coupons", "--type=order.placed")

    after = state()
    for name in ("Coupon", "events", "inbox"):
        assert after[name] == before[name]
    assert Redemption.objects.get(order_id=order_id).status == "redeemed"
    assert forget_lost_events(order_id) == [f"orders: {stream_name('redemption', order_id)}@1"]


def test_a_confirmation_that_was_lost_on_its_way_comes_back(shop: Shop) -> None:
    shop.stock("BOOK", 5)
    order_id = shop.place(("BOOK", 1))
    drain(skip=("integration", "orders"))  # published, and the message is gone
    assert shop.status(order_id) is Status.PLACED

    replay("orders", "--type=inventory.stock_reserved")

    assert shop.status(order_id) is Status.CONFIRMED
    assert shop.on_hand("BOOK") == (5, 1, 4)


def test_a_payment_that_was_lost_on_its_way_is_captured_only_when_told(shop: Shop) -> None:
    shop.stock("BOOK", 5)
    order_id = shop.place(("BOOK", 1))
    drain()
    shop.pay(order_id)
    drain(skip=("integration", "payments"))

    replay("payments", "--without-outside-effects", "--since=2020-01-01")
    assert not SandboxCharge.objects.exists()

    replay("payments", "--with-outside-effects")
    assert shop.status(order_id) is Status.PAID
    assert SandboxCharge.objects.get().calls == 1
