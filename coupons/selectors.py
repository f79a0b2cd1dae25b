"""What a coupon would be worth, for the page and the API. The promise is kept or broken by the redemption."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from coupons import domain
from coupons.domain import Status
from coupons.models import Coupon, Redemption
from sharding.router import database_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """`code` as it is to be stored with the order, `discount` in minor units of the currency asked for."""

    code: str
    discount: int


def terms() -> list[domain.Coupon]:
    """The terms of all coupons, by code."""
    return [coupon.terms() for coupon in Coupon.objects.using(database_of("coupons")).order_by("code")]


def quote(code: str, customer_id: int, subtotal: int, currency: str, at: datetime) -> Quote:
    """What the coupon takes off `subtotal` (minor units). The case of the code does not matter.

    Raises UnknownCoupon, CouponNotYetValid, CouponExpired, CouponCurrencyMismatch, SpendTooLow, CouponUsedUp,
    CouponAlreadyUsed.
    """
    code = domain.normalise(code)
    if domain.CODE.fullmatch(code) is None:
        raise domain.UnknownCoupon  # a database may not even accept it as a question
    using = database_of("coupons")
    coupon = Coupon.objects.using(using).filter(code=code).first()
    if coupon is None:
        raise domain.UnknownCoupon
    uses = 0
    if coupon.per_customer_limit is not None:
        in_use = Redemption.objects.using(using).filter(
            coupon=coupon, customer_id=customer_id, status=Status.REDEEMED.value
        )
        uses = in_use.count()
    discount = domain.quote(coupon.terms(), uses_by_customer=uses, subtotal=subtotal, currency=currency, at=at)
    return Quote(code=code, discount=discount)
