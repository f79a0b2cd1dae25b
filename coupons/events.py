"""What has happened to coupons. A redemption's stream has the order's id."""

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

REDEMPTION = "redemption"


@dataclass(frozen=True, slots=True, kw_only=True)
class CouponRedeemed:
    TYPE: ClassVar[str] = "coupon.redeemed"
    SCHEMA_VERSION: ClassVar[int] = 1

    code: str
    customer_id: int
    discount: int
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CouponRefused:
    """The coupon could not be redeemed; `reason` is a stable code such as `coupon_used_up`, `detail` is for people."""

    TYPE: ClassVar[str] = "coupon.refused"
    SCHEMA_VERSION: ClassVar[int] = 1

    code: str
    customer_id: int
    reason: str
    detail: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CouponReleased:
    """The order came to nothing; the coupon may be used again."""

    TYPE: ClassVar[str] = "coupon.released"
    SCHEMA_VERSION: ClassVar[int] = 1

    code: str
    customer_id: int
    at: datetime
