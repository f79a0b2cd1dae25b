"""Says in words and steps how far an order is: from its events, without asking anybody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import assert_never

from eventing.recorded import Recorded
from orders.domain import FINAL, Order, Status, evolve
from orders.events import (
    Address,
    CancelReason,
    Check,
    Event,
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
from payments.selectors import PaymentState, Progress

History = Sequence[Recorded[Event]]

WAY = (Status.PLACED, Status.CONFIRMED, Status.PAID, Status.SHIPPED, Status.DELIVERED)
SOON = 500  # milliseconds between two looks at an order while machines work on it
LATER = 3000  # and while it waits for a person


class StepState(StrEnum):
    DONE = "done"
    CURRENT = "current"
    AHEAD = "ahead"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A point on the order's way, and when it was reached."""

    name: str
    state: StepState
    at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An event in words: `who` caused it, and what it means."""

    version: int
    type: str
    at: datetime
    who: str
    what: str
    because: str


def steps(history: History) -> list[Step]:
    """The way of the order: what it has reached, and what is ahead unless it has been stopped."""
    reached = _reached(history)
    last = next(reversed(reached), None)
    way = [status for status in WAY if status in reached]
    if last is not None and last not in WAY:
        way.append(last)
    elif last is not Status.DELIVERED:
        way += [status for status in WAY if status not in reached]
    return [Step(name=status.value, state=_step_state(status, last, reached), at=reached.get(status)) for status in way]


def headline(history: History, payment: PaymentState) -> str:
    """How the order stands, in one sentence for its customer."""
    status = status_of(history)
    match status:
        case Status.PLACED:
            coupon = any(isinstance(r.event, OrderPlaced) and r.event.coupon_code for r in history)
            return f"We are checking our stock{' and your coupon' if coupon else ''}."
        case Status.CONFIRMED:
            match payment.progress:
                case Progress.IN_PROGRESS | Progress.CAPTURED:
                    return "Your payment is on its way."
                case Progress.DECLINED:
                    return f"{payment.message} You can try again."
                case _:
                    return "Confirmed: everything is set aside for you. Please pay now."
        case Status.PAID:
            return "Paid. We are packing your order."
        case Status.SHIPPED:
            return "Your order is on its way to you."
        case Status.DELIVERED:
            return "Delivered. Thank you for shopping at Wharf."
        case Status.REJECTED | Status.CANCELLED | Status.REFUNDED:
            return f"{_what(history[-1].event)}{_money_back(payment)}"
        case _:
            assert_never(status)


def ship_to(history: History) -> Address | None:
    """Where the order goes; the oldest ones do not say."""
    return next((r.event.ship_to for r in history if isinstance(r.event, OrderPlaced)), None)


def short_items(history: History) -> list[ShortItem]:
    """The products of which there was not enough; empty unless that stopped the order."""
    return [item for recorded in history if isinstance(recorded.event, OrderRejected) for item in recorded.event.short]


def entries(history: History) -> list[Entry]:
    """All that has happened to the order, oldest first."""
    return [
        Entry(
            version=recorded.version,
            type=recorded.event.TYPE,
            at=recorded.event.at,
            who=who(recorded.metadata.actor, recorded.event.customer_id),
            what=_what(recorded.event),
            because=recorded.metadata.causation_id or "",
        )
        for recorded in history
    ]


def pause(status: Status, payment: PaymentState) -> int | None:
    """Milliseconds until something may be new; None when nothing will be any more."""
    if payment.progress in (Progress.IN_PROGRESS, Progress.REFUNDING):
        return SOON
    if status in FINAL:
        return None
    if status is Status.PLACED or (status is Status.CONFIRMED and payment.progress is Progress.CAPTURED):
        return SOON
    return LATER


def _step_state(status: Status, last: Status | None, reached: dict[Status, datetime]) -> StepState:
    if status not in reached:
        return StepState.AHEAD
    if status not in WAY:
        return StepState.STOPPED
    return StepState.CURRENT if status is last and status not in FINAL else StepState.DONE


def status_of(history: History) -> Status:
    return next(reversed(_reached(history)))


def _reached(history: History) -> dict[Status, datetime]:
    """When the order came to each status, the latest last."""
    order = Order()
    reached: dict[Status, datetime] = {}
    for recorded in history:
        order = evolve(order, recorded.event)
        if order.status is not None:
            reached.setdefault(order.status, recorded.event.at)
    return reached


def _money_back(payment: PaymentState) -> str:
    match payment.progress:
        case Progress.REFUNDING | Progress.IN_PROGRESS | Progress.CAPTURED:
            return " Your money is on its way back."
        case Progress.REFUNDED:
            return " Your money has been given back."
        case Progress.NONE | Progress.DECLINED:
            return ""
        case _:
            assert_never(payment.progress)


def who(actor: str, customer_id: int) -> str:
    """`customer:7` as the customer sees it; parts of the shop keep their names."""
    kind, _, number = actor.partition(":")
    match kind:
        case "customer":
            return "you" if number == str(customer_id) else "another customer"
        case "operator":
            return "the shop's staff"
        case "clock":
            return "the clock"
        case _:
            return actor


def _what(event: Event) -> str:
    match event:
        case OrderPlaced():
            pieces = sum(line.quantity for line in event.lines)
            return f"Placed, with {pieces} {'piece' if pieces == 1 else 'pieces'}."
        case OrderCheckPassed():
            return "The stock is set aside." if event.check is Check.STOCK else "The coupon is accepted."
        case OrderConfirmed():
            return "Confirmed: all checks have passed."
        case OrderRejected():
            return _rejection(event)
        case OrderDeadlineExtended():
            return f"You have more time to pay: until {event.payment_due_at:%-d %B, %H:%M} UTC."
        case OrderPaymentStarted():
            return "Your payment has started. Until we know how it went, the order is not cancelled for being late."
        case OrderPaymentFailed():
            return "Your payment did not go through."
        case OrderPaid():
            return "Paid in full."
        case OrderShipped():
            return f"Shipped, tracking number {event.tracking}." if event.tracking else "Shipped."
        case OrderDelivered():
            return "Delivered."
        case OrderCancelled():
            return _cancellation(event.reason)
        case OrderRefunded():
            return "Refunded by the shop."
        case _:
            assert_never(event)


def _rejection(event: OrderRejected) -> str:
    match event.reason:
        case RejectReason.OUT_OF_STOCK:
            return "Rejected: we do not have enough of what you ordered."
        case RejectReason.COUPON_REFUSED:
            return f"Rejected: the coupon was refused. {event.detail}".strip()
        case _:
            assert_never(event.reason)


def _cancellation(reason: CancelReason) -> str:
    match reason:
        case CancelReason.CUSTOMER:
            return "Cancelled at your wish."
        case CancelReason.OPERATOR:
            return "Cancelled by the shop."
        case CancelReason.PAYMENT_TIMEOUT:
            return "Cancelled, because it was not paid in time."
        case _:
            assert_never(reason)
