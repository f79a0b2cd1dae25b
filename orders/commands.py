"""What may be asked of an order. Time and ids travel in the command, so that the domain needs no clock."""

from dataclasses import dataclass
from datetime import datetime

from orders.events import Address, CancelReason, Check, Line, RejectReason, ShortItem


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceOrder:
    """Lines are priced and the coupon quoted by the caller; `discount` is in minor units."""

    order_id: int
    customer_id: int
    currency: str
    lines: tuple[Line, ...]
    coupon_code: str | None = None
    discount: int = 0
    payment_due_at: datetime
    ship_to: Address | None = None
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmOrder:
    """One of the checks has passed; the order is confirmed once all have."""

    order_id: int
    check: Check
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectOrder:
    order_id: int
    reason: RejectReason
    short: tuple[ShortItem, ...] = ()
    detail: str = ""
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtendDeadline:
    """Give the customer until `payment_due_at` to pay."""

    order_id: int
    payment_due_at: datetime
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StartPayment:
    """A payment is about to be requested. It comes before the request, so that the clock waits for the outcome."""

    order_id: int
    payment_id: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class FailPayment:
    """A payment that was started was declined, or never requested."""

    order_id: int
    payment_id: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PayOrder:
    order_id: int
    payment_id: str
    amount: int
    currency: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ShipOrder:
    order_id: int
    tracking: str = ""
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliverOrder:
    order_id: int
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelOrder:
    order_id: int
    reason: CancelReason
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundOrder:
    order_id: int
    at: datetime


Command = (
    PlaceOrder
    | ConfirmOrder
    | RejectOrder
    | ExtendDeadline
    | StartPayment
    | FailPayment
    | PayOrder
    | ShipOrder
    | DeliverOrder
    | CancelOrder
    | RefundOrder
)
