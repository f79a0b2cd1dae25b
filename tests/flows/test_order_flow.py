"""An order's whole way through all contexts, on whichever profile the tests run: SQLite or PostgreSQL."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest

from coupons.models import Coupon
from eventing.models import DeadLetter
from eventing.testing import deliver_shuffled
from notifications.models import Message
from orders.commands import CancelOrder, DeliverOrder, RefundOrder, ShipOrder
from orders.domain import Status
from orders.events import CancelReason, ShortItem
from orders.handlers import cancel_overdue
from orders.selectors import history
from payments.models import Payment, SandboxCharge
from sharding import shards
from tests.factories import CouponFactory
from tests.flows.conftest import Shop

pytestmark = pytest.mark.django_db(databases="__all__")


def test_an_order_is_placed_confirmed_paid_shipped_and_delivered(shop: Shop) -> None:
    shop.stock("BOOK", 10)
    order_id = shop.place(("BOOK", 3))
    assert shop.status(order_id) is Status.PLACED

    shop.deliver()
    assert shop.status(order_id) is Status.CONFIRMED
    assert shop.on_hand("BOOK") == (10, 3, 7)

    shop.pay(order_id)
    shop.deliver()
    assert shop.status(order_id) is Status.PAID

    shop.command(ShipOrder(order_id=order_id, tracking="T-1", at=shop.now))
    shop.deliver()
    shop.command(DeliverOrder(order_id=order_id, at=shop.now))
    shop.deliver()

    assert shop.status(order_id) is Status.DELIVERED
    assert shop.history(order_id) == [
        "OrderPlaced",
        "OrderConfirmed",
        "OrderPaymentStarted",
        "OrderPaid",
        "OrderShipped",
        "OrderDelivered",
    ]
    assert shop.on_hand("BOOK") == (7, 0, 7)
    assert SandboxCharge.objects.filter(kind="capture").count() == 1
    assert set(Message.objects.filter(channel="inbox").values_list("about", flat=True)) >= {
        "order_placed",
        "order_confirmed",
        "order_paid",
        "order_shipped",
        "order_delivered",
    }
    assert not DeadLetter.objects.exists()


def test_every_event_after_the_first_says_what_caused_it(shop: Shop) -> None:
    shop.stock("BOOK", 10)
    order_id = shop.place(("BOOK", 1))
    shop.deliver()

    placed, confirmed = history(order_id)
    assert placed.metadata.causation_id is None
    assert confirmed.metadata.causation_id == f"reservation-{placed.stream.removeprefix('order-')}@1"
    assert confirmed.metadata.correlation_id == placed.metadata.correlation_id


def test_a_coupon_is_redeemed_before_the_order_is_confirmed(shop: Shop, coupon: Coupon) -> None:
    shop.stock("BOOK", 10)
    order_id = shop.place(("BOOK", 2), coupon=coupon.code)
    shop.deliver()

    assert shop.status(order_id) is Status.CONFIRMED
    assert shop.history(order_id) == ["OrderPlaced", "OrderCheckPassed", "OrderConfirmed"]
    coupon.refresh_from_db()
    assert coupon.redeemed == 1


def test_an_order_that_cannot_be_filled_is_rejected_and_its_coupon_given_back(shop: Shop, coupon: Coupon) -> None:
    shop.stock("BOOK", 1)
    shop.stock("PEN", 5)
    order_id = shop.place(("BOOK", 2), ("PEN", 1), coupon=coupon.code)
    shop.deliver()

    assert shop.status(order_id) is Status.REJECTED
    [rejected] = [item.event for item in history(order_id) if type(item.event).__name__ == "OrderRejected"]
    assert rejected.short == (ShortItem(sku="BOOK", wanted=2, available=1),)
    assert (shop.on_hand("BOOK"), shop.on_hand("PEN")) == ((1, 0, 1), (5, 0, 5))
    coupon.refresh_from_db()
    assert coupon.redeemed == 0
    message = Message.objects.get(channel="inbox", about="order_rejected")
    assert "BOOK" in message.body or "Product BOOK" in message.body


def test_a_used_up_coupon_rejects_the_order_and_gives_the_stock_back(shop: Shop, coupon: Coupon) -> None:
    shop.stock("BOOK", 10)
    coupon.total_limit = 1
    coupon.save()
    first = shop.place(("BOOK", 1), coupon=coupon.code)
    second = shop.place(("BOOK", 1), coupon=coupon.code)  # quoted before the first was redeemed
    shop.deliver()

    assert {shop.status(first), shop.status(second)} == {Status.CONFIRMED, Status.REJECTED}
    assert shop.on_hand("BOOK") == (10, 1, 9)
    coupon.refresh_from_db()
    assert coupon.redeemed == 1


@pytest.mark.parametrize("reason", [CancelReason.CUSTOMER, CancelReason.OPERATOR])
def test_a_cancelled_order_gives_stock_and_coupon_back(shop: Shop, coupon: Coupon, reason: CancelReason) -> None:
    shop.stock("BOOK", 10)
    order_id = shop.place(("BOOK", 4), coupon=coupon.code)
    shop.deliver()
    shop.command(CancelOrder(order_id=order_id, reason=reason, at=shop.now))
    shop.deliver()

    assert shop.status(order_id) is Status.CANCELLED
    assert shop.on_hand("BOOK") == (10, 0, 10)
    coupon.refresh_from_db()
    assert coupon.redeemed == 0


def test_an_order_that_is_not_paid_in_time_is_cancelled_by_the_clock(shop: Shop) -> None:
    shop.stock("BOOK", 10)
    order_id = shop.place(("BOOK", 4))
    shop.deliver()
    alias = shards.alias_of(order_id)

    assert cancel_overdue(shop.now, alias, 100) == 0
    assert cancel_overdue(shop.now + timedelta(days=1), alias, 100) == 1
    shop.deliver()

    assert shop.status(order_id) is Status.CANCELLED
    assert shop.on_hand("BOOK") == (10, 0, 10)


def test_a_cancellation_that_overtakes_the_placement_leaves_nothing_set_aside(shop: Shop) -> None:
    shop.stock("BOOK", 10)
    order_id = shop.place(("BOOK", 4))
    shop.command(CancelOrder(order_id=order_id, reason=CancelReason.CUSTOMER, at=shop.now))

    deliver_shuffled(random.Random(3))

    assert shop.status(order_id) is Status.CANCELLED
    assert shop.on_hand("BOOK") == (10, 0, 10)


def test_a_declined_payment_leaves_the_order_payable(shop: Shop) -> None:
    shop.stock("BOOK", 10)
    order_id = shop.place(("BOOK", 1))
    shop.deliver()
    shop.pay(order_id, "tok_declined")
    shop.deliver()
    assert shop.status(order_id) is Status.CONFIRMED

    shop.pay(order_id, "tok_ok")
    shop.deliver()

    assert shop.status(order_id) is Status.PAID
    assert list(Payment.objects.order_by("attempt").values_list("status", flat=True)) == ["declined", "captured"]


def test_a_gateway_that_stumbles_is_asked_again_and_takes_the_money_once(shop: Shop) -> None:
    shop.stock("BOOK", 10)
    order_id = shop.place(("BOOK", 1))
    shop.deliver()
    shop.pay(order_id, "tok_error_then_ok")
    shop.deliver()

    assert shop.status(order_id) is Status.PAID
    assert SandboxCharge.objects.get(kind="capture").calls == 2


def test_money_captured_for_a_cancelled_order_goes_back_once(shop: Shop) -> None:
    shop.stock("BOOK", 10)
    order_id = shop.place(("BOOK", 1))
    shop.deliver()
    shop.pay(order_id)
    shop.command(CancelOrder(order_id=order_id, reason=CancelReason.OPERATOR, at=shop.now))

    deliver_shuffled(random.Random(5))

    assert shop.status(order_id) is Status.CANCELLED
    assert Payment.objects.get().status in ("refunded", "declined")
    charges = SandboxCharge.objects.values_list("kind", flat=True)
    assert charges.filter(kind="capture").count() == charges.filter(kind="refund").count()
    assert shop.on_hand("BOOK") == (10, 0, 10)


def test_a_refunded_order_gives_money_and_stock_back(shop: Shop) -> None:
    shop.stock("BOOK", 10)
    order_id = shop.place(("BOOK", 2))
    shop.deliver()
    shop.pay(order_id)
    shop.deliver()
    shop.command(RefundOrder(order_id=order_id, at=shop.now))
    shop.deliver()

    assert shop.status(order_id) is Status.REFUNDED
    assert Payment.objects.get().status == "refunded"
    assert shop.on_hand("BOOK") == (10, 0, 10)


@pytest.mark.parametrize("seed", range(8))
def test_everything_delivered_twice_and_shuffled_ends_in_the_same_state(shop: Shop, coupon: Coupon, seed: int) -> None:
    rng = random.Random(seed)
    shop.deliver = lambda: deliver_shuffled(rng)
    shop.stock("BOOK", 10)
    shop.stock("PEN", 3)
    shipped = shop.place(("BOOK", 2), ("PEN", 1), coupon=coupon.code)
    cancelled = shop.place(("BOOK", 3))
    rejected = shop.place(("PEN", 50), coupon=coupon.code)
    refunded = shop.place(("PEN", 1))
    shop.deliver()
    shop.pay(shipped)
    shop.pay(refunded)
    shop.command(CancelOrder(order_id=cancelled, reason=CancelReason.CUSTOMER, at=shop.now))
    shop.deliver()
    shop.command(ShipOrder(order_id=shipped, tracking="T-1", at=shop.now))
    shop.command(RefundOrder(order_id=refunded, at=shop.now))
    shop.deliver()

    assert [shop.status(order_id) for order_id in (shipped, cancelled, rejected, refunded)] == [
        Status.SHIPPED,
        Status.CANCELLED,
        Status.REJECTED,
        Status.REFUNDED,
    ]
    assert (shop.on_hand("BOOK"), shop.on_hand("PEN")) == ((8, 0, 8), (2, 0, 2))
    coupon.refresh_from_db()
    assert coupon.redeemed == 1
    assert sorted(SandboxCharge.objects.values_list("kind", flat=True)) == ["capture", "capture", "refund"]
    assert not DeadLetter.objects.exists()
    assert Message.objects.count() == len(set(Message.objects.values_list("event_id", "channel")))


def test_an_order_that_costs_nothing_is_paid_like_any_other(shop: Shop) -> None:
    CouponFactory.create(code="ALL", value=10_000)
    shop.stock("BOOK", 10)
    order_id = shop.place(("BOOK", 1), coupon="ALL")
    shop.deliver()
    shop.pay(order_id)
    shop.deliver()

    assert shop.status(order_id) is Status.PAID
    assert not DeadLetter.objects.exists()
