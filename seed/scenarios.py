"""What becomes of the seed's orders, and how each step of it is asked for."""

from __future__ import annotations

from dataclasses import dataclass

from django.utils import timezone

from checkout import service as checkout
from eventing.recorded import Metadata
from orders import handlers as orders
from orders.commands import CancelOrder, Command, DeliverOrder, RefundOrder, ShipOrder
from orders.events import CancelReason
from seed.data import SCARCE_COUPON


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """The steps are taken one after another, each when the one before has had its effect."""

    name: str
    steps: tuple[str, ...] = ()
    share: int = 0  # of the orders that are made one by one, in two hundred
    share_in_bulk: int = 0  # of those that are written in bulk, in a thousand: all are finished, or paid
    short: bool = False  # asks for more pieces than there are
    coupon: str | None = None


SCENARIOS = (
    Scenario(name="delivered", steps=("pay", "ship", "deliver"), share=56, share_in_bulk=770),
    Scenario(name="shipped", steps=("pay", "ship"), share=28, share_in_bulk=30),
    Scenario(name="paid", steps=("pay",), share=25, share_in_bulk=20),
    Scenario(name="paid with the last coupon", steps=("pay",), share=1, coupon=SCARCE_COUPON),
    Scenario(name="awaiting payment", share=20),
    Scenario(name="payment declined", steps=("decline",), share=8),
    Scenario(name="paid at the second attempt", steps=("decline", "pay"), share=6),
    Scenario(name="delivered after a second attempt", steps=("decline", "pay", "ship", "deliver"), share_in_bulk=30),
    Scenario(name="refunded", steps=("pay", "refund"), share=12, share_in_bulk=35),
    Scenario(name="cancelled by the customer", steps=("cancel",), share=12, share_in_bulk=40),
    Scenario(name="cancelled by an operator", steps=("withdraw",), share=6, share_in_bulk=5),
    Scenario(name="cancelled by the clock", steps=("expire",), share=12, share_in_bulk=40),
    Scenario(name="declined and cancelled by the clock", steps=("decline", "expire"), share_in_bulk=5),
    Scenario(name="out of stock", share=10, share_in_bulk=20, short=True),
    Scenario(name="coupon refused", share=4, share_in_bulk=5, coupon=SCARCE_COUPON),
)


def take(step: str, order_id: int, customer_id: int, *, correlation_id: str, card: str, tracking: str) -> None:
    """Ask for a step; what follows from it comes with the events. `card` is the token of a payment that is to succeed.

    Raises an OrderError or a PaymentError if the order has gone another way meanwhile.
    """
    at = timezone.now()
    customer = Metadata(correlation_id=correlation_id, actor=f"customer:{customer_id}")

    def handle(command: Command, actor: str = "operator:seed") -> None:
        orders.handle(command, Metadata(correlation_id=correlation_id, actor=actor))

    match step:
        case "pay":
            checkout.pay(order_id, customer_id, card, customer)
        case "decline":
            checkout.pay(order_id, customer_id, "tok_declined", customer)
        case "cancel":
            checkout.cancel(order_id, customer_id, customer)
        case "ship":
            handle(ShipOrder(order_id=order_id, tracking=tracking, at=at))
        case "deliver":
            handle(DeliverOrder(order_id=order_id, at=at))
        case "refund":
            handle(RefundOrder(order_id=order_id, at=at))
        case "withdraw":
            handle(CancelOrder(order_id=order_id, reason=CancelReason.OPERATOR, at=at))
        case "expire":
            handle(CancelOrder(order_id=order_id, reason=CancelReason.PAYMENT_TIMEOUT, at=at), actor="clock")
        case _:
            raise ValueError(f"there is no step {step!r}")
