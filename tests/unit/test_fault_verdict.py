"""The verdict of the fault tests: each kind of harm is seen, named and counted once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lab.oracle import Facts, Ledger, Order, Promise, Verdict, judge

CLEAN: dict[str, Any] = {"clean": True, "checks": [], "unavailable": []}
ORDER, PAID, CANCELLED, UNKNOWN = 1 << 56, 2 << 56, 3 << 56, 4 << 56


def ledger(**extra: Any) -> Ledger:
    promises = [
        Promise(order_id=ORDER, customer_id=1, items={"A": 2}, coupon=None, total=2_000),
        Promise(order_id=PAID, customer_id=2, items={"A": 1}, coupon=None, total=1_000, pay_accepted=True),
        Promise(order_id=CANCELLED, customer_id=3, items={"A": 5}, coupon=None, total=5_000, cancel_accepted=True),
    ]
    return Ledger(promises=promises, customers={1, 2, 3}, stock={"A": 10}, **extra)


CONFIRMED = Order(status="confirmed", total=2_000, items={"A": 2})
OF_PAID = Order(status="paid", total=1_000, items={"A": 1}, endings=["order.paid"], captured=1_000)
OF_CANCELLED = Order(status="cancelled", total=5_000, items={"A": 5}, captured=5_000, refunded=5_000)
OTHER_LINES = Order(status="confirmed", total=2_000, items={"B": 2})
UNTOLD = Order(status="confirmed", total=1_000, items={"A": 1})
FACTS = Facts(
    orders={ORDER: CONFIRMED, PAID: OF_PAID, CANCELLED: OF_CANCELLED},
    stock={"A": (10, 3, 7)},
    audit=CLEAN,
    messages={(ORDER, "order_placed"): 1},
    coupons={"ONCE": (1, 1), "FREE": (7, None)},
)


def counts(verdict: Verdict) -> tuple[int, int, int]:
    return verdict.lost, verdict.doubled, verdict.oversold


def test_a_shop_that_kept_its_promises_is_clean() -> None:
    verdict = judge(ledger(), FACTS)
    assert verdict.clean
    assert verdict.findings == []


def test_an_order_that_was_paid_in_time_must_not_be_cancelled() -> None:
    due_soon: dict[str, Any] = {"items": {}, "coupon": None, "total": 0, "may_expire": True, "customer_id": 1}
    assert Promise(order_id=1, **due_soon, pay_asked=True, pay_accepted=True).right_states() == {"paid"}
    assert Promise(order_id=1, **due_soon, pay_asked=True).right_states() == {"confirmed", "paid", "cancelled"}
    assert Promise(order_id=1, **due_soon).right_states() == {"confirmed", "cancelled"}


@pytest.mark.parametrize(
    "change,expected",
    [
        ({"orders": {PAID: OF_PAID, CANCELLED: OF_CANCELLED}, "stock": {"A": (10, 1, 9)}}, (1, 0, 0)),
        ({"orders": {**FACTS.orders, ORDER: replace(CONFIRMED, status="placed")}}, (1, 0, 0)),
        ({"orders": {**FACTS.orders, PAID: replace(OF_PAID, status="confirmed")}}, (1, 0, 0)),
        (
            {"orders": {**FACTS.orders, UNKNOWN: UNTOLD}, "stock": {"A": (10, 4, 6)}},
            (0, 1, 0),
        ),
        ({"stock": {"A": (10, 2, 8)}}, (1, 0, 0)),
        ({"stock": {"A": (10, 5, 5)}}, (0, 2, 0)),
        ({"stock": {"A": (9, 3, 6)}}, (1, 0, 0)),
        ({"orders": {**FACTS.orders, PAID: replace(OF_PAID, captured=0)}}, (1, 0, 0)),
        ({"orders": {**FACTS.orders, PAID: replace(OF_PAID, captured=2_000)}}, (0, 1, 0)),
        ({"orders": {**FACTS.orders, CANCELLED: replace(OF_CANCELLED, refunded=0)}}, (1, 0, 0)),
        ({"orders": {**FACTS.orders, ORDER: replace(CONFIRMED, captured=2_000)}}, (1, 0, 0)),
        ({"orders": {**FACTS.orders, PAID: replace(OF_PAID, endings=["order.paid", "order.cancelled"])}}, (0, 1, 0)),
        (
            {"orders": {**FACTS.orders, ORDER: OTHER_LINES}, "stock": {"A": (10, 1, 9)}},
            (1, 0, 0),
        ),
        ({"messages": {(ORDER, "order_placed"): 2}}, (0, 1, 0)),
        ({"coupons": {"ONCE": (2, 1)}}, (0, 0, 1)),
        ({"dead_letters": ["inventory order.placed: ValueError: no"]}, (1, 0, 0)),
    ],
    ids=[
        "order missing",
        "order stuck",
        "payment without effect",
        "order that nobody was told of",
        "stock not set aside",
        "stock set aside twice",
        "stock gone",
        "money missing",
        "money taken twice",
        "refund missing",
        "money kept of an order that is not paid",
        "two endings",
        "other lines than were ordered",
        "message twice",
        "coupon redeemed too often",
        "dead letter",
    ],
)
def test_each_harm_is_counted_once(change: dict[str, Any], expected: tuple[int, int, int]) -> None:
    verdict = judge(ledger(), replace(FACTS, **change))
    assert counts(verdict) == expected
    assert len(verdict.findings) == 1


def test_more_orders_than_pieces_are_oversold() -> None:
    small = ledger()
    small.stock["A"] = 2
    verdict = judge(small, replace(FACTS, stock={"A": (2, 2, 0)}))
    assert counts(verdict) == (1, 0, 1)


def test_a_request_that_got_no_answer_may_have_made_an_order() -> None:
    assert judge(ledger(unanswered=1), replace(FACTS, orders={**FACTS.orders, UNKNOWN: Order(status="placed")})).clean


@pytest.mark.parametrize(
    "asked,states",
    [
        ({}, {"confirmed"}),
        ({"may_be_rejected": True}, {"confirmed", "rejected"}),
        ({"pay_asked": True}, {"confirmed", "paid"}),
        ({"pay_asked": True, "pay_accepted": True}, {"paid"}),
        ({"pay_asked": True, "pay_accepted": True, "cancel_asked": True}, {"paid", "cancelled"}),
        ({"cancel_asked": True, "cancel_accepted": True, "pay_accepted": True}, {"cancelled"}),
    ],
)
def test_right_states_follow_from_what_was_answered(asked: dict[str, bool], states: set[str]) -> None:
    promise = Promise(order_id=ORDER, customer_id=1, items={}, coupon=None, total=0, **asked)
    assert promise.right_states() == states


def test_what_the_audit_finds_counts() -> None:
    check = {"name": "read_model", "title": "…", "checked": 9, "violations": 2, "offenders": ["x", "y"], "hint": ""}
    verdict = judge(ledger(), replace(FACTS, audit={"clean": False, "checks": [check], "unavailable": ["orders_1"]}))
    assert counts(verdict) == (3, 0, 0)
    assert verdict.findings == [
        "lost: audit read_model: 2 (x, y)",
        "lost: databases that the audit could not ask: 1 (orders_1)",
    ]


def test_an_audit_that_is_not_clean_is_never_overlooked() -> None:
    assert not judge(ledger(), replace(FACTS, audit={**CLEAN, "clean": False})).clean
