"""The verdict of a load test: what was answered and what the databases hold, compared."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lab.figures import Figure, missed
from lab.load import scenarios
from lab.load.recording import LATER, PLACE, Recording, Request
from lab.load.scenarios import ANSWER_SECONDS, SCENARIOS, Observed, common, verdict_of
from lab.oracle import Facts, Order
from sharding import numbers

CLEAN: dict[str, Any] = {"clean": True, "checks": [], "unavailable": []}
CONFIRMED = Order(status="confirmed", total=1_000, items={"SKU": 1})
REJECTED = Order(status="rejected", total=1_000, items={"SKU": 1}, endings=["order.rejected"])
PAID = Order(status="paid", total=1_000, endings=["order.paid"], captured=1_000)
CANCELLED = Order(status="cancelled", total=1_000, endings=["order.cancelled"])
REFUNDED = replace(CANCELLED, captured=1_000, refunded=1_000)
A, B = 1 << 56, 2 << 56


def recorded(*requests: Request, orders: tuple[int, ...] = ()) -> Recording:
    made = [numbers.to_text(order) for order in orders]
    return Recording(requests=list(requests) or [Request(10.0, 0.1, "look")], orders=made, started_at=9.0)


def facts(**found: Any) -> Facts:
    return Facts(**{"orders": {}, "audit": CLEAN, **found})


def seen(**known: Any) -> Observed:
    return Observed(**{"recording": recorded(), "facts": facts(), **known})


def judged(recording: Recording, found: Facts, stock: dict[str, int] | None = None) -> Observed:
    return seen(recording=recording, facts=found, verdict=verdict_of(recording, found, {1}, stock or {}))


def broken(figures: list[Figure]) -> list[str]:
    return [figure.name.strip() for figure in missed(figures)]


# --- What holds for every scenario -----------------------------------------------------------------------------------


def test_a_quiet_shop_with_all_its_orders_keeps_every_promise() -> None:
    found = facts(orders={A: CONFIRMED, B: REJECTED}, stock={"SKU": (10, 1, 9)})
    assert broken(common(judged(recorded(orders=(A, B)), found, {"SKU": 10}))) == []


@pytest.mark.parametrize(
    "known, what",
    [
        ({"facts": facts(audit={**CLEAN, "clean": False})}, "audit"),
        ({"left": "3 outbox"}, "outboxes and queues empty after"),
        ({"drained": 601.0}, "outboxes and queues empty after"),
        ({"ended": ["relay"]}, "processes that ended by themselves"),
        ({"recording": recorded(Request(1.0, 0.1, "look", "500 internal_error"))}, "requests that failed"),
        ({"recording": Recording()}, "requests"),
        ({"fault": "relay-killed", "fault_findings": ["lost: 1"]}, "what the fault relay-killed has broken"),
    ],
)
def test_each_broken_promise_is_found_by_itself(known: dict[str, Any], what: str) -> None:
    assert broken(common(seen(**known))) == [what]


@pytest.mark.parametrize(
    "orders, found, what",
    [
        ((A,), {}, "lost"),  # it was accepted and is not there
        ((A,), {"orders": {A: replace(CONFIRMED, status="placed")}}, "lost"),  # it is not decided
        ((A,), {"orders": {A: replace(PAID, captured=0)}}, "lost"),
        ((A,), {"orders": {A: replace(PAID, refunded=1_000)}}, "lost"),
        ((A,), {"orders": {A: replace(CANCELLED, captured=1_000)}}, "lost"),
        ((A,), {"orders": {A: replace(CONFIRMED, captured=1_000)}}, "lost"),
        ((A,), {"orders": {A: replace(PAID, endings=["order.paid", "order.cancelled"])}}, "doubled"),
        ((), {"orders": {A: REFUNDED}}, "doubled"),  # nobody was told of it
        ((), {"dead_letters": ["inventory order.placed: ValueError: no"]}, "lost"),
    ],
)
def test_what_the_oracle_finds_breaks_a_promise(orders: tuple[int, ...], found: dict[str, Any], what: str) -> None:
    assert broken(common(judged(recorded(orders=orders), facts(**found)))) == [what]


@pytest.mark.parametrize(
    "stock, what",
    [
        ((9, 1, 8), ["lost"]),  # a piece has gone
        ((10, 0, 10), ["lost"]),  # one is not set aside
        ((10, 2, 8), ["doubled"]),  # one is set aside for nobody
        ((10, 1, -1), ["oversold"]),  # one is not there
    ],
)
def test_stock_has_to_agree_with_the_orders_piece_by_piece(stock: tuple[int, int, int], what: list[str]) -> None:
    found = facts(orders={A: CONFIRMED}, stock={"SKU": stock})
    assert broken(common(judged(recorded(orders=(A,)), found, {"SKU": 10}))) == what


def test_with_a_fault_requests_may_fail() -> None:
    known = seen(recording=recorded(Request(1.0, 0.1, "look", "the connection was lost")), fault="web-killed")
    [figure] = [figure for figure in common(known) if figure.name == "requests that failed"]
    assert (figure.value, figure.asked, figure.note) == (1, None, "the connection was lost")


def test_a_request_that_failed_may_have_made_an_order() -> None:
    recording = recorded(Request(1.0, 0.1, PLACE, "the connection was lost"))
    assert verdict_of(recording, facts(orders={A: CONFIRMED}), {1}, {}).clean


# --- Of single scenarios ---------------------------------------------------------------------------------------------


def flash(confirmed: int, seconds: float = 0.5, buyers: int = 3, failure: str = "", fault: str = "") -> list[str]:
    placements = [Request(10.0 + number, seconds, PLACE) for number in range(buyers - 1)]
    placements.append(Request(10.0, seconds, PLACE, failure))
    orders = {number << 56: CONFIRMED if number < confirmed else REJECTED for number in range(buyers)}
    known = seen(recording=recorded(*placements), facts=facts(orders=orders), pieces=2, buyers=buyers, fault=fault)
    return broken(scenarios.flash_sale(known))


def test_a_flash_sale_confirms_exactly_the_pieces_there_are() -> None:
    assert flash(confirmed=2) == []
    assert flash(confirmed=1) == ["orders confirmed"]
    assert flash(confirmed=3) == ["orders confirmed beyond the pieces there are"]


def test_every_buyer_of_a_flash_sale_is_answered_in_time() -> None:
    assert flash(confirmed=2, seconds=ANSWER_SECONDS + 0.1) == ["longest answer"]
    assert flash(confirmed=2, failure="the connection was lost") == ["buyers answered"]


def test_with_a_fault_a_flash_sale_may_keep_buyers_waiting_but_sells_no_more_than_there_is() -> None:
    assert flash(confirmed=2, seconds=60, failure="the connection was lost", fault="broker-killed") == []
    assert flash(confirmed=3, fault="broker-killed") == ["orders confirmed beyond the pieces there are"]


def test_being_told_to_come_back_later_is_an_answer() -> None:
    placements = [Request(10.0, 0.1, PLACE), Request(10.0, 3.0, f"{PLACE}: {LATER}")]
    known = seen(recording=recorded(*placements), facts=facts(orders={A: CONFIRMED}), pieces=1, buyers=2)
    assert broken(scenarios.flash_sale(known)) == ["longest answer"]


def test_a_coupon_is_used_no_more_often_than_it_may_be() -> None:
    with_coupon = replace(CONFIRMED, coupon="C")
    orders = {1: with_coupon, 2: replace(PAID, coupon="C"), 3: replace(REJECTED, coupon="C"), 4: CONFIRMED}

    def used(redeemed: int, limit: int) -> list[str]:
        return broken(scenarios.coupon_rush(seen(facts=facts(orders=orders, coupons={"C": (redeemed, limit)}))))

    assert used(2, 2) == []
    assert used(2, 1) == ["redemptions of the coupon"]
    assert used(1, 2) == ["redemptions without an order that keeps it"]


def test_how_orders_of_a_race_ended_is_told() -> None:
    figures = scenarios.pay_cancel_race(seen(facts=facts(orders={A: PAID, B: REFUNDED})))
    assert {figure.name: figure.value for figure in figures[1:]} == {"  orders paid": 1, "  orders cancelled": 1}


def test_nobody_is_rejected_while_there_is_stock_for_all() -> None:
    assert broken(scenarios.all_confirmed(seen(facts=facts(orders={A: CONFIRMED})))) == []
    found = broken(scenarios.all_confirmed(seen(facts=facts(orders={A: REJECTED}))))
    assert found == ["orders rejected with stock for all"]


@pytest.mark.parametrize("name", [name for name in SCENARIOS if name != "browsing"])
def test_a_scenario_in_which_nobody_could_order_has_failed(name: str) -> None:
    assert broken(SCENARIOS[name].judge(seen(buyers=1, pieces=1)))
