"""What has happened to an order. The stream of order 42 is `order-<number>`; its events are the order."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import ClassVar

CATEGORY = "order"


class Check(StrEnum):
    """What an order waits for before it is confirmed."""

    STOCK = "stock"
    COUPON = "coupon"


class RejectReason(StrEnum):
    OUT_OF_STOCK = "out_of_stock"
    COUPON_REFUSED = "coupon_refused"


class CancelReason(StrEnum):
    CUSTOMER = "customer"
    OPERATOR = "operator"
    PAYMENT_TIMEOUT = "payment_timeout"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One product of an order at the price of the moment; `unit_price` in minor units of the order's currency."""

    sku: str
    name: str
    quantity: int
    unit_price: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ShortItem:
    """A product of which fewer pieces were available than the order wanted."""

    sku: str
    wanted: int
    available: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where somebody wants their order; `country` is an ISO 3166-1 alpha-2 code. Personal: never to be logged."""

    name: str
    street: str
    postal_code: str
    city: str
    country: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderPlaced:
    """A customer asked for these lines. `discount` is in minor units and never more than the lines' sum.

    Version 2 has brought `ship_to`, which the orders before it do not have.
    """

    TYPE: ClassVar[str] = "order.placed"
    SCHEMA_VERSION: ClassVar[int] = 2

    customer_id: int
    currency: str
    lines: tuple[Line, ...]
    coupon_code: str | None
    discount: int
    payment_due_at: datetime
    at: datetime
    ship_to: Address | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderCheckPassed:
    """One of several checks that the order waits for has passed; others are still open."""

    TYPE: ClassVar[str] = "order.check_passed"
    SCHEMA_VERSION: ClassVar[int] = 1

    customer_id: int
    check: Check
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderConfirmed:
    """The last check has passed; the order waits for its payment."""

    TYPE: ClassVar[str] = "order.confirmed"
    SCHEMA_VERSION: ClassVar[int] = 1

    customer_id: int
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRejected:
    """A check has failed. `short` names the missing items when stock was the reason; `detail` is for people."""

    TYPE: ClassVar[str] = "order.rejected"
    SCHEMA_VERSION: ClassVar[int] = 1

    customer_id: int
    reason: RejectReason
    short: tuple[ShortItem, ...]
    detail: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderDeadlineExtended:
    """An operator gave the customer more time to pay: until `payment_due_at`."""

    TYPE: ClassVar[str] = "order.deadline_extended"
    SCHEMA_VERSION: ClassVar[int] = 1

    customer_id: int
    payment_due_at: datetime
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderPaymentStarted:
    """The customer asked to pay with `payment_id`; until `hold_until` the clock waits for its outcome."""

    TYPE: ClassVar[str] = "order.payment_started"
    SCHEMA_VERSION: ClassVar[int] = 1

    customer_id: int
    payment_id: str
    hold_until: datetime
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderPaymentFailed:
    """The payment came to nothing; the order waits for another one, until its deadline."""

    TYPE: ClassVar[str] = "order.payment_failed"
    SCHEMA_VERSION: ClassVar[int] = 1

    customer_id: int
    payment_id: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderPaid:
    """The whole total was captured by `payment_id`."""

    TYPE: ClassVar[str] = "order.paid"
    SCHEMA_VERSION: ClassVar[int] = 1

    customer_id: int
    payment_id: str
    amount: int
    currency: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderShipped:
    TYPE: ClassVar[str] = "order.shipped"
    SCHEMA_VERSION: ClassVar[int] = 1

    customer_id: int
    tracking: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderDelivered:
    TYPE: ClassVar[str] = "order.delivered"
    SCHEMA_VERSION: ClassVar[int] = 1

    customer_id: int
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderCancelled:
    """Given up before it was paid."""

    TYPE: ClassVar[str] = "order.cancelled"
    SCHEMA_VERSION: ClassVar[int] = 1

    customer_id: int
    reason: CancelReason
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRefunded:
    """An operator gave a paid order back before it was shipped; payments returns the money."""

    TYPE: ClassVar[str] = "order.refunded"
    SCHEMA_VERSION: ClassVar[int] = 1

    customer_id: int
    payment_id: str
    amount: int
    currency: str
    at: datetime


Event = (
    OrderPlaced
    | OrderCheckPassed
    | OrderConfirmed
    | OrderRejected
    | OrderDeadlineExtended
    | OrderPaymentStarted
    | OrderPaymentFailed
    | OrderPaid
    | OrderShipped
    | OrderDelivered
    | OrderCancelled
    | OrderRefunded
)
