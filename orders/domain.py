"""The Order aggregate: pure functions, no Django, no clock, no I/O."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from functools import reduce
from typing import assert_never

from orders.commands import (
    CancelOrder,
    Command,
    ConfirmOrder,
    DeliverOrder,
    ExtendDeadline,
    FailPayment,
    PayOrder,
    PlaceOrder,
    RefundOrder,
    RejectOrder,
    ShipOrder,
    StartPayment,
)
from orders.events import (
    Address,
    CancelReason,
    Check,
    Event,
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
)
from values.countries import COUNTRIES
from values.errors import RuleError
from values.text import InvalidText, Text

MAX_LINES = 100
MAX_QUANTITY = 999
MAX_UNIT_PRICE = 10**12  # the dearest possible order still fits into 63 bits
MAX_PAYMENT_TERM = timedelta(days=30)
# How long the clock waits for the outcome of a payment: longer than all attempts to ask the gateway take together.
# It is counted from the deadline, so that nobody keeps an order open by paying again and again.
PAYMENT_HOLD = timedelta(hours=1)
NAME = Text(longest=100)
STREET = Text(longest=200)
POSTAL_CODE = Text(shortest=0, longest=20)
CITY = Text(longest=100)
ADDRESS = {"name": NAME, "street": STREET, "postal_code": POSTAL_CODE, "city": CITY}
TRACKING = Text(shortest=0, longest=100)


class Status(StrEnum):
    PLACED = "placed"
    CONFIRMED = "confirmed"
    REJECTED = "rejected"
    PAID = "paid"
    SHIPPED = "shipped"
    DELIVERED = "delivered"
    CANCELLED = "cancelled"
    REFUNDED = "refunded"


FINAL = frozenset({Status.REJECTED, Status.DELIVERED, Status.CANCELLED, Status.REFUNDED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What the rules need to know of an order. `Order()` is one that has not been placed; its status is None.

    `waiting_for` holds the checks that are still open; `payments_under_way` holds the ids of payments without an
    outcome, and until when the clock waits for each. Amounts are in minor units of `currency`.
    """

    status: Status | None = None
    customer_id: int = 0
    currency: str = ""
    lines: tuple[Line, ...] = ()
    coupon_code: str | None = None
    discount: int = 0
    placed_at: datetime | None = None
    payment_due_at: datetime | None = None
    waiting_for: frozenset[Check] = frozenset()
    ship_to: Address | None = None
    payments_under_way: frozenset[tuple[str, datetime]] = frozenset()
    payment_id: str | None = None
    tracking: str | None = None

    @property
    def subtotal(self) -> int:
        return sum_of(self.lines)

    @property
    def total(self) -> int:
        return self.subtotal - self.discount

    @property
    def expires_at(self) -> datetime | None:
        """When the clock may cancel the order: at its deadline, or later while a payment is under way."""
        if self.status not in (Status.PLACED, Status.CONFIRMED) or self.payment_due_at is None:
            return None
        return max([self.payment_due_at, *(hold_until for _, hold_until in self.payments_under_way)])

    def waits_for_payment(self, payment_id: str) -> bool:
        return any(payment_id == known for known, _ in self.payments_under_way)


class OrderError(RuleError):
    """A business rule refused the command. Never retried."""


class OrderNotFound(OrderError):
    """There is no such order."""


class OrderAlreadyPlaced(OrderError):
    """Another order was placed under this number."""


class EmptyOrder(OrderError):
    """An order needs at least one line."""


class TooManyLines(OrderError):
    """An order has too many lines."""


class RepeatedProduct(OrderError):
    """Each product may stand in one line only."""


class InvalidQuantity(OrderError):
    """A quantity must be a whole number within limits."""


class InvalidPrice(OrderError):
    """A price must be a whole number of minor units within limits."""


class InvalidDiscount(OrderError):
    """A discount must be a whole number of minor units and no more than the sum of the lines."""


class InvalidCurrency(OrderError):
    """A currency is a code of three capital letters."""


class InvalidAddress(OrderError):
    """An address needs a name, a street, a city and a country, of reasonable length and in printable characters."""


class InvalidTracking(OrderError):
    """A tracking number has up to 100 printable characters."""


class InvalidDeadline(OrderError):
    """A payment deadline must lie in the future and within the longest payment term."""


class NoDeadline(OrderError):
    """The order does not wait for a payment any more, so it has no deadline."""


class AlreadyConfirmed(OrderError):
    """The order passed all its checks and can no longer be rejected."""


class NotYetConfirmed(OrderError):
    """The order is still being checked and cannot be paid yet."""


class PaymentMismatch(OrderError):
    """The payment is not the order's total."""


class OrderAlreadyPaid(OrderError):
    """The order is already paid by another payment."""


class OrderClosed(OrderError):
    """The order has come to an end and nothing more can be done with it."""


class PaymentNotDue(OrderError):
    """The payment deadline has not passed yet, or a payment is under way."""


class CannotCancelPaid(OrderError):
    """The order is paid and can no longer be cancelled."""


class CannotCancelShipped(OrderError):
    """The order has been shipped and can no longer be cancelled."""


class NotYetPaid(OrderError):
    """The order must be paid first."""


class AlreadyShipped(OrderError):
    """The order has been shipped with another tracking number."""


class NotYetShipped(OrderError):
    """The order must be shipped first."""


class CannotRefundShipped(OrderError):
    """The order has been shipped and can no longer be refunded."""


def decide(order: Order, command: Command) -> list[Event]:
    """The events that the command causes; raises an OrderError if it is refused.

    A command that is repeated, or arrives after the order has moved on, causes nothing.
    """
    match command:
        case PlaceOrder():
            return _place(order, command)
        case ConfirmOrder():
            return _confirm(order, command)
        case RejectOrder():
            return _reject(order, command)
        case ExtendDeadline():
            return _extend_deadline(order, command)
        case StartPayment():
            return _start_payment(order, command)
        case FailPayment():
            return _fail_payment(order, command)
        case PayOrder():
            return _pay(order, command)
        case ShipOrder():
            return _ship(order, command)
        case DeliverOrder():
            return _deliver(order, command)
        case CancelOrder():
            return _cancel(order, command)
        case RefundOrder():
            return _refund(order, command)
        case _:
            assert_never(command)


def evolve(order: Order, event: Event) -> Order:
    """Apply one event. Accepts every event ever stored."""
    match event:
        case OrderPlaced():
            checks = {Check.STOCK} if event.coupon_code is None else {Check.STOCK, Check.COUPON}
            return Order(
                status=Status.PLACED,
                customer_id=event.customer_id,
                currency=event.currency,
                lines=event.lines,
                coupon_code=event.coupon_code,
                discount=event.discount,
                placed_at=event.at,
                payment_due_at=event.payment_due_at,
                ship_to=event.ship_to,
                waiting_for=frozenset(checks),
            )
        case OrderCheckPassed():
            return replace(order, waiting_for=order.waiting_for - {event.check})
        case OrderConfirmed():
            return replace(order, status=Status.CONFIRMED, waiting_for=frozenset())
        case OrderRejected():
            return replace(order, status=Status.REJECTED)
        case OrderDeadlineExtended():
            return replace(order, payment_due_at=event.payment_due_at)
        case OrderPaymentStarted():
            held = (event.payment_id, event.hold_until)
            return replace(order, payments_under_way=order.payments_under_way | {held})
        case OrderPaymentFailed():
            others = frozenset(held for held in order.payments_under_way if held[0] != event.payment_id)
            return replace(order, payments_under_way=others)
        case OrderPaid():
            return replace(order, status=Status.PAID, payment_id=event.payment_id)
        case OrderShipped():
            return replace(order, status=Status.SHIPPED, tracking=event.tracking)
        case OrderDelivered():
            return replace(order, status=Status.DELIVERED)
        case OrderCancelled():
            return replace(order, status=Status.CANCELLED)
        case OrderRefunded():
            return replace(order, status=Status.REFUNDED)
        case _:
            assert_never(event)


def fold(events: Iterable[Event], *, start: Order | None = None) -> Order:
    """The state of an order after these events, oldest first."""
    return reduce(evolve, events, start or Order())


def sum_of(lines: Iterable[Line]) -> int:
    """What the lines cost before any discount, in minor units."""
    return sum(line.quantity * line.unit_price for line in lines)


def _place(order: Order, command: PlaceOrder) -> list[Event]:
    placed = OrderPlaced(
        customer_id=command.customer_id,
        currency=command.currency,
        lines=command.lines,
        coupon_code=command.coupon_code or None,
        discount=command.discount,
        payment_due_at=command.payment_due_at,
        at=command.at,
        ship_to=None if command.ship_to is None else clean_address(command.ship_to),
    )
    if order.status is not None:
        if _placement_of(order) == _placement_of(evolve(Order(), placed)):
            return []
        raise OrderAlreadyPlaced
    _check_lines(placed.lines)
    if re.fullmatch("[A-Z]{3}", placed.currency) is None:
        raise InvalidCurrency(f"got {placed.currency!r}")
    subtotal = sum_of(placed.lines)
    if not _is_whole(placed.discount, 0, subtotal):
        raise InvalidDiscount(f"expected 0..{subtotal}, got {placed.discount}")
    if not placed.at < placed.payment_due_at <= placed.at + MAX_PAYMENT_TERM:
        raise InvalidDeadline(f"expected at most {MAX_PAYMENT_TERM.days} days, got {placed.payment_due_at - placed.at}")
    return [placed]


def _placement_of(order: Order) -> tuple[object, ...]:
    """What the customer asked for, whatever became of it; the deadline may have been extended."""
    return (
        order.customer_id,
        order.currency,
        order.lines,
        order.coupon_code,
        order.discount,
        order.placed_at,
        order.ship_to,
    )


def _check_lines(lines: tuple[Line, ...]) -> None:
    if not lines:
        raise EmptyOrder
    if len(lines) > MAX_LINES:
        raise TooManyLines(f"expected 1..{MAX_LINES}, got {len(lines)}")
    seen: set[str] = set()
    for line in lines:
        if line.sku in seen:
            raise RepeatedProduct(line.sku)
        seen.add(line.sku)
        if not _is_whole(line.quantity, 1, MAX_QUANTITY):
            raise InvalidQuantity(f"expected 1..{MAX_QUANTITY} of {line.sku}, got {line.quantity}")
        if not _is_whole(line.unit_price, 0, MAX_UNIT_PRICE):
            raise InvalidPrice(f"expected 0..{MAX_UNIT_PRICE} for {line.sku}, got {line.unit_price}")


def clean_address(address: Address) -> Address:
    """The address as it is stored; raises InvalidAddress."""
    # The messages name the field and never what stands in it: they end up in logs, and addresses must not.
    texts = {}
    for field, rule in ADDRESS.items():
        try:
            texts[field] = rule.clean(getattr(address, field))
        except InvalidText as error:
            raise InvalidAddress(f"{field}: {error}") from None
    if address.country not in COUNTRIES:
        raise InvalidAddress("country: expected the ISO 3166-1 code of a country that we ship to, such as DE or GB")
    return replace(address, **texts)


def _is_whole(number: object, lowest: int, highest: int) -> bool:
    # bool is a subclass of int, and True is not a quantity
    return type(number) is int and lowest <= number <= highest


def _confirm(order: Order, command: ConfirmOrder) -> list[Event]:
    if order.status is None:
        raise OrderNotFound
    if order.status is not Status.PLACED or command.check not in order.waiting_for:
        return []  # heard before, not needed, or too late: what the check set aside is released by the final event
    if order.waiting_for == {command.check}:
        return [OrderConfirmed(customer_id=order.customer_id, at=command.at)]
    return [OrderCheckPassed(customer_id=order.customer_id, check=command.check, at=command.at)]


def _reject(order: Order, command: RejectOrder) -> list[Event]:
    match order.status:
        case None:
            raise OrderNotFound
        case Status.PLACED:
            return [
                OrderRejected(
                    customer_id=order.customer_id,
                    reason=command.reason,
                    short=command.short,
                    detail=command.detail,
                    at=command.at,
                )
            ]
        case Status.REJECTED | Status.CANCELLED:
            return []  # both checks may fail, and a customer may cancel before either does
        case Status.CONFIRMED | Status.PAID | Status.SHIPPED | Status.DELIVERED | Status.REFUNDED:
            raise AlreadyConfirmed(f"it is {order.status}")
        case _:
            assert_never(order.status)


def _extend_deadline(order: Order, command: ExtendDeadline) -> list[Event]:
    due, placed_at = order.payment_due_at, order.placed_at
    if due is None or placed_at is None:
        raise OrderNotFound
    if command.payment_due_at == due:
        return []
    if order.status not in (Status.PLACED, Status.CONFIRMED):
        raise NoDeadline(f"it is {order.status}")
    earliest, latest = max(due, command.at), placed_at + MAX_PAYMENT_TERM
    if not earliest < command.payment_due_at <= latest:
        asked = f"expected after {_minute(earliest)} and by {_minute(latest)}, got {_minute(command.payment_due_at)}"
        raise InvalidDeadline(asked)
    return [OrderDeadlineExtended(customer_id=order.customer_id, payment_due_at=command.payment_due_at, at=command.at)]


def _minute(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M %Z}"


def _start_payment(order: Order, command: StartPayment) -> list[Event]:
    """Whether another payment is in progress is for payments to say: it sees all of them."""
    match order.status:
        case None:
            raise OrderNotFound
        case Status.PLACED:
            raise NotYetConfirmed
        case Status.CONFIRMED:
            if order.waits_for_payment(command.payment_id):
                return []
            # By the deadline and not by `at`: the clock of the process that asks may be hours behind.
            hold_until = (order.payment_due_at or command.at) + PAYMENT_HOLD
            return [
                OrderPaymentStarted(
                    customer_id=order.customer_id,
                    payment_id=command.payment_id,
                    hold_until=hold_until,
                    at=command.at,
                )
            ]
        case Status.PAID | Status.SHIPPED | Status.DELIVERED | Status.REFUNDED:
            if command.payment_id == order.payment_id:
                return []
            raise OrderAlreadyPaid(f"by {order.payment_id}, not by {command.payment_id}")
        case Status.REJECTED | Status.CANCELLED:
            raise OrderClosed(f"it is {order.status}")
        case _:
            assert_never(order.status)


def _fail_payment(order: Order, command: FailPayment) -> list[Event]:
    if order.status is None:
        raise OrderNotFound
    if order.status is not Status.CONFIRMED or not order.waits_for_payment(command.payment_id):
        return []  # repeated, late, or older than the event OrderPaymentStarted
    return [OrderPaymentFailed(customer_id=order.customer_id, payment_id=command.payment_id, at=command.at)]


def _pay(order: Order, command: PayOrder) -> list[Event]:
    match order.status:
        case None:
            raise OrderNotFound
        case Status.PLACED:
            raise NotYetConfirmed
        case Status.CONFIRMED:
            if (command.amount, command.currency) != (order.total, order.currency):
                raise PaymentMismatch(
                    f"expected {order.total} {order.currency}, got {command.amount} {command.currency}"
                )
            return [
                OrderPaid(
                    customer_id=order.customer_id,
                    payment_id=command.payment_id,
                    amount=command.amount,
                    currency=command.currency,
                    at=command.at,
                )
            ]
        case Status.PAID | Status.SHIPPED | Status.DELIVERED | Status.REFUNDED:
            if command.payment_id == order.payment_id:
                return []
            raise OrderAlreadyPaid(f"by {order.payment_id}, not by {command.payment_id}")
        case Status.REJECTED | Status.CANCELLED:
            raise OrderClosed(f"it is {order.status}")
        case _:
            assert_never(order.status)


def _ship(order: Order, command: ShipOrder) -> list[Event]:
    match order.status:
        case None:
            raise OrderNotFound
        case Status.PLACED | Status.CONFIRMED:
            raise NotYetPaid
        case Status.PAID:
            return [
                OrderShipped(customer_id=order.customer_id, tracking=clean_tracking(command.tracking), at=command.at)
            ]
        case Status.SHIPPED | Status.DELIVERED:
            if clean_tracking(command.tracking) == order.tracking:
                return []
            raise AlreadyShipped(f"{order.tracking!r}, not {command.tracking!r}")
        case Status.REJECTED | Status.CANCELLED | Status.REFUNDED:
            raise OrderClosed(f"it is {order.status}")
        case _:
            assert_never(order.status)


def clean_tracking(text: str) -> str:
    """The tracking number as it is stored; raises InvalidTracking."""
    try:
        return TRACKING.clean(text)
    except InvalidText as error:
        raise InvalidTracking(str(error)) from None


def _deliver(order: Order, command: DeliverOrder) -> list[Event]:
    match order.status:
        case None:
            raise OrderNotFound
        case Status.PLACED | Status.CONFIRMED | Status.PAID:
            raise NotYetShipped
        case Status.SHIPPED:
            return [OrderDelivered(customer_id=order.customer_id, at=command.at)]
        case Status.DELIVERED:
            return []
        case Status.REJECTED | Status.CANCELLED | Status.REFUNDED:
            raise OrderClosed(f"it is {order.status}")
        case _:
            assert_never(order.status)


def _cancel(order: Order, command: CancelOrder) -> list[Event]:
    timeout = command.reason is CancelReason.PAYMENT_TIMEOUT
    match order.status:
        case None:
            raise OrderNotFound
        case Status.PLACED | Status.CONFIRMED:
            due = order.expires_at
            if timeout and due is not None and command.at < due:
                raise PaymentNotDue(f"it may be cancelled at {due.isoformat()}, not at {command.at.isoformat()}")
            return [OrderCancelled(customer_id=order.customer_id, reason=command.reason, at=command.at)]
        case Status.CANCELLED:
            return []
        case Status.PAID | Status.SHIPPED | Status.DELIVERED | Status.REFUNDED | Status.REJECTED if timeout:
            return []  # the payment, or the rejection, won the race against the clock
        case Status.PAID:
            raise CannotCancelPaid
        case Status.SHIPPED | Status.DELIVERED:
            raise CannotCancelShipped(f"it is {order.status}")
        case Status.REJECTED | Status.REFUNDED:
            raise OrderClosed(f"it is {order.status}")
        case _:
            assert_never(order.status)


def _refund(order: Order, command: RefundOrder) -> list[Event]:
    match order.status:
        case None:
            raise OrderNotFound
        case Status.PLACED | Status.CONFIRMED:
            raise NotYetPaid
        case Status.PAID:
            return [
                OrderRefunded(
                    customer_id=order.customer_id,
                    payment_id=order.payment_id or "",
                    amount=order.total,
                    currency=order.currency,
                    at=command.at,
                )
            ]
        case Status.REFUNDED:
            return []
        case Status.SHIPPED | Status.DELIVERED:
            raise CannotRefundShipped(f"it is {order.status}")
        case Status.REJECTED | Status.CANCELLED:
            raise OrderClosed(f"it is {order.status}")
        case _:
            assert_never(order.status)
