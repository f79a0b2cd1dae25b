"""What a coupon is worth, who may use it, and what becomes of it in a batch of orders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coupons.commands import Command, RedeemCoupon, ReleaseCoupon
from coupons.domain import (
    Coupon,
    CouponAlreadyUsed,
    CouponCurrencyMismatch,
    CouponError,
    CouponExpired,
    CouponNotYetValid,
    CouponUsedUp,
    Event,
    InvalidCoupon,
    Kind,
    Redemption,
    SpendTooLow,
    Status,
    UnknownCoupon,
    check_terms,
    decide,
    discount_of,
    evolve,
    normalise,
    quote,
    settle,
    uses_by,
)
from coupons.events import CouponRedeemed, CouponRefused, CouponReleased
from eventing.testing import Scenario

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
TEN_PERCENT = Coupon(code="TEN", kind=Kind.PERCENTAGE, value=1000, currency="EUR")
FIVE_EUROS = Coupon(code="FIVE", kind=Kind.FIXED, value=500, currency="EUR")


def redeem(order_id: int, coupon: Coupon = FIVE_EUROS, *, customer_id: int = 7, discount: int = 500) -> RedeemCoupon:
    return RedeemCoupon(
        order_id=order_id,
        customer_id=customer_id,
        code=coupon.code,
        subtotal=2000,
        currency="EUR",
        discount=discount,
        placed_at=NOW,
        at=NOW,
    )


def release(order_id: int, *, customer_id: int = 7) -> ReleaseCoupon:
    return ReleaseCoupon(order_id=order_id, customer_id=customer_id, at=NOW)


def quote_for(coupon: Coupon | None, *, subtotal: int = 2000, uses: int = 0, currency: str = "EUR") -> int:
    return quote(coupon, uses_by_customer=uses, subtotal=subtotal, currency=currency, at=NOW)


def refusal(code: str, reason: str, detail: str) -> CouponRefused:
    return CouponRefused(code=code, customer_id=7, reason=reason, detail=detail, at=NOW)


REDEEMED = CouponRedeemed(code="FIVE", customer_id=7, discount=500, at=NOW)
RELEASED = CouponReleased(code="FIVE", customer_id=7, at=NOW)


@pytest.mark.parametrize(
    "basis_points, subtotal, discount",
    [
        (1000, 2000, 200),
        (1000, 199, 20),  # 19.9
        (1000, 5, 1),  # exactly half a unit goes up
        (1000, 4, 0),  # 0.4
        (3333, 100, 33),
        (1, 4999, 0),
        (1, 5000, 1),
        (10000, 1, 1),
        (10000, 0, 0),
    ],
)
def test_percentage_is_rounded_to_the_nearest_unit(basis_points: int, subtotal: int, discount: int) -> None:
    assert discount_of(replace(TEN_PERCENT, value=basis_points), subtotal) == discount


def test_fixed_amount_is_no_more_than_the_order() -> None:
    assert discount_of(FIVE_EUROS, 501) == 500
    assert discount_of(FIVE_EUROS, 499) == 499


@given(
    coupon=st.one_of(
        st.builds(replace, st.just(TEN_PERCENT), value=st.integers(1, 10_000)),
        st.builds(replace, st.just(FIVE_EUROS), value=st.integers(1, 10**12)),
    ),
    subtotal=st.integers(0, 10**14),
)
def test_discount_is_never_negative_nor_more_than_the_subtotal(coupon: Coupon, subtotal: int) -> None:
    assert 0 <= discount_of(coupon, subtotal) <= subtotal


def test_coupon_without_limits_is_always_worth_its_value() -> None:
    assert quote_for(FIVE_EUROS, uses=1000) == 500


@pytest.mark.parametrize(
    "coupon, error, message",
    [
        (None, UnknownCoupon, "There is no such coupon."),
        (replace(FIVE_EUROS, active=False), UnknownCoupon, "There is no such coupon."),
        (
            replace(FIVE_EUROS, valid_from=NOW + timedelta(seconds=1)),
            CouponNotYetValid,
            "The coupon is not valid yet: it is from 2026-05-04 12:00 UTC.",
        ),
        (
            replace(FIVE_EUROS, valid_until=NOW),
            CouponExpired,
            "The coupon has expired: it was valid until 2026-05-04 12:00 UTC.",
        ),
        (
            replace(FIVE_EUROS, currency="USD"),
            CouponCurrencyMismatch,
            "The coupon is for another currency: it is in USD, the order in EUR.",
        ),
        (
            replace(FIVE_EUROS, minimum_spend=2001),
            SpendTooLow,
            "The order is too small for this coupon: it takes 20.01 EUR, the order has 20.00 EUR.",
        ),
        (replace(FIVE_EUROS, total_limit=3, redeemed=3), CouponUsedUp, "The coupon has been used up."),
        (
            replace(FIVE_EUROS, per_customer_limit=2),
            CouponAlreadyUsed,
            "The coupon may not be used again by the same customer: 2 of 2 times.",
        ),
    ],
)
def test_coupon_is_refused_with_a_reason(coupon: Coupon | None, error: type[CouponError], message: str) -> None:
    with pytest.raises(error) as refused:
        quote_for(coupon, uses=2)

    assert str(refused.value) == message


@pytest.mark.parametrize(
    "coupon",
    [
        replace(FIVE_EUROS, valid_from=NOW),
        replace(FIVE_EUROS, valid_until=NOW + timedelta(microseconds=1)),
        replace(FIVE_EUROS, minimum_spend=2000),
        replace(FIVE_EUROS, total_limit=3, redeemed=2),
        replace(FIVE_EUROS, per_customer_limit=3),
    ],
)
def test_coupon_just_within_its_limits_is_good(coupon: Coupon) -> None:
    assert quote_for(coupon, uses=2) == 500


@pytest.mark.parametrize(
    "currency, text",
    [("JPY", "it takes 5000 JPY, the order has 7 JPY"), ("KWD", "it takes 5.000 KWD, the order has 0.007 KWD")],
)
def test_amounts_are_told_in_the_decimals_of_their_currency(currency: str, text: str) -> None:
    with pytest.raises(SpendTooLow, match=text):
        quote_for(replace(FIVE_EUROS, currency=currency, minimum_spend=5000), subtotal=7, currency=currency)


@pytest.mark.parametrize("error", [UnknownCoupon, CouponUsedUp, SpendTooLow])
def test_code_of_an_error_is_its_name(error: type[CouponError]) -> None:
    assert error().code == {UnknownCoupon: "unknown_coupon", CouponUsedUp: "coupon_used_up"}.get(error, "spend_too_low")


# --- One order: given what has happened to it, when it asks, then … ---------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Till:
    """What an order finds: its redemption, the terms of the coupons, and how often customers use them."""

    coupons: Mapping[str, Coupon]
    redemption: Redemption = field(default_factory=Redemption)
    uses: Mapping[tuple[str, int], int] = field(default_factory=dict)

    def decide(self, command: Command) -> list[Event]:
        event = decide(self.redemption, command, self.coupons, self.uses)
        return [] if event is None else [event]

    def evolve(self, event: Event) -> Till:
        coupons, uses = dict(self.coupons), dict(self.uses)
        if difference := uses_by(event):
            use = event.code, event.customer_id
            uses[use] = uses.get(use, 0) + difference
            coupons[event.code] = replace(coupons[event.code], redeemed=coupons[event.code].redeemed + difference)
        return Till(coupons=coupons, redemption=evolve(self.redemption, event), uses=uses)


def order(*coupons: Coupon) -> Scenario[Till, Command]:
    """An order that nobody has heard of, and the coupons that there are."""
    return Scenario(Till.decide, Till.evolve, Till(coupons={coupon.code: coupon for coupon in coupons}))


def test_redeemed_coupon_is_counted() -> None:
    till = order(FIVE_EUROS).when(redeem(1)).then(REDEEMED)

    assert till.coupons == {"FIVE": replace(FIVE_EUROS, redeemed=1)}
    assert till.redemption == Redemption(status=Status.REDEEMED, code="FIVE", customer_id=7, discount=500)


def test_case_of_the_code_does_not_matter() -> None:
    order(FIVE_EUROS).when(replace(redeem(1), code=" five ")).then(REDEEMED)
    assert normalise(" five ") == "FIVE"


def test_refused_coupon_is_not_counted_and_says_why() -> None:
    till = order().when(redeem(1)).then(refusal("FIVE", "unknown_coupon", "There is no such coupon."))

    assert till.redemption == Redemption(status=Status.REFUSED, code="FIVE", customer_id=7)


def test_coupon_edited_after_the_promise_is_refused() -> None:
    detail = "The coupon is not worth what it was when the order was placed: 4.00 EUR instead of 5.00 EUR."
    order(replace(FIVE_EUROS, value=400)).when(redeem(1)).then(refusal("FIVE", "coupon_changed", detail))


def test_coupon_that_was_valid_when_the_order_was_placed_is_good_later() -> None:
    until = replace(FIVE_EUROS, valid_until=NOW + timedelta(seconds=1))
    late = replace(redeem(1), at=NOW + timedelta(minutes=5))

    order(until).when(late).then(replace(REDEEMED, at=late.at))


def test_released_use_is_counted_no_more() -> None:
    till = order(FIVE_EUROS).given(REDEEMED).when(release(1)).then(RELEASED)

    assert (till.coupons, till.uses) == ({"FIVE": FIVE_EUROS}, {("FIVE", 7): 0})


HISTORIES: dict[Status, tuple[Event, ...]] = {
    Status.REDEEMED: (REDEEMED,),
    Status.REFUSED: (refusal("FIVE", "coupon_used_up", "The coupon has been used up."),),
    Status.RELEASED: (REDEEMED, RELEASED),
}


@pytest.mark.parametrize("status", HISTORIES)
def test_placement_heard_of_before_does_nothing(status: Status) -> None:
    order(FIVE_EUROS).given(*HISTORIES[status]).when(redeem(1)).then()


@pytest.mark.parametrize("status", [Status.REFUSED, Status.RELEASED])
def test_release_of_what_is_not_redeemed_does_nothing(status: Status) -> None:
    order(FIVE_EUROS).given(*HISTORIES[status]).when(release(1)).then()


# --- A batch of orders ------------------------------------------------------------------------------------------------


def test_last_use_goes_to_the_first_order() -> None:
    limited = replace(FIVE_EUROS, total_limit=1)

    result = settle([redeem(1), redeem(2)], {}, {"FIVE": limited}, {})

    assert result.events == (REDEEMED, refusal("FIVE", "coupon_used_up", "The coupon has been used up."))
    assert result.coupons == {"FIVE": replace(limited, redeemed=1)}


def test_limit_per_customer_counts_only_that_customer_within_the_batch_too() -> None:
    limited = replace(FIVE_EUROS, per_customer_limit=2)

    result = settle([redeem(1), redeem(2), redeem(3, customer_id=8)], {}, {"FIVE": limited}, {("FIVE", 7): 1})

    assert [type(event) for event in result.events] == [CouponRedeemed, CouponRefused, CouponRedeemed]


def test_released_use_can_be_had_again() -> None:
    limited = replace(FIVE_EUROS, total_limit=1, per_customer_limit=1, redeemed=1)
    known = {1: Redemption(status=Status.REDEEMED, code="FIVE", customer_id=7, discount=500)}

    result = settle([release(1), redeem(2)], known, {"FIVE": limited}, {("FIVE", 7): 1})

    assert result.events == (RELEASED, REDEEMED)
    assert result.coupons == {"FIVE": limited}


def test_order_that_ended_before_it_was_heard_of_leaves_a_tombstone() -> None:
    result = settle([release(1), redeem(1)], {}, {"FIVE": FIVE_EUROS}, {})

    assert result.events == (None, None)
    assert result.redemptions == {1: Redemption(status=Status.VOID, customer_id=7)}
    assert result.coupons == {"FIVE": FIVE_EUROS}


def test_tombstone_is_neither_redeemed_nor_released() -> None:
    known = {1: Redemption(status=Status.VOID, customer_id=7)}

    result = settle([redeem(1), release(1)], known, {"FIVE": FIVE_EUROS}, {})

    assert (result.events, result.redemptions, result.coupons) == ((None, None), known, {"FIVE": FIVE_EUROS})


@given(
    commands=st.lists(
        st.one_of(
            st.builds(
                lambda order, customer: redeem(order, customer_id=customer), st.integers(1, 8), st.integers(1, 3)
            ),
            st.builds(release, st.integers(1, 8)),
        ),
        max_size=30,
    ),
    total=st.one_of(st.none(), st.integers(1, 4)),
    each=st.one_of(st.none(), st.integers(1, 2)),
)
def test_whatever_comes_no_limit_is_exceeded_and_every_use_has_its_order(
    commands: list[Command], total: int | None, each: int | None
) -> None:
    coupon = replace(FIVE_EUROS, total_limit=total, per_customer_limit=each)

    result = settle(commands, {}, {"FIVE": coupon}, {})

    standing = [r.customer_id for r in result.redemptions.values() if r.status is Status.REDEEMED]
    assert result.coupons["FIVE"].redeemed == len(standing)
    assert total is None or len(standing) <= total
    assert each is None or all(standing.count(customer) <= each for customer in standing)


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"code": "five"}, "a code has up to 40 capital letters"),
        ({"code": ""}, "a code has up to 40 capital letters"),
        ({"code": "X" * 41}, "a code has up to 40 capital letters"),
        ({"kind": Kind.PERCENTAGE, "value": 10_001}, "a percentage is 0.01 % to 100 %, got 100.01 %"),
        ({"value": 0}, "an amount off is 0.01 EUR to 10000000000.00 EUR, got 0.00 EUR"),
        ({"currency": "euro"}, "a currency is a code of three capital letters"),
        ({"minimum_spend": -1}, "a minimum spend is 0.."),
        ({"valid_from": NOW, "valid_until": NOW}, "before it begins"),
        ({"total_limit": 0}, "a limit is at least 1, got 0"),
        ({"per_customer_limit": -1}, "a limit is at least 1, got -1"),
    ],
)
def test_coupon_that_makes_no_sense_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidCoupon, match=message):
        check_terms(replace(FIVE_EUROS, **wrong))
