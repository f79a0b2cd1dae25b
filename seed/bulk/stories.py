"""The history of one order in all contexts, told by their own rules, without a database."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from coupons import domain as coupons
from coupons.commands import Command as CouponCommand
from coupons.commands import RedeemCoupon, ReleaseCoupon
from coupons.domain import Coupon, Redemption
from coupons.events import REDEMPTION, CouponRedeemed
from eventing.recorded import Event, Metadata, Recorded
from inventory import domain as inventory
from inventory.commands import Command as StockCommand
from inventory.commands import ReleaseStock, ReserveStock, ShipStock
from inventory.domain import Level, Reservation
from inventory.events import RESERVATION, ReservedItem, StockReserved
from orders import domain as orders
from orders.commands import (
    CancelOrder,
    Command,
    ConfirmOrder,
    DeliverOrder,
    FailPayment,
    PayOrder,
    PlaceOrder,
    RefundOrder,
    RejectOrder,
    ShipOrder,
    StartPayment,
)
from orders.domain import Order
from orders.events import CATEGORY as ORDER
from orders.events import CancelReason, Check, Line, RejectReason, ShortItem
from payments.events import CATEGORY as PAYMENT
from payments.events import PaymentCaptured, PaymentDeclined, PaymentRefunded, PaymentRequested, RefundRequested

TERM = timedelta(minutes=30)  # to pay
REACTION = timedelta(milliseconds=15)  # from an event to what a subscriber does about it
ACCEPTED, DECLINED = "tok_ok", "tok_declined"
COMMIT = timedelta(milliseconds=3)  # from a decision to its event in the store

# When the people and the clock of a story act; a template has these in place of real times. Each is in a second of
# its own, and all that follows from it happens within that second.
PLACED = datetime(2026, 1, 2, tzinfo=UTC)
MOMENTS = {
    "placed": PLACED,
    "cancelled": PLACED + timedelta(minutes=5),
    "paid": PLACED + timedelta(minutes=10),
    "paid_again": PLACED + timedelta(minutes=20),
    "due": PLACED + TERM,
    "held": PLACED + timedelta(minutes=10) + orders.PAYMENT_HOLD,
    "held_again": PLACED + timedelta(minutes=20) + orders.PAYMENT_HOLD,
    "expired": PLACED + TERM + timedelta(seconds=2),
    "refunded": PLACED + timedelta(days=1),
    "shipped": PLACED + timedelta(days=2),
    "delivered": PLACED + timedelta(days=4),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Basket:
    """What is ordered in a story; `coupon` is its terms at that time."""

    lines: tuple[Line, ...]
    currency: str
    coupon: Coupon | None = None
    short: bool = False  # inventory does not have enough of the first product


@dataclass(slots=True, kw_only=True)
class Course:
    """One order on its way. `events` are those of all contexts in the order in which they were recorded."""

    order_id: int
    customer_id: int
    tracking: str
    basket: Basket
    chance: random.Random
    events: list[Recorded[Any]] = field(default_factory=list)
    tokens: dict[str, str] = field(default_factory=dict)  # of payments, by their id
    fraction: timedelta = field(init=False)
    order: Order = field(default_factory=Order)
    reservation: Reservation = field(default_factory=Reservation)
    redemption: Redemption = field(default_factory=Redemption)
    captured: PaymentCaptured | None = None
    ended: Recorded[Any] | None = None

    def __post_init__(self) -> None:
        self.fraction = timedelta(microseconds=self.chance.randrange(300_000))

    def history(self, category: str) -> list[Recorded[Any]]:
        return [recorded for recorded in self.events if recorded.category == category]

    # --- What people do -----------------------------------------------------------------------------------------------

    def take(self, step: str) -> None:
        """One step of a story, and all that the contexts do about it."""
        match step:
            case "place":
                self._place()
            case "decline":
                self._pay("paid", DECLINED)
            case "pay":
                self._pay("paid_again" if self.tokens else "paid", ACCEPTED)
            case "ship":
                self._ship()
            case "deliver":
                at = self._at("delivered")
                self._decide(DeliverOrder(order_id=self.order_id, at=at), self._asked("operator:seed"))
            case "refund":
                at = self._at("refunded")
                self._end(RefundOrder(order_id=self.order_id, at=at), self._asked("operator:seed"))
            case "cancel":
                self._cancel("cancelled", CancelReason.CUSTOMER, f"customer:{self.customer_id}")
            case "withdraw":
                self._cancel("cancelled", CancelReason.OPERATOR, "operator:seed")
            case "expire":
                self._cancel("expired", CancelReason.PAYMENT_TIMEOUT, "clock")
            case _:
                raise ValueError(f"there is no step {step!r}")

    def _place(self) -> None:
        basket, at = self.basket, self._at("placed")
        subtotal = orders.sum_of(basket.lines)
        discount = coupons.discount_of(basket.coupon, subtotal) if basket.coupon else 0
        [placed] = self._decide(
            PlaceOrder(
                order_id=self.order_id,
                customer_id=self.customer_id,
                currency=basket.currency,
                lines=basket.lines,
                coupon_code=basket.coupon.code if basket.coupon else None,
                discount=discount,
                payment_due_at=at + TERM,
                at=at,
            ),
            self._asked(f"customer:{self.customer_id}"),
        )
        reserved = self._reserve(placed)
        redeemed = self._redeem(placed, basket.coupon, subtotal, discount) if basket.coupon else None
        if isinstance(reserved.event, StockReserved):
            self._react(ConfirmOrder(order_id=self.order_id, check=Check.STOCK, at=_after(reserved)), reserved)
        else:
            short = tuple(
                ShortItem(sku=item.sku, wanted=item.wanted, available=item.available) for item in reserved.event.missing
            )
            reason = RejectReason.OUT_OF_STOCK
            self._reject(RejectOrder(order_id=self.order_id, reason=reason, short=short, at=_after(reserved)), reserved)
        if redeemed is None or self.ended is not None:
            return
        if isinstance(redeemed.event, CouponRedeemed):
            self._react(ConfirmOrder(order_id=self.order_id, check=Check.COUPON, at=_after(redeemed)), redeemed)
        else:
            reason, detail = RejectReason.COUPON_REFUSED, redeemed.event.detail
            self._reject(
                RejectOrder(order_id=self.order_id, reason=reason, detail=detail, at=_after(redeemed)), redeemed
            )

    def _pay(self, moment: str, token: str) -> None:
        payment_id = str(UUID(int=self.chance.getrandbits(128), version=4))
        self.tokens[payment_id] = token
        total, currency, customer = self.order.total, self.order.currency, self.customer_id
        asked = self._asked(f"customer:{customer}")
        self._decide(StartPayment(order_id=self.order_id, payment_id=payment_id, at=self._at(moment)), asked)
        requested = self._record(
            PAYMENT,
            PaymentRequested(
                payment_id=payment_id, customer_id=customer, amount=total, currency=currency, at=self._at(moment)
            ),
            asked,
        )
        at = _after(requested)
        if token == DECLINED:
            declined = PaymentDeclined(payment_id=payment_id, customer_id=customer, reason="card_declined", at=at)
            answer = self._record(PAYMENT, declined, _caused(requested, "payments"))
            self._react(FailPayment(order_id=self.order_id, payment_id=payment_id, at=_after(answer)), answer)
            return
        self.captured = PaymentCaptured(
            payment_id=payment_id, customer_id=customer, amount=total, currency=currency, at=at
        )
        captured = self._record(PAYMENT, self.captured, _caused(requested, "payments"))
        self._react(
            PayOrder(
                order_id=self.order_id, payment_id=payment_id, amount=total, currency=currency, at=_after(captured)
            ),
            captured,
        )

    def _ship(self) -> None:
        command = ShipOrder(order_id=self.order_id, tracking=self.tracking, at=self._at("shipped"))
        [shipped] = self._decide(command, self._asked("operator:seed"))
        self._set_aside(ShipStock(order_id=self.order_id, at=_after(shipped)), shipped, {})

    def _cancel(self, moment: str, reason: CancelReason, actor: str) -> None:
        self._end(CancelOrder(order_id=self.order_id, reason=reason, at=self._at(moment)), self._asked(actor))

    # --- What the contexts do about it --------------------------------------------------------------------------------

    def _reserve(self, placed: Recorded[Any]) -> Recorded[Any]:
        items = tuple(ReservedItem(sku=line.sku, quantity=line.quantity) for line in self.basket.lines)
        levels = {item.sku: Level(on_hand=item.quantity) for item in items}
        if self.basket.short:
            levels[items[0].sku] = Level(on_hand=items[0].quantity // 2)
        [recorded] = self._set_aside(
            ReserveStock(order_id=self.order_id, items=items, at=_after(placed)), placed, levels
        )
        return recorded

    def _set_aside(
        self, command: StockCommand, cause: Recorded[Any], levels: Mapping[str, Level]
    ) -> Sequence[Recorded[Any]]:
        held = {item.sku: Level(on_hand=item.quantity, reserved=item.quantity) for item in self.reservation.items}
        known = {} if self.reservation.status is None else {self.order_id: self.reservation}
        result = inventory.allocate([command], known, {**held, **levels})
        self.reservation = result.reservations[self.order_id]
        return [self._record(RESERVATION, event, _caused(cause, "inventory")) for event in result.events if event]

    def _redeem(self, placed: Recorded[Any], coupon: Coupon, subtotal: int, discount: int) -> Recorded[Any]:
        [recorded] = self._settle(
            RedeemCoupon(
                order_id=self.order_id,
                customer_id=self.customer_id,
                code=coupon.code,
                subtotal=subtotal,
                currency=self.basket.currency,
                discount=discount,
                placed_at=placed.event.at,
                at=_after(placed),
            ),
            placed,
        )
        return recorded

    def _settle(self, command: CouponCommand, cause: Recorded[Any]) -> Sequence[Recorded[Any]]:
        coupon = self.basket.coupon
        known = {} if self.redemption.status is None else {self.order_id: self.redemption}
        result = coupons.settle([command], known, {coupon.code: coupon} if coupon else {}, {})
        self.redemption = result.redemptions[self.order_id]
        return [self._record(REDEMPTION, event, _caused(cause, "coupons")) for event in result.events if event]

    def _react(self, command: Command, cause: Recorded[Any]) -> None:
        self._decide(command, _caused(cause, "orders"))

    def _reject(self, command: RejectOrder, cause: Recorded[Any]) -> None:
        self._end(command, _caused(cause, "orders"))

    def _end(self, command: Command, metadata: Metadata) -> None:
        """The order comes to nothing: stock, coupon and money go back."""
        [ended] = self._decide(command, metadata)
        self.ended = ended
        at = _after(ended)
        self._set_aside(ReleaseStock(order_id=self.order_id, at=at), ended, {})
        self._settle(ReleaseCoupon(order_id=self.order_id, customer_id=self.customer_id, at=at), ended)
        if (captured := self.captured) is None:
            return
        money: dict[str, Any] = {"payment_id": captured.payment_id, "customer_id": self.customer_id}
        money |= {"amount": captured.amount, "currency": captured.currency}
        requested = self._record(
            PAYMENT,
            RefundRequested(**money, reason=ended.event.TYPE.replace(".", "_"), at=at),
            _caused(ended, "payments"),
        )
        self._record(PAYMENT, PaymentRefunded(**money, at=_after(requested)), _caused(requested, "payments"))

    # --- Writing it down ----------------------------------------------------------------------------------------------

    def _decide(self, command: Command, metadata: Metadata) -> Sequence[Recorded[Any]]:
        events = orders.decide(self.order, command)
        self.order = orders.fold(events, start=self.order)
        return [self._record(ORDER, event, metadata) for event in events]

    def _record(self, category: str, event: Event, metadata: Metadata) -> Recorded[Any]:
        recorded = Recorded(
            category=category,
            stream_id=self.order_id,
            version=len(self.history(category)) + 1,
            event=event,
            metadata=metadata,
            recorded_at=event.at + COMMIT,  # type: ignore[attr-defined]  # every event of an app says when
        )
        self.events.append(recorded)
        return recorded

    def _at(self, moment: str) -> datetime:
        return MOMENTS[moment] + self.fraction

    def _asked(self, actor: str) -> Metadata:
        return Metadata(correlation_id=f"{self.chance.getrandbits(128):032x}", actor=actor)


def _after(cause: Recorded[Any]) -> datetime:
    return cause.recorded_at + REACTION


def _caused(cause: Recorded[Any], actor: str) -> Metadata:
    return Metadata.caused_by(cause, actor=actor)
