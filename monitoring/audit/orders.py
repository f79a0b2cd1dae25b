"""Checks of orders against what the other contexts have done for them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from msgspec import UNSET

from coupons.events import REDEMPTION, CouponRedeemed, CouponRefused, CouponReleased
from eventing.databases import time_from_db
from eventing.recorded import Recorded, stream_name
from inventory.events import RESERVATION, StockRefused, StockReleased, StockReserved, StockShipped
from inventory.handlers import SHIPPED
from monitoring.audit.report import NOTHING, Finding, Scope, case_check
from monitoring.audit.rows import Case, Payment
from orders import handlers as orders
from orders.domain import Order, Status
from orders.events import CancelReason, OrderCancelled, OrderPaid, OrderPaymentFailed
from payments.events import CATEGORY as PAYMENT
from payments.events import PaymentCaptured, PaymentDeclined, PaymentRefunded, PaymentRequested, RefundRequested

PRUNING = timedelta(hours=1)  # keys may be pruned while the audit runs
SWEEP = timedelta(seconds=60)  # what the clock may take to come round to an order
UNPAID = (Status.PLACED, Status.CONFIRMED)
SENT = (Status.SHIPPED, Status.DELIVERED)
ENDED = (Status.REJECTED, Status.CANCELLED, Status.REFUNDED)
TIMES = tuple(orders.ORDER_COLUMNS.index(name) for name in ("placed_at", "updated_at", "expires_at"))

RESERVATION_STATUS = {
    StockReserved: "reserved",
    StockRefused: "refused",
    StockReleased: "released",
    StockShipped: "shipped",
}
REDEMPTION_STATUS = {CouponRedeemed: "redeemed", CouponRefused: "refused", CouponReleased: "released"}
PAYMENT_STATUS = {
    PaymentRequested: "requested",
    PaymentCaptured: "captured",
    PaymentDeclined: "declined",
    RefundRequested: "refund_requested",
    PaymentRefunded: "refunded",
}
CAPTURED = ("captured", "refund_requested", "refunded")


@case_check(
    title="What is listed of an order is what its events say, in every column.",
    counts="orders",
    hint="`manage.py rebuild --projection orders` makes the rows anew from the events.",
    at_once=True,
)
def read_model_matches_events(case: Case, scope: Scope) -> Finding:
    """Read in one snapshot, so it must be right at any moment."""
    if not case.history():
        return (1, [case.name()]) if case.order is not None or case.lines else NOTHING
    if case.state is None:
        return NOTHING  # the streams' own checks say why
    expected = orders.rows_of(case.history())
    right = case.order is not None and _as_stored(case.order) == expected.order and case.lines == expected.lines
    return 1, [] if right else [case.name()]


def _as_stored(row: tuple[Any, ...]) -> tuple[Any, ...]:
    columns = list(row)
    for position in TIMES:
        if columns[position] is not None:
            columns[position] = time_from_db(columns[position])
    return tuple(columns)


@case_check(
    title="Reservations, redemptions and payments are what their events say.",
    counts="rows",
    hint="Somebody has changed a row by hand, or a handler forgot it. The events are what others have reacted to: "
    "correct the row after them.",
    at_once=True,
)
def tables_match_events(case: Case, scope: Scope) -> Finding:
    """The state that inventory, coupons and payments keep is what their events, written with it, come to."""
    if case.unreadable:
        return NOTHING
    checks = [
        (RESERVATION, case.reservation is not None, _reservation_is_right(case)),
        (REDEMPTION, case.redemption is not None, _redemption_is_right(case)),
        (PAYMENT, case.account is not None or bool(case.payments), _payments_are_right(case)),
    ]
    known = [(category, right) for category, there, right in checks if there or case.history(category)]
    return len(known), [case.name(category) for category, right in known if not right]


def _reservation_is_right(case: Case) -> bool:
    history = case.history(RESERVATION)
    if case.reservation is None:
        return not history
    status = RESERVATION_STATUS.get(type(history[-1].event)) if history else "void"
    reserved = [item.event for item in history if isinstance(item.event, StockReserved)]
    items = {item.sku: item.quantity for item in reserved[-1].items} if reserved else {}
    _, stored, version, changed_at = case.reservation
    if history and time_from_db(changed_at) != history[-1].event.at:
        return False
    shipped = [
        (case.id, item.sku, "shipped", item.quantity, SHIPPED, recorded.event.at)
        for recorded in history
        if isinstance(recorded.event, StockShipped)
        for item in recorded.event.items
    ]
    movements = [(*row[:5], time_from_db(row[5])) for row in case.shipped]
    return (stored, version) == (status, len(history)) and case.reserved == items and movements == sorted(shipped)


def _redemption_is_right(case: Case) -> bool:
    history = case.history(REDEMPTION)
    if case.redemption is None:
        return not history
    _, status, version, discount, code, customer_id, at = case.redemption
    if not history:
        return (status, version, discount, code) == ("void", 0, 0, None)
    last = history[-1].event
    redeemed = [item.event for item in history if isinstance(item.event, CouponRedeemed)]
    if redeemed and (code, discount) != (redeemed[-1].code, redeemed[-1].discount):
        return False
    expected = REDEMPTION_STATUS.get(type(last)), len(history), last.customer_id, last.at
    return (status, version, customer_id, time_from_db(at)) == expected


def _payments_are_right(case: Case) -> bool:
    history = case.history(PAYMENT)
    if case.account is None:
        return not history and not case.payments
    _, version, captured, refunded, customer_id, _, _ = case.account
    return (
        version == len(history)
        and {customer_id} >= {item.event.customer_id for item in history}
        and [
            (one.id, one.attempt, one.status, one.amount, one.currency, one.reason, *one.times) for one in case.payments
        ]
        == _payments_of(history)
        and captured == _sum(case.payments, *CAPTURED)
        and refunded == _sum(case.payments, "refunded")
    )


def _payments_of(history: Sequence[Recorded[Any]]) -> list[tuple[Any, ...]]:
    """The columns that a payment has from its events: of each, in the order in which they were requested."""
    payments: dict[str, list[Any]] = {}
    for item in history:
        event = item.event
        if isinstance(event, PaymentRequested):
            attempt = len(payments) + 1
            payments[event.payment_id] = [
                event.payment_id, attempt, "", event.amount, event.currency, "", event.at, None, None,
            ]  # fmt: skip
        if (payment := payments.get(event.payment_id)) is None:
            continue
        payment[2] = PAYMENT_STATUS.get(type(event))
        if isinstance(event, PaymentCaptured | PaymentDeclined):
            payment[7] = event.at
        if isinstance(event, PaymentDeclined):
            payment[5] = event.reason
        if isinstance(event, PaymentRefunded):
            payment[8] = event.at
    return [tuple(payment) for payment in payments.values()]


def _sum(payments: list[Payment], *statuses: str) -> int:
    return sum(payment.amount for payment in payments if payment.status in statuses)


@case_check(
    title="Every order that was not paid before its deadline has come to an end.",
    counts="orders",
    hint="Is beat running, and the periodic task `Cancel overdue orders` enabled? It cancels them within seconds.",
)
def orders_end_in_time(case: Case, scope: Scope) -> Finding:
    state = case.state
    if state is None or state.payment_due_at is None:
        return NOTHING
    late = state.expires_at is not None and state.expires_at < scope.cutoff - SWEEP
    return 1, [case.name()] if late else []


@case_check(
    title="The clock has cancelled no order whose payment was requested before the deadline and did not fail.",
    counts="orders",
    hint="The customer paid in time and got the money back: offer the order again. Was a worker of orders or "
    "payments away for more than an hour, or is the payment's event a dead letter? The clock waits no longer.",
)
def paid_in_time_is_kept(case: Case, scope: Scope) -> Finding:
    """Of an order that the clock cancelled, no payment was requested before the deadline unless it has failed.

    Whether it failed before is told by the order's own events, or by times in orders that are older than those events.
    """
    events = [item.event for item in case.history()]
    cancelled = [event for event in events if isinstance(event, OrderCancelled)]
    if case.state is None or not cancelled or cancelled[0].reason is not CancelReason.PAYMENT_TIMEOUT:
        return NOTHING
    due, ended = case.state.payment_due_at, cancelled[0].at
    failed = {event.payment_id for event in events if isinstance(event, OrderPaymentFailed)}
    open_in_time = set()
    for event in (item.event for item in case.history(PAYMENT)):
        if isinstance(event, PaymentRequested | PaymentCaptured) and due is not None and event.at < due:
            open_in_time.add(event.payment_id)
        elif isinstance(event, PaymentDeclined) and event.at <= ended:
            failed.add(event.payment_id)
    return 1, [case.name()] if open_in_time - failed else []


@case_check(
    title="Each unfinished order has exactly its lines set aside, a shipped one has used them up, "
    "and one that came to nothing has none.",
    counts="orders",
    hint="`manage.py replay --subscriber inventory --stream ORDER --forget` lets inventory react again.",
)
def stock_set_aside_once(case: Case, scope: Scope) -> Finding:
    if not (case.history() or case.reservation) or not case.can_be_judged(scope.cutoff):
        return NOTHING
    state = case.state
    status = None if case.reservation is None else case.reservation[1]
    if state is None:
        return 1, [stream_name(RESERVATION, case.id)] if status in ("reserved", "shipped") else []
    if state.status in ENDED:
        right = status not in ("reserved", "shipped")
        right = right and status is not None  # at least that nothing may be set aside for it any more
    else:
        wanted = {line.sku: line.quantity for line in state.lines}
        right = status == ("shipped" if state.status in SENT else "reserved") and case.reserved == wanted
    return 1, [] if right else [case.name()]


@case_check(
    title="Each order that stands has its coupon redeemed, and one that came to nothing has not.",
    counts="orders",
    hint="`manage.py replay --subscriber coupons --stream ORDER --forget` lets coupons react again.",
)
def coupon_redeemed_once(case: Case, scope: Scope) -> Finding:
    state = case.state
    if (state is None and case.redemption is None) or not case.can_be_judged(scope.cutoff):
        return NOTHING
    status, discount, code, customer = (None, 0, None, None)
    if case.redemption is not None:
        _, status, _, discount, code, customer, _ = case.redemption
    if state is None:
        return 1, [stream_name(REDEMPTION, case.id)] if status == "redeemed" else []
    if state.status in ENDED or state.coupon_code is None:
        right = status != "redeemed" and (state.status not in ENDED or status is not None)
    else:
        right = (status, discount, customer) == ("redeemed", state.discount, state.customer_id)
        right = right and code == state.coupon_code.strip().upper()
    return 1, [] if right else [case.name()]


@case_check(
    title="Lines less discount are the total, and the total is what was captured less what was refunded.",
    counts="orders",
    hint="Open the order and its payments. What was captured too much is refunded at the gateway; an order that "
    "has not heard of its payment gets `manage.py replay --subscriber orders --stream payment-…`.",
)
def money_adds_up(case: Case, scope: Scope) -> Finding:
    if (case.account is None and not case.history()) or not case.can_be_judged(scope.cutoff):
        return NOTHING
    state = case.state
    captured, refunded = _sum(case.payments, *CAPTURED), _sum(case.payments, "refunded")
    if state is None:
        return 1, [stream_name(PAYMENT, case.id)] if captured != refunded else []
    return 1, [] if _is_paid_right(state, case, captured, refunded) else [case.name()]


def _is_paid_right(state: Order, case: Case, captured: int, refunded: int) -> bool:
    taken = [payment for payment in case.payments if payment.status in CAPTURED]
    ended = state.status in ENDED
    closed = (False, "") if case.account is None else case.account[5:]
    if case.account is not None and case.account[4] != state.customer_id:
        return False
    if closed != (ended, f"order_{state.status}" if ended else ""):
        return False
    if any(payment.currency != state.currency for payment in taken):
        return False
    if state.status in UNPAID:
        return not taken
    if state.status in (Status.REJECTED, Status.CANCELLED):
        return captured == refunded
    if any(item.event.amount != state.total for item in case.history() if isinstance(item.event, OrderPaid)):
        return False
    back = state.total if state.status is Status.REFUNDED else 0
    return [payment.id for payment in taken] == [state.payment_id] and (captured, refunded) == (state.total, back)


@case_check(
    title="Every payment that counts as captured or refunded stands in the gateway's book with the same amount.",
    counts="payments",
    hint="Compare the payment with the gateway's list under its reference, and correct whichever is wrong.",
)
def gateway_agrees(case: Case, scope: Scope) -> Finding:
    """The sandbox writes to its book before payments writes to its own, in the same database."""
    taken = [payment for payment in case.payments if payment.status in CAPTURED]
    wrong = [
        payment.id
        for payment in taken
        if payment.captured != (payment.amount, payment.currency, "captured")
        or (payment.status == "refunded" and payment.refunded != (payment.amount, payment.currency, "refunded"))
    ]
    return len(taken), [f"payment {payment_id} of {case.name()}" for payment_id in wrong]


@case_check(
    title="For a day, the request that placed an order finds it again by its idempotency key.",
    counts="orders",
    hint="Somebody has deleted or changed a row of orders_idempotencykey: if the same request comes again, it "
    "places a second order. Ask the customer, and cancel one of them.",
    at_once=True,
)
def placements_keep_their_key(case: Case, scope: Scope) -> Finding:
    """The request that placed an order finds it again for as long as keys are kept, less an hour for pruning."""
    history = case.history()
    if not history or history[0].version != 1:
        return NOTHING
    placed = history[0]
    digest = placed.metadata.request
    keys = [orders.digest_of(key, fingerprint) for _, _, key, fingerprint, _ in case.keys]
    wrong = [f"{row[2]} of {case.name()}" for row, one in zip(case.keys, keys, strict=True) if one != digest]
    wrong += [
        f"{row[2]} of {case.name()}"
        for row in case.keys
        if (row[1], time_from_db(row[4])) != (placed.event.customer_id, placed.event.at)
    ]
    if digest is UNSET:
        return len(keys), []  # placed without a key, or by a version that did not note it
    if digest not in keys and placed.event.at > scope.now - orders.KEEP_KEYS + PRUNING:
        wrong.append(case.name())
    return 1, dict.fromkeys(wrong)


CHECKS = (
    placements_keep_their_key,
    orders_end_in_time,
    paid_in_time_is_kept,
    read_model_matches_events,
    tables_match_events,
    stock_set_aside_once,
    coupon_redeemed_once,
    money_adds_up,
    gateway_agrees,
)
