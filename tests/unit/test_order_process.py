"""What other contexts have done, and what is asked of the order then."""

from datetime import UTC, datetime
from typing import Any

import pytest

from coupons.events import CouponRedeemed, CouponRefused, CouponReleased
from inventory.events import MissingItem, ReservedItem, StockRefused, StockReleased, StockReserved, StockShipped
from orders.commands import Command, ConfirmOrder, FailPayment, PayOrder, RejectOrder
from orders.events import Check, OrderConfirmed, RejectReason, ShortItem
from orders.process import react
from payments.events import PaymentCaptured, PaymentDeclined, PaymentRefunded, PaymentRequested, RefundRequested

ID = 42
THEN = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOW = datetime(2026, 3, 1, 13, tzinfo=UTC)
ITEMS = (ReservedItem(sku="tea", quantity=2),)
MONEY: dict[str, Any] = {"payment_id": "p1", "customer_id": 7, "amount": 2100, "currency": "EUR", "at": THEN}


def test_reserved_stock_passes_the_stock_check() -> None:
    assert react(ID, StockReserved(items=ITEMS, at=THEN), NOW) == ConfirmOrder(order_id=ID, check=Check.STOCK, at=NOW)


def test_missing_stock_rejects_the_order_and_names_the_short_items() -> None:
    refused = StockRefused(missing=(MissingItem(sku="tea", wanted=2, available=1),), at=THEN)
    assert react(ID, refused, NOW) == RejectOrder(
        order_id=ID,
        reason=RejectReason.OUT_OF_STOCK,
        short=(ShortItem(sku="tea", wanted=2, available=1),),
        detail="",
        at=NOW,
    )


def test_a_redeemed_coupon_passes_the_coupon_check() -> None:
    redeemed = CouponRedeemed(code="SPRING", customer_id=7, discount=100, at=THEN)
    assert react(ID, redeemed, NOW) == ConfirmOrder(order_id=ID, check=Check.COUPON, at=NOW)


def test_a_refused_coupon_rejects_the_order_and_says_why() -> None:
    refused = CouponRefused(code="SPRING", customer_id=7, reason="coupon_used_up", detail="It is used up.", at=THEN)
    assert react(ID, refused, NOW) == RejectOrder(
        order_id=ID, reason=RejectReason.COUPON_REFUSED, short=(), detail="It is used up.", at=NOW
    )


def test_captured_money_pays_the_order() -> None:
    assert react(ID, PaymentCaptured(**MONEY), NOW) == PayOrder(
        order_id=ID, payment_id="p1", amount=2100, currency="EUR", at=NOW
    )


def test_a_declined_payment_ends_the_wait_for_it() -> None:
    declined = PaymentDeclined(payment_id="p1", customer_id=7, reason="declined", at=THEN)
    assert react(ID, declined, NOW) == FailPayment(order_id=ID, payment_id="p1", at=NOW)


@pytest.mark.parametrize(
    "event",
    [
        StockReleased(items=ITEMS, at=THEN),
        StockShipped(items=ITEMS, at=THEN),
        CouponReleased(code="SPRING", customer_id=7, at=THEN),
        PaymentRequested(**MONEY),
        RefundRequested(**MONEY, reason="cancelled"),
        PaymentRefunded(**MONEY),
        OrderConfirmed(customer_id=7, at=THEN),
    ],
    ids=lambda event: type(event).__name__,
)
def test_other_events_ask_nothing_of_the_order(event: object) -> None:
    asked: Command | None = react(ID, event, NOW)
    assert asked is None
