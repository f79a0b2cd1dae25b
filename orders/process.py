"""The process manager of an order: what other contexts have done, turned into what is asked of the order next.

It is pure and keeps no state: which checks are still open is known to the order itself.
"""

from datetime import datetime

from coupons.events import CouponRedeemed, CouponRefused
from inventory.events import StockRefused, StockReserved
from orders.commands import Command, ConfirmOrder, FailPayment, PayOrder, RejectOrder
from orders.events import Check, RejectReason, ShortItem
from payments.events import PaymentCaptured, PaymentDeclined


def react(order_id: int, event: object, at: datetime) -> Command | None:
    """The command that the event leads to; None if the order need not know of it."""
    match event:
        case StockReserved():
            return ConfirmOrder(order_id=order_id, check=Check.STOCK, at=at)
        case StockRefused(missing=missing):
            short = tuple(ShortItem(sku=item.sku, wanted=item.wanted, available=item.available) for item in missing)
            return RejectOrder(order_id=order_id, reason=RejectReason.OUT_OF_STOCK, short=short, at=at)
        case CouponRedeemed():
            return ConfirmOrder(order_id=order_id, check=Check.COUPON, at=at)
        case CouponRefused(detail=detail):
            return RejectOrder(order_id=order_id, reason=RejectReason.COUPON_REFUSED, detail=detail, at=at)
        case PaymentCaptured(payment_id=payment_id, amount=amount, currency=currency):
            return PayOrder(order_id=order_id, payment_id=payment_id, amount=amount, currency=currency, at=at)
        case PaymentDeclined(payment_id=payment_id):
            return FailPayment(order_id=order_id, payment_id=payment_id, at=at)
        case _:
            return None
