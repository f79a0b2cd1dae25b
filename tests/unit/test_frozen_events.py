"""The JSON of every event version ever shipped is frozen in a file, and can still be read."""

import dataclasses
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from coupons.events import CouponRedeemed, CouponRefused, CouponReleased
from eventing import registry
from inventory.events import (
    MissingItem,
    ReservedItem,
    StockAdjusted,
    StockReceived,
    StockRefused,
    StockReleased,
    StockReserved,
    StockShipped,
)
from notifications.events import MessageFailed, MessageSent
from orders import apps as orders_app
from orders.events import (
    Address,
    CancelReason,
    Check,
    Line,
    OrderCancelled,
    OrderCheckPassed,
    OrderConfirmed,
    OrderDeadlineExtended,
    OrderDelivered,
    OrderPaid,
    OrderPaymentFailed,
    OrderPaymentStarted,
    OrderPlaced,
    OrderRefunded,
    OrderRejected,
    OrderShipped,
    RejectReason,
    ShortItem,
)
from payments.events import PaymentCaptured, PaymentDeclined, PaymentRefunded, PaymentRequested, RefundRequested

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = Path(__file__).parent / "fixtures" / "events"
MODULES = [import_module(f"{path.parent.name}.events") for path in sorted(ROOT.glob("*/events.py"))]

AT = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
DUE = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
RESERVED = (ReservedItem(sku="tea", quantity=2), ReservedItem(sku="cup", quantity=1))

# What the file `<type>.v<schema version>.json` has to be read as. A new schema version gets a file of its own beside
# the old one, which is never changed: it stands for the rows that are stored somewhere.
EXPECTED: dict[str, Any] = {
    "coupon.redeemed.v1": CouponRedeemed(code="SPRING", customer_id=7, discount=100, at=AT),
    "coupon.refused.v1": CouponRefused(
        code="SPRING", customer_id=7, reason="coupon_used_up", detail="The coupon is used up.", at=AT
    ),
    "coupon.released.v1": CouponReleased(code="SPRING", customer_id=7, at=AT),
    "inventory.stock_adjusted.v1": StockAdjusted(sku="tea", change=-3, reason="broken", at=AT),
    "inventory.stock_received.v1": StockReceived(sku="tea", quantity=100, reason="delivery", at=AT),
    "inventory.stock_refused.v1": StockRefused(missing=(MissingItem(sku="tea", wanted=2, available=1),), at=AT),
    "inventory.stock_released.v1": StockReleased(items=RESERVED, at=AT),
    "inventory.stock_reserved.v1": StockReserved(items=RESERVED, at=AT),
    "inventory.stock_shipped.v1": StockShipped(items=RESERVED, at=AT),
    "notification.failed.v1": MessageFailed(
        customer_id=7, channel="email", about="order.placed", error="SMTPServerDisconnected", at=AT
    ),
    "notification.sent.v1": MessageSent(customer_id=7, channel="email", about="order.placed", at=AT),
    "order.cancelled.v1": OrderCancelled(customer_id=7, reason=CancelReason.PAYMENT_TIMEOUT, at=AT),
    "order.check_passed.v1": OrderCheckPassed(customer_id=7, check=Check.COUPON, at=AT),
    "order.confirmed.v1": OrderConfirmed(customer_id=7, at=AT),
    "order.deadline_extended.v1": OrderDeadlineExtended(customer_id=7, payment_due_at=DUE, at=AT),
    "order.delivered.v1": OrderDelivered(customer_id=7, at=AT),
    "order.paid.v1": OrderPaid(customer_id=7, payment_id="p1", amount=2000, currency="EUR", at=AT),
    "order.payment_failed.v1": OrderPaymentFailed(customer_id=7, payment_id="p1", at=AT),
    "order.payment_started.v1": OrderPaymentStarted(customer_id=7, payment_id="p1", hold_until=DUE, at=AT),
    "order.placed.v1": OrderPlaced(
        customer_id=7,
        currency="EUR",
        lines=(
            Line(sku="tea", name="Grüner Tee “Sencha”", quantity=2, unit_price=450),
            Line(sku="cup", name="Cup", quantity=1, unit_price=1200),
        ),
        coupon_code="SPRING",
        discount=100,
        payment_due_at=DUE,
        at=AT,
    ),
    "order.placed.v1.without-coupon": OrderPlaced(
        customer_id=7,
        currency="EUR",
        lines=(Line(sku="cup", name="Cup", quantity=1, unit_price=1200),),
        coupon_code=None,
        discount=0,
        payment_due_at=DUE,
        at=AT,
    ),
    "order.placed.v2": OrderPlaced(
        customer_id=7,
        currency="EUR",
        lines=(Line(sku="cup", name="Cup", quantity=1, unit_price=1200),),
        coupon_code=None,
        discount=0,
        payment_due_at=DUE,
        at=AT,
        ship_to=Address(name="Zoë Ångström", street="Kaivokatu 1", postal_code="00100", city="Helsinki", country="FI"),
    ),
    "order.refunded.v1": OrderRefunded(customer_id=7, payment_id="p1", amount=2000, currency="EUR", at=AT),
    "order.rejected.v1": OrderRejected(
        customer_id=7,
        reason=RejectReason.OUT_OF_STOCK,
        short=(ShortItem(sku="tea", wanted=2, available=1),),
        detail="",
        at=AT,
    ),
    "order.shipped.v1": OrderShipped(customer_id=7, tracking="T1", at=AT),
    "payment.captured.v1": PaymentCaptured(payment_id="p1", customer_id=7, amount=2000, currency="EUR", at=AT),
    "payment.declined.v1": PaymentDeclined(payment_id="p1", customer_id=7, reason="card_declined", at=AT),
    "payment.refund_requested.v1": RefundRequested(
        payment_id="p1", customer_id=7, amount=2000, currency="EUR", reason="order_cancelled", at=AT
    ),
    "payment.refunded.v1": PaymentRefunded(payment_id="p1", customer_id=7, amount=2000, currency="EUR", at=AT),
    "payment.requested.v1": PaymentRequested(payment_id="p1", customer_id=7, amount=2000, currency="EUR", at=AT),
}


@pytest.fixture(autouse=True, scope="module")
def registered() -> None:
    for module in MODULES:
        registry.register_module(module)
    assert orders_app  # whose import registers what reads older versions


def event_classes() -> Iterator[type[Any]]:
    for module in MODULES:
        for value in vars(module).values():
            if dataclasses.is_dataclass(value) and isinstance(value, type) and hasattr(value, "TYPE"):
                yield value


def split(name: str) -> tuple[str, int]:
    """`order.placed.v1.without-coupon` is about version 1 of `order.placed`."""
    event_type, _, rest = name.partition(".v")
    return event_type, int(rest.partition(".")[0])


def test_every_version_of_every_event_is_frozen_in_a_file() -> None:
    files = {path.stem for path in FIXTURES.glob("*.json")}
    shipped = {(cls.TYPE, version) for cls in event_classes() for version in range(1, cls.SCHEMA_VERSION + 1)}

    assert files == EXPECTED.keys()
    assert {split(name) for name in files} == shipped


@pytest.mark.parametrize("name", EXPECTED)
def test_a_stored_event_is_read_as_what_it_meant(name: str) -> None:
    text = (FIXTURES / f"{name}.json").read_text(encoding="utf-8")

    assert registry.decode(*split(name), text) == EXPECTED[name]
    assert registry.decode(*split(name), json.loads(text)) == EXPECTED[name]


@pytest.mark.parametrize("name", EXPECTED)
def test_an_event_is_stored_as_its_version_promises(name: str) -> None:
    event = EXPECTED[name]
    if split(name)[1] == event.SCHEMA_VERSION:
        assert json.loads(registry.encode(event)) == json.loads((FIXTURES / f"{name}.json").read_text(encoding="utf-8"))
