"""Reads of payments for the order page, the API and the admin."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from eventing.keyset import beyond
from payments.models import Payment
from sharding.router import database_of


class Progress(StrEnum):
    """How far the payment of an order is."""

    NONE = "none"
    IN_PROGRESS = "in_progress"
    DECLINED = "declined"
    CAPTURED = "captured"
    REFUNDING = "refunding"
    REFUNDED = "refunded"


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentState:
    """The latest payment of an order, as its page shows it. `reason` is the code of a decline, `message` says it."""

    progress: Progress
    payment_id: str = ""
    amount: int = 0
    currency: str = ""
    reason: str = ""
    message: str = ""


_PROGRESS = {
    Payment.Status.REQUESTED: Progress.IN_PROGRESS,
    Payment.Status.DECLINED: Progress.DECLINED,
    Payment.Status.CAPTURED: Progress.CAPTURED,
    Payment.Status.REFUND_REQUESTED: Progress.REFUNDING,
    Payment.Status.REFUNDED: Progress.REFUNDED,
}
_DECLINES = {
    "card_declined": "The bank declined the payment.",
    "unknown_token": "The payment method is not known.",
}


def payments_of(order_id: int) -> list[Payment]:
    """All attempts to pay an order, oldest first."""
    return list(Payment.objects.using(database_of("payments")).filter(order_id=order_id).order_by("attempt"))


def state(order_id: int) -> PaymentState:
    """Where the payment of an order stands; one query."""
    payments = Payment.objects.using(database_of("payments"))
    latest = payments.filter(order_id=order_id).order_by("-attempt").first()
    if latest is None:
        return PaymentState(progress=Progress.NONE)
    message = _DECLINES.get(latest.decline_reason, "The payment was declined.") if latest.decline_reason else ""
    return PaymentState(
        progress=_PROGRESS[Payment.Status(latest.status)],
        payment_id=str(latest.id),
        amount=latest.amount,
        currency=latest.currency,
        reason=latest.decline_reason,
        message=message,
    )


def recent(limit: int, before: tuple[datetime, UUID] | None = None) -> list[Payment]:
    """The newest payments of all orders; `before` is (requested_at, id) of the last one that was seen."""
    payments = Payment.objects.using(database_of("payments")).order_by("-requested_at", "-id")
    if before is not None:
        payments = payments.filter(beyond(("requested_at", "id"), before))
    return list(payments[:limit])
