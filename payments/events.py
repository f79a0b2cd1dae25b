"""What has happened to an order's payments. The stream has the order's id; amounts are in minor units."""

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

CATEGORY = "payment"


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentRequested:
    """The customer asked to pay; the gateway has not answered yet."""

    TYPE: ClassVar[str] = "payment.requested"
    SCHEMA_VERSION: ClassVar[int] = 1

    payment_id: str
    customer_id: int
    amount: int
    currency: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentCaptured:
    TYPE: ClassVar[str] = "payment.captured"
    SCHEMA_VERSION: ClassVar[int] = 1

    payment_id: str
    customer_id: int
    amount: int
    currency: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentDeclined:
    """The gateway said no; the order stays payable."""

    TYPE: ClassVar[str] = "payment.declined"
    SCHEMA_VERSION: ClassVar[int] = 1

    payment_id: str
    customer_id: int
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundRequested:
    """Captured money has to go back: the order was cancelled, rejected or refunded."""

    TYPE: ClassVar[str] = "payment.refund_requested"
    SCHEMA_VERSION: ClassVar[int] = 1

    payment_id: str
    customer_id: int
    amount: int
    currency: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentRefunded:
    TYPE: ClassVar[str] = "payment.refunded"
    SCHEMA_VERSION: ClassVar[int] = 1

    payment_id: str
    customer_id: int
    amount: int
    currency: str
    at: datetime
