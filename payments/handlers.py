"""What payments does. Every handler locks the order's account first, so its outcomes do not depend on who was first.

Whatever the order in which a capture is answered and the order comes to nothing: money that was captured for a closed
account gets exactly one refund.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import assert_never

from django.db import transaction
from django.utils import timezone

from eventing.recorded import Event, Metadata, NewEvents, Recorded
from eventing.store import append
from payments import gateway
from payments.commands import RequestPayment
from payments.events import (
    CATEGORY,
    PaymentCaptured,
    PaymentDeclined,
    PaymentRefunded,
    PaymentRequested,
    RefundRequested,
)
from payments.models import Account, Payment
from sharding.router import database_of
from values.errors import RuleError
from values.text import InvalidText, Text

TOKEN = Text(longest=100)
ACTOR = "payments"


class PaymentError(RuleError):
    """A business rule refused the payment. Never retried."""


class InvalidPaymentToken(PaymentError):
    """A payment token has 1 to 100 characters that can be seen."""


class PaymentInProgress(PaymentError):
    """A payment for this order is being processed."""


class AlreadyPaid(PaymentError):
    """This order has been paid already."""


class OrderClosed(PaymentError):
    """This order has come to nothing and cannot be paid any more."""


def check_request(command: RequestPayment) -> None:
    """Raise what `request_payment` would raise just now. Nothing is locked, so that may be different a moment later."""
    alias = database_of("payments")
    _check_request(command, Account.objects.using(alias).filter(order_id=command.order_id).first(), alias)


def request_payment(command: RequestPayment, metadata: Metadata) -> None:
    """Record the request; the gateway is asked as soon as the event arrives.

    Raises InvalidPaymentToken, PaymentInProgress, AlreadyPaid or OrderClosed.
    """
    alias = database_of("payments")
    with transaction.atomic(using=alias):
        account = _open_accounts({command.order_id: command.customer_id}, alias)[command.order_id]
        earlier = _check_request(command, account, alias)
        payment = Payment.objects.using(alias).create(
            id=command.payment_id,
            order_id=command.order_id,
            attempt=len(earlier) + 1,
            amount=command.amount,
            currency=command.currency,
            token=_clean_token(command.token),
            requested_at=command.at,
        )
        requested = PaymentRequested(
            payment_id=command.payment_id,
            customer_id=account.customer_id,
            amount=payment.amount,
            currency=payment.currency,
            at=command.at,
        )
        _append(account, [requested], metadata, alias)
        account.save(using=alias, update_fields=["version"])


def _check_request(command: RequestPayment, account: Account | None, alias: str) -> list[Payment]:
    """The order's earlier payments, all of which were declined; raises a PaymentError if the request is refused."""
    _clean_token(command.token)
    if account is None:
        return []
    if account.closed:
        raise OrderClosed
    earlier = list(Payment.objects.using(alias).filter(order_id=command.order_id).order_by("attempt"))
    for payment in earlier:
        if payment.status == Payment.Status.REQUESTED:
            raise PaymentInProgress
        if payment.status != Payment.Status.DECLINED:
            raise AlreadyPaid
    return earlier


def _clean_token(token: str) -> str:
    try:
        return TOKEN.clean(token)
    except InvalidText:
        raise InvalidPaymentToken from None


def capture(requested: Recorded[PaymentRequested]) -> Callable[[], None]:
    """Take the money, and return what writes the outcome down. Called outside transactions, perhaps repeatedly."""
    payment = Payment.objects.using(database_of("payments")).get(id=requested.event.payment_id)
    if payment.status != Payment.Status.REQUESTED:
        return _nothing
    # The gateway is asked even if the account was closed meanwhile: an earlier call, whose process died before it
    # could write down the outcome, may have taken the money, and only the answer to the same key shows it.
    result = gateway.configured().capture(
        idempotency_key=f"capture-{payment.id}", token=payment.token, amount=payment.amount, currency=payment.currency
    )
    match result:
        case gateway.Captured():
            return partial(record_capture, requested, result.reference)
        case gateway.Declined():
            return partial(record_decline, requested, result.reason)
        case _:
            assert_never(result)


def record_capture(requested: Recorded[PaymentRequested], reference: str) -> None:
    """The gateway has taken the money. On a closed account it has to go back. In the caller's transaction."""
    alias = database_of("payments")
    account, payment = _lock(requested.stream_id, requested.event.payment_id, alias)
    if payment.status != Payment.Status.REQUESTED:
        return
    now = timezone.now()
    payment.status = Payment.Status.CAPTURED
    payment.gateway_reference = reference
    payment.settled_at = now
    account.captured_total += payment.amount
    events: list[Event] = [
        PaymentCaptured(
            payment_id=str(payment.id),
            customer_id=account.customer_id,
            amount=payment.amount,
            currency=payment.currency,
            at=now,
        )
    ]
    if account.closed:
        events.append(_request_refund(account, payment, now))
    _append(account, events, Metadata.caused_by(requested, actor=ACTOR), alias)
    account.save(using=alias, update_fields=["version", "captured_total"])
    payment.save(using=alias, update_fields=["status", "gateway_reference", "settled_at"])


def record_decline(requested: Recorded[PaymentRequested], reason: str) -> None:
    """The gateway has said no; the order stays payable. In the caller's transaction."""
    alias = database_of("payments")
    account, payment = _lock(requested.stream_id, requested.event.payment_id, alias)
    if payment.status != Payment.Status.REQUESTED:
        return
    now = timezone.now()
    payment.status = Payment.Status.DECLINED
    payment.decline_reason = reason
    payment.settled_at = now
    declined = PaymentDeclined(payment_id=str(payment.id), customer_id=account.customer_id, reason=reason, at=now)
    _append(account, [declined], Metadata.caused_by(requested, actor=ACTOR), alias)
    account.save(using=alias, update_fields=["version"])
    payment.save(using=alias, update_fields=["status", "decline_reason", "settled_at"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing:
    """An order came to nothing, for a reason such as `order_cancelled`."""

    order_id: int
    customer_id: int
    reason: str
    metadata: Metadata


def close_accounts(closings: Sequence[Closing]) -> None:
    """No money may stay on these orders: what was captured goes back. In the caller's transaction.

    An order that payments has not heard of gets a closed account, which a late payment will meet.
    """
    alias = database_of("payments")
    accounts = _open_accounts({closing.order_id: closing.customer_id for closing in closings}, alias)
    to_close = {closing.order_id: closing for closing in closings if not accounts[closing.order_id].closed}
    captured = {
        payment.order_id: payment
        for payment in Payment.objects.using(alias).filter(order_id__in=list(to_close), status=Payment.Status.CAPTURED)
    }
    now = timezone.now()
    writes = []
    for order_id, closing in to_close.items():
        account = accounts[order_id]
        account.closed = True
        account.closed_reason = closing.reason
        if payment := captured.get(order_id):
            refund = _request_refund(account, payment, now)
            writes.append(_next(account, [refund], closing.metadata))
    append(CATEGORY, writes, using=alias)
    Account.objects.using(alias).bulk_update(
        [accounts[order_id] for order_id in to_close], ["closed", "closed_reason", "version"]
    )
    Payment.objects.using(alias).bulk_update(captured.values(), ["status"])


def refund(requested: Recorded[RefundRequested]) -> Callable[[], None]:
    """Give the money back, and return what writes that down. Called outside transactions, perhaps repeatedly."""
    payment = Payment.objects.using(database_of("payments")).get(id=requested.event.payment_id)
    if payment.status != Payment.Status.REFUND_REQUESTED:
        return _nothing
    result = gateway.configured().refund(
        idempotency_key=f"refund-{payment.id}",
        reference=payment.gateway_reference,
        amount=payment.amount,
        currency=payment.currency,
    )
    return partial(record_refund, requested, result.reference)


def record_refund(requested: Recorded[RefundRequested], reference: str) -> None:
    """The gateway has given the money back. In the caller's transaction."""
    alias = database_of("payments")
    account, payment = _lock(requested.stream_id, requested.event.payment_id, alias)
    if payment.status != Payment.Status.REFUND_REQUESTED:
        return
    now = timezone.now()
    payment.status = Payment.Status.REFUNDED
    payment.refund_reference = reference
    payment.refunded_at = now
    account.refunded_total += payment.amount
    refunded = PaymentRefunded(
        payment_id=str(payment.id),
        customer_id=account.customer_id,
        amount=payment.amount,
        currency=payment.currency,
        at=now,
    )
    _append(account, [refunded], Metadata.caused_by(requested, actor=ACTOR), alias)
    account.save(using=alias, update_fields=["version", "refunded_total"])
    payment.save(using=alias, update_fields=["status", "refund_reference", "refunded_at"])


def _open_accounts(customers: dict[int, int], alias: str) -> dict[int, Account]:
    """The locked accounts of orders (order id → customer id), new ones where there were none.

    Rows are inserted and locked in the order of their ids, so that two batches cannot block each other for good.
    """
    accounts = Account.objects.using(alias)
    accounts.bulk_create(
        [Account(order_id=order_id, customer_id=customer_id) for order_id, customer_id in sorted(customers.items())],
        ignore_conflicts=True,
    )
    locked = accounts.select_for_update().filter(order_id__in=list(customers)).order_by("order_id")
    return {account.order_id: account for account in locked}


def _lock(order_id: int, payment_id: str, alias: str) -> tuple[Account, Payment]:
    account = Account.objects.using(alias).select_for_update().get(order_id=order_id)
    return account, Payment.objects.using(alias).get(id=payment_id)


def _request_refund(account: Account, payment: Payment, now: datetime) -> RefundRequested:
    payment.status = Payment.Status.REFUND_REQUESTED
    return RefundRequested(
        payment_id=str(payment.id),
        customer_id=account.customer_id,
        amount=payment.amount,
        currency=payment.currency,
        reason=account.closed_reason,
        at=now,
    )


def _next(account: Account, events: Sequence[Event], metadata: Metadata) -> NewEvents:
    """The events that come next in the account's stream; the caller saves the version."""
    write = NewEvents(stream_id=account.order_id, expected_version=account.version, events=events, metadata=metadata)
    account.version += len(events)
    return write


def _append(account: Account, events: Sequence[Event], metadata: Metadata, alias: str) -> None:
    append(CATEGORY, [_next(account, events, metadata)], using=alias)


def _nothing() -> None:
    """The outcome is written down already."""
