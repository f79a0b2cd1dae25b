"""What pages, API and load tests do with a customer's order: price it, place it, pay for it, cancel it.

It composes the contexts, which do not know each other; the rules are theirs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import assert_never
from uuid import uuid4

import msgspec
import structlog
from django.conf import settings
from django.utils import timezone

from coupons import selectors as coupons
from eventing import pressure
from eventing.recorded import Metadata
from inventory import selectors as inventory
from inventory.selectors import PricedLine
from orders import handlers as orders
from orders import selectors
from orders.commands import CancelOrder, FailPayment, PlaceOrder, StartPayment
from orders.domain import (
    EmptyOrder,
    NotYetConfirmed,
    OrderAlreadyPaid,
    OrderClosed,
    OrderNotFound,
    Status,
    clean_address,
)
from orders.events import Address, CancelReason, Line
from orders.handlers import IdempotencyKey, Placement
from orders.selectors import OrderDetail
from payments import handlers as payments
from payments.commands import RequestPayment
from payments.handlers import AlreadyPaid, PaymentError
from sharding import numbers, shards
from values.errors import RuleError

Wanted = Sequence[tuple[str, int]]  # sku and quantity


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """What an order would cost now; amounts in minor units of the currency."""

    lines: tuple[PricedLine, ...]
    subtotal: int
    discount: int
    total: int
    currency: str
    coupon_code: str | None


def metadata_for(customer_id: int) -> Metadata:
    """Metadata of what a customer does; its correlation id is the id under which the request is logged."""
    request_id = structlog.contextvars.get_contextvars().get("request_id")
    return Metadata(correlation_id=request_id or uuid4().hex, actor=f"customer:{customer_id}")


def quote(customer_id: int, wanted: Wanted, coupon_code: str | None, at: datetime) -> Quote:
    """Price the lines and the coupon, if there is one. A product that is named twice becomes one line.

    Raises EmptyOrder, an InventoryError (UnknownSku, NotOnSale, InvalidQuantity, MixedCurrencies) or a CouponError.
    """
    lines = tuple(inventory.price_lines(wanted))
    if not lines:
        raise EmptyOrder
    currency = lines[0].currency
    subtotal = sum(line.quantity * line.unit_price for line in lines)
    coupon = coupons.quote(coupon_code, customer_id, subtotal, currency, at) if coupon_code else None
    discount = coupon.discount if coupon else 0
    return Quote(
        lines=lines,
        subtotal=subtotal,
        discount=discount,
        total=subtotal - discount,
        currency=currency,
        coupon_code=coupon.code if coupon else None,
    )


def place(
    customer_id: int,
    wanted: Wanted,
    coupon_code: str | None,
    *,
    key: str,
    metadata: Metadata,
    at: datetime | None = None,
    payment_term: timedelta | None = None,
    ship_to: Address | None = None,
) -> Placement:
    """Place an order once for this key, which is 1 to 255 printable characters of the customer's choice.

    It has to be paid within `payment_term`, by default that of the settings.

    Raises what `quote` raises, an OrderError, IdempotencyMismatch, IdempotencyInFlight, and Overloaded while the events
    of the customer's database are not published in time: the same request is welcome later.
    """
    ship_to = None if ship_to is None else clean_address(ship_to)
    pressure.admit(shards.alias_of_bucket(numbers.bucket_of_customer(customer_id)))
    at = at or timezone.now()
    try:
        quoted = quote(customer_id, wanted, coupon_code, at)
    except RuleError:
        # A repeated request is not refused because, say, its first copy has used up the coupon.
        first = placed_before(customer_id, wanted, coupon_code, key=key, ship_to=ship_to)
        if first is not None:
            return first
        raise
    command = PlaceOrder(
        order_id=numbers.new_order_id(customer_id, at),
        customer_id=customer_id,
        currency=quoted.currency,
        lines=tuple(
            Line(sku=line.sku, name=line.name, quantity=line.quantity, unit_price=line.unit_price)
            for line in quoted.lines
        ),
        coupon_code=quoted.coupon_code,
        discount=quoted.discount,
        payment_due_at=at + (settings.ORDER_PAYMENT_TIMEOUT if payment_term is None else payment_term),
        ship_to=ship_to,
        at=at,
    )
    idempotency = IdempotencyKey(key=key, fingerprint=_fingerprint(wanted, coupon_code, ship_to))
    return orders.place_order(command, metadata, idempotency=idempotency)


def placed_before(
    customer_id: int, wanted: Wanted, coupon_code: str | None, *, key: str, ship_to: Address | None = None
) -> Placement | None:
    """What `place` has placed for this key, if anything; raises IdempotencyMismatch, IdempotencyInFlight."""
    fingerprint = _fingerprint(wanted, coupon_code, ship_to)
    return orders.replay_of(customer_id, IdempotencyKey(key=key, fingerprint=fingerprint))


def order_of(customer_id: int, order_id: int) -> OrderDetail:
    """An order of this customer; raises OrderNotFound also for one of somebody else."""
    # The number says in which bucket the customer is, which saves the question for most of the others.
    if numbers.bucket_of(order_id) == numbers.bucket_of_customer(customer_id):
        order = selectors.get(order_id)
        if order is not None and order.customer_id == customer_id:
            return order
    raise OrderNotFound


def pay(order_id: int, customer_id: int, token: str, metadata: Metadata, at: datetime | None = None) -> str:
    """Ask for the payment of a confirmed order and return the payment's id; the outcome comes with its events.

    Raises OrderNotFound, NotYetConfirmed, OrderClosed or a PaymentError (AlreadyPaid, PaymentInProgress, …).
    """
    order = order_of(customer_id, order_id)
    match order.status:
        case Status.PLACED:
            raise NotYetConfirmed
        case Status.PAID | Status.SHIPPED | Status.DELIVERED | Status.REFUNDED:
            raise AlreadyPaid
        case Status.REJECTED | Status.CANCELLED:
            raise OrderClosed(f"it is {order.status}")
        case Status.CONFIRMED:
            request = RequestPayment(
                order_id=order_id,
                payment_id=str(uuid4()),
                customer_id=customer_id,
                amount=order.total,
                currency=order.currency,
                token=token,
                at=at or timezone.now(),
            )
            _request_payment(request, metadata)
            return request.payment_id
        case _:
            assert_never(order.status)


def _request_payment(request: RequestPayment, metadata: Metadata) -> None:
    """Tell the order first, then request the payment: from then on the clock waits for the outcome.

    After a crash in between the order waits for a payment that does not exist, until `hold_until`.
    """
    order_id, payment_id, at = request.order_id, request.payment_id, request.at
    payments.check_request(request)
    try:
        orders.handle(StartPayment(order_id=order_id, payment_id=payment_id, at=at), metadata)
    except OrderAlreadyPaid as error:
        raise AlreadyPaid from error
    try:
        payments.request_payment(request, metadata)
    except PaymentError:  # another request was faster, or the order was cancelled just now
        orders.handle(FailPayment(order_id=order_id, payment_id=payment_id, at=at), metadata)
        raise


def cancel(order_id: int, customer_id: int, metadata: Metadata, at: datetime | None = None) -> None:
    """Cancel an order that is not paid yet; one that is cancelled already stays so.

    Raises OrderNotFound, CannotCancelPaid, CannotCancelShipped, OrderClosed.
    """
    order_of(customer_id, order_id)
    orders.handle(CancelOrder(order_id=order_id, reason=CancelReason.CUSTOMER, at=at or timezone.now()), metadata)


def _fingerprint(wanted: Wanted, coupon_code: str | None, ship_to: Address | None) -> str:
    """The same for every way to write the same request."""
    quantities: dict[str, int] = {}
    for sku, quantity in wanted:
        quantities[sku] = quantities.get(sku, 0) + quantity
    # Without an address it is what it was before there were any, because old keys are still around.
    address = [] if ship_to is None else [ship_to]
    return hashlib.sha256(msgspec.json.encode([sorted(quantities.items()), coupon_code, *address])).hexdigest()
