"""The verdict of a load test: what was answered and what the databases hold, compared."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lab.load import promises
from lab.load.promises import Audit, Observed, Order, Stock
from lab.load.recording import Recording, Request
from lab.load.scenarios import SCENARIOS
from lab.sharded import Line

CLEAN = Audit(clean=True, checks=3)
CONFIRMED = Order(status="confirmed", total=1_000)
REJECTED = Order(status="rejected", total=1_000, endings=["order.rejected"])
PAID = Order(status="paid", total=1_000, endings=["order.paid"], captured=1_000)
CANCELLED = Order(status="cancelled", total=1_000, endings=["order.cancelled"])
REFUNDED = replace(CANCELLED, captured=1_000, refunded=1_000)


def recorded(*requests: Request, orders: list[str] | None = None) -> Recording:
    return Recording(requests=list(requests) or [Request(10.0, 0.1, "look")], orders=orders or [], started_at=9.0)


def seen(**facts: Any) -> Observed:
    return Observed(**{"recording": recorded(), "audit": CLEAN, **facts})


def broken(lines: list[Line]) -> list[str]:
    return [line.what.strip() for line in lines if line.good is False]


# --- What holds for every scenario -----------------------------------------------------------------------------------


def test_a_quiet_shop_with_all_its_orders_keeps_every_promise() -> None:
    stock = Stock(received=10, on_hand=10, reserved=1, available=9, held=1)
    facts = seen(recording=recorded(orders=["A", "B"]), orders={"A": CONFIRMED, "B": REJECTED}, stock={"SKU": stock})
    assert broken(promises.common(facts)) == []


@pytest.mark.parametrize(
    "facts, what",
    [
        ({"audit": Audit(clean=False)}, "audit"),
        ({"drained": None, "left": "3 outbox"}, "outboxes and queues empty"),
        ({"dead_letters": 1}, "dead letters"),
        ({"ended": ["relay"]}, "processes that ended by themselves"),
        ({"recording": recorded(Request(1.0, 0.1, "look", "500 internal_error"))}, "requests that failed"),
        ({"recording": Recording()}, "requests"),
        ({"recording": recorded(orders=["A"])}, "accepted orders that are missing"),
        ({"orders": {"A": replace(CONFIRMED, status="placed")}}, "orders that are neither confirmed nor rejected"),
        ({"fault": "relay-killed", "fault_findings": ["lost: 1"]}, "what the fault relay-killed has broken"),
    ],
)
def test_each_broken_promise_is_found_by_itself(facts: dict[str, Any], what: str) -> None:
    assert broken(promises.common(seen(**facts))) == [what]


@pytest.mark.parametrize(
    "stock",
    [
        Stock(received=10, on_hand=9, reserved=1, available=8, held=1),  # a piece has gone
        Stock(received=10, on_hand=10, reserved=1, available=9, held=2),  # one is promised twice
        Stock(received=10, on_hand=10, reserved=2, available=8, held=1),  # one is set aside for nobody
        Stock(received=10, on_hand=10, reserved=11, available=-1, held=11),  # one is not there
    ],
)
def test_stock_has_to_agree_with_the_orders_piece_by_piece(stock: Stock) -> None:
    facts = seen(stock={"SKU": stock})
    assert broken(promises.common(facts)) == ["products whose stock does not agree with their orders"]


def test_with_a_fault_requests_may_fail() -> None:
    facts = seen(recording=recorded(Request(1.0, 0.1, "look", "the connection was lost")), fault="web-killed")
    [line] = [line for line in promises.common(facts) if line.what == "requests that failed"]
    assert line == Line(what="requests that failed", measured="1 (the connection was lost)")


def test_the_audit_names_what_it_has_found() -> None:
    report = {
        "clean": False,
        "checks": [
            {"name": "stock_adds_up", "violations": 7, "offenders": [f"SKU-{number}" for number in range(7)]},
            {"name": "messages_once", "violations": 0, "offenders": []},
        ],
        "unavailable": ["orders_3"],
    }
    audit = Audit.read(report)
    assert audit.violations == ["stock_adds_up: 7 (SKU-0, SKU-1, SKU-2, SKU-3, SKU-4 …)", "orders_3 could not be asked"]
    assert (audit.clean, audit.checks, audit.unavailable) == (False, 2, ["orders_3"])


# --- Of single scenarios ---------------------------------------------------------------------------------------------


def flash(confirmed: int, held: int, seconds: float = 0.5, buyers: int = 3, failure: str = "") -> list[str]:
    placements = [Request(10.0 + number, seconds, promises.PLACE) for number in range(buyers - 1)]
    placements.append(Request(10.0, seconds, promises.PLACE, failure))
    orders = {str(number): CONFIRMED if number < confirmed else REJECTED for number in range(buyers)}
    stock = Stock(received=2, on_hand=2, reserved=2, available=0, held=held)
    facts = seen(recording=recorded(*placements), orders=orders, stock={"R": stock}, rare="R", buyers=buyers)
    return broken(promises.flash_sale(facts))


def test_a_flash_sale_confirms_exactly_the_pieces_there_are() -> None:
    assert flash(confirmed=2, held=2) == []
    assert flash(confirmed=1, held=1) == ["orders confirmed"]
    assert flash(confirmed=3, held=3) == ["orders confirmed", "pieces sold that are not there"]


def test_every_buyer_of_a_flash_sale_is_answered_in_time() -> None:
    assert flash(confirmed=2, held=2, seconds=promises.ANSWER_SECONDS) == ["longest answer"]
    assert flash(confirmed=2, held=2, failure="the connection was lost") == ["buyers answered"]


def test_with_a_fault_a_flash_sale_may_keep_buyers_waiting_but_sells_no_more_than_there_is() -> None:
    placements = [Request(10.0, 60.0, promises.PLACE, "the connection was lost")]
    stock = Stock(received=1, on_hand=1, reserved=2, available=0, held=2)
    facts = seen(recording=recorded(*placements), stock={"R": stock}, rare="R", buyers=1, fault="broker-killed")
    assert broken(promises.flash_sale(facts)) == ["orders confirmed", "pieces sold that are not there"]


def test_being_told_to_come_back_later_is_an_answer() -> None:
    placements = [Request(10.0, 0.1, promises.PLACE), Request(10.0, 3.0, f"{promises.PLACE}: {promises.LATER}")]
    stock = Stock(received=1, on_hand=1, reserved=1, available=0, held=1)
    facts = seen(recording=recorded(*placements), orders={"A": CONFIRMED}, stock={"R": stock}, rare="R", buyers=2)
    assert broken(promises.flash_sale(facts)) == ["longest answer"]


def test_a_coupon_is_used_no_more_often_than_it_may_be() -> None:
    with_coupon = replace(CONFIRMED, coupon="C")
    orders = {"A": with_coupon, "B": replace(PAID, coupon="C"), "C": replace(REJECTED, coupon="C"), "D": CONFIRMED}
    assert broken(promises.coupon_rush(seen(orders=orders, coupons={"C": (2, 2)}))) == []
    assert broken(promises.coupon_rush(seen(orders=orders, coupons={"C": (2, 1)}))) == ["redemptions of the coupon"]
    assert broken(promises.coupon_rush(seen(orders=orders, coupons={"C": (1, 2)}))) == ["orders that keep it"]


def test_an_order_has_one_ending() -> None:
    assert broken(promises.pay_cancel_race(seen(orders={"A": PAID, "B": REFUNDED, "C": CONFIRMED}))) == []
    both = replace(PAID, endings=["order.paid", "order.cancelled"])
    assert broken(promises.pay_cancel_race(seen(orders={"A": both}))) == ["orders with more than one ending"]


@pytest.mark.parametrize(
    "order",
    [
        replace(PAID, captured=0),
        replace(PAID, refunded=1_000),
        replace(CANCELLED, captured=1_000),
        replace(CONFIRMED, captured=1_000),
    ],
)
def test_money_is_kept_for_paid_orders_and_for_no_others(order: Order) -> None:
    assert not promises.money_agrees(order)
    assert broken(promises.pay_cancel_race(seen(orders={"A": order}))) == ["orders whose money does not agree"]


def test_nobody_is_rejected_while_there_is_stock_for_all() -> None:
    assert broken(promises.steady_orders(seen(orders={"A": CONFIRMED}))) == []
    assert broken(promises.steady_orders(seen(orders={"A": REJECTED}))) == ["orders rejected with stock for all"]


def test_browsing_takes_200_and_304_for_an_answer_and_nothing_else() -> None:
    assert broken(promises.browsing(seen())) == []
    failed = recorded(Request(1.0, 0.1, "page", "404 instead of 200 or 304"))
    assert broken(promises.browsing(seen(recording=failed))) == ["answers other than 200 and 304"]


@pytest.mark.parametrize("name", [name for name in SCENARIOS if name != "browsing"])
def test_a_scenario_in_which_nobody_could_order_has_failed(name: str) -> None:
    assert broken(SCENARIOS[name].judge(seen(buyers=1)))
