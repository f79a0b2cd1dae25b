"""What an operator can do with an order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.contrib import messages

from orders.commands import CancelOrder, Command, DeliverOrder, ExtendDeadline, RefundOrder, ShipOrder
from orders.domain import InvalidTracking, Status, clean_tracking
from orders.events import CancelReason


class Misread(ValueError):
    """What the operator has written into a field of an action cannot be meant; the text says what is expected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """What an action asks for besides a confirmation. `read` turns what was written into it into a value, or raises
    Misread; `kind` is the type of the input.
    """

    name: str
    label: str
    kind: str
    read: Callable[[str], Any]
    placeholder: str = ""


def _tracking_number(text: str) -> str:
    try:
        return clean_tracking(text)
    except InvalidTracking as error:
        raise Misread(str(error)) from None


def _moment(text: str) -> datetime:
    """A local date and time as browsers send it, taken for UTC, which all times of the back office are in."""
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError:
        raise Misread("Give the new deadline as a date and a time, such as 2026-12-24T18:00.") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """What an operator can ask of an order while it has one of some statuses.

    `command` gets the order's id, the time, and what the field says if there is one.
    """

    name: str
    title: str
    icon: str
    question: str
    done: str
    statuses: frozenset[Status]
    command: Callable[[int, datetime, Any], Command]
    asks_for: Field | None = None
    variant: str = "default"


ACTIONS = (
    Action(
        name="ship",
        title="Ship",
        icon="local_shipping",
        question="The parcel leaves the building: its pieces are taken out of the stock. This cannot be undone.",
        done="is shipped",
        statuses=frozenset({Status.PAID}),
        command=lambda order_id, at, tracking: ShipOrder(order_id=order_id, tracking=tracking, at=at),
        asks_for=Field(
            name="tracking", label="Tracking number", kind="text", read=_tracking_number, placeholder="may stay empty"
        ),
        variant="primary",
    ),
    Action(
        name="deliver",
        title="Mark as delivered",
        icon="task_alt",
        question="The customer has the parcel. The order is then complete and cannot be changed any more.",
        done="is delivered",
        statuses=frozenset({Status.SHIPPED}),
        command=lambda order_id, at, _: DeliverOrder(order_id=order_id, at=at),
        variant="primary",
    ),
    Action(
        name="extend",
        title="Extend the deadline",
        icon="more_time",
        question="The customer may pay until then, at most 30 days after the placement, and is notified.",
        done="has the new deadline",
        statuses=frozenset({Status.PLACED, Status.CONFIRMED}),
        command=lambda order_id, at, until: ExtendDeadline(order_id=order_id, payment_due_at=until, at=at),
        asks_for=Field(name="until", label="To be paid by (UTC)", kind="datetime-local", read=_moment),
    ),
    Action(
        name="cancel",
        title="Cancel",
        icon="block",
        question="The order comes to an end: stock and coupon go back, and a payment under way is given back.",
        done="is cancelled",
        statuses=frozenset({Status.PLACED, Status.CONFIRMED}),
        command=lambda order_id, at, _: CancelOrder(order_id=order_id, reason=CancelReason.OPERATOR, at=at),
        variant="danger",
    ),
    Action(
        name="refund",
        title="Refund",
        icon="undo",
        question="The customer gets the whole amount back, and the stock is released. This cannot be undone.",
        done="is refunded",
        statuses=frozenset({Status.PAID}),
        command=lambda order_id, at, _: RefundOrder(order_id=order_id, at=at),
        variant="danger",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of an action, at a level of Django's messages."""

    level: int
    text: str

    @property
    def colour(self) -> str:
        return {messages.SUCCESS: "success", messages.INFO: "info"}.get(self.level, "danger")

    @property
    def word(self) -> str:
        return {messages.SUCCESS: "done", messages.INFO: "nothing to do"}.get(self.level, "refused")
