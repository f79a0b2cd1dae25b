"""What may be asked of a redemption. Time and ids travel in the command, so that the domain needs no clock."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RedeemCoupon:
    """Use a coupon for an order; amounts in minor units of `currency`.

    The coupon must have been valid at `placed_at`, when the customer was promised `discount` for it.
    """

    order_id: int
    customer_id: int
    code: str
    subtotal: int
    currency: str
    discount: int
    placed_at: datetime
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseCoupon:
    """The order came to nothing. May overtake its RedeemCoupon, which then does nothing."""

    order_id: int
    customer_id: int
    at: datetime


Command = RedeemCoupon | ReleaseCoupon
