"""The state of an order before and after an event, in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from orders.domain import Order
from values.filters import money

TIMES = "\N{MULTIPLICATION SIGN}"
NOTHING = "\N{EN DASH}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A part of the order's state, before and after an event."""

    name: str
    before: str
    after: str

    @property
    def changed(self) -> bool:
        return self.before != self.after


def changes_between(before: Order, after: Order) -> list[Fact]:
    """Every part of an order's state, before an event and after it."""
    return [
        Fact(name=name, before=old, after=new)
        for (name, old), (_, new) in zip(_facts(before), _facts(after), strict=True)
    ]


def _is_held(order: Order) -> bool:
    return bool(order.payments_under_way) and order.expires_at is not None


def _facts(order: Order) -> Iterator[tuple[str, str]]:
    """The state of an order, in words."""
    yield "Status", order.status.value if order.status is not None else "not placed"
    yield "Open checks", ", ".join(sorted(order.waiting_for)) or NOTHING
    yield "Lines", ", ".join(f"{line.quantity} {TIMES} {line.name}" for line in order.lines) or NOTHING
    yield "Coupon", order.coupon_code or NOTHING
    yield "Discount", money(order.discount, order.currency) if order.discount else NOTHING
    yield "Total", money(order.total, order.currency) if order.lines else NOTHING
    yield "Payment due", f"{order.payment_due_at:%Y-%m-%d %H:%M:%S} UTC" if order.payment_due_at else NOTHING
    yield "Waits for payments until", f"{order.expires_at:%Y-%m-%d %H:%M:%S}" if _is_held(order) else NOTHING
    yield "Payment", order.payment_id or NOTHING
    yield "Tracking", order.tracking or NOTHING
