"""What a coupon is worth and who may still use it: pure functions, no Django, no clock, no I/O."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import assert_never

from coupons.commands import Command, RedeemCoupon, ReleaseCoupon
from coupons.events import CouponRedeemed, CouponRefused, CouponReleased
from values.errors import RuleError

WHOLE = 10_000  # basis points
MAX_AMOUNT = 10**12  # minor units
# ISO 4217 gives most currencies two decimals.
OTHER_DECIMALS = {"CLP": 0, "ISK": 0, "JPY": 0, "KRW": 0, "VND": 0, "BHD": 3, "JOD": 3, "KWD": 3, "OMR": 3, "TND": 3}

CODE = re.compile(r"[A-Z0-9][A-Z0-9-]{0,39}")
CURRENCY = re.compile(r"[A-Z]{3}")

Event = CouponRedeemed | CouponRefused | CouponReleased


class CouponError(RuleError):
    """The coupon cannot be used like this."""


class UnknownCoupon(CouponError):
    """There is no such coupon."""


class CouponNotYetValid(CouponError):
    """The coupon is not valid yet."""


class CouponExpired(CouponError):
    """The coupon has expired."""


class CouponUsedUp(CouponError):
    """The coupon has been used up."""


class CouponAlreadyUsed(CouponError):
    """The coupon may not be used again by the same customer."""


class SpendTooLow(CouponError):
    """The order is too small for this coupon."""


class CouponCurrencyMismatch(CouponError):
    """The coupon is for another currency."""


class CouponChanged(CouponError):
    """The coupon is not worth what it was when the order was placed."""


class InvalidCoupon(CouponError):
    """The coupon cannot be described like this."""


class DuplicateCoupon(CouponError):
    """There is a coupon with this code already."""


class Kind(StrEnum):
    PERCENTAGE = "percentage"
    FIXED = "fixed"


class Status(StrEnum):
    """Of a redemption. `void` is a tombstone: the order ended before its placement was heard of."""

    REDEEMED = "redeemed"
    REFUSED = "refused"
    RELEASED = "released"
    VOID = "void"


@dataclass(frozen=True, slots=True, kw_only=True)
class Coupon:
    """The terms of a coupon and how often it is in use.

    `value` is in basis points of the subtotal for a percentage, else in minor units of `currency`, as is
    `minimum_spend`. Valid from `valid_from` up to but not including `valid_until`; None is no limit.
    """

    code: str
    kind: Kind
    value: int
    currency: str
    minimum_spend: int = 0
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    total_limit: int | None = None
    per_customer_limit: int | None = None
    active: bool = True
    redeemed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Redemption:
    """What is known of an order here. `Redemption()` is an order not heard of; its status is None."""

    status: Status | None = None
    code: str | None = None
    customer_id: int = 0
    discount: int = 0


Uses = Mapping[tuple[str, int], int]  # how often each (code, customer) has the coupon in use


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What a batch comes to. `events` has one entry for each command, None where nothing happens."""

    events: tuple[Event | None, ...]
    redemptions: dict[int, Redemption]
    coupons: dict[str, Coupon]


def normalise(code: str) -> str:
    """The code as it is stored: people may type it in any case, with spaces around it."""
    text = code.strip()
    return text.upper() if text.isascii() else text  # upper() turns some foreign letters into ASCII ones


def discount_of(coupon: Coupon, subtotal: int) -> int:
    """What the coupon takes off, in minor units: never more than the subtotal.

    A percentage is rounded to the nearest minor unit, half a unit up, in the customer's favour.
    """
    match coupon.kind:
        case Kind.FIXED:
            return min(coupon.value, subtotal)
        case Kind.PERCENTAGE:
            return min((subtotal * coupon.value + WHOLE // 2) // WHOLE, subtotal)
        case _:
            assert_never(coupon.kind)


def quote(coupon: Coupon | None, *, uses_by_customer: int, subtotal: int, currency: str, at: datetime) -> int:
    """The discount in minor units, if the coupon may be used now.

    Raises UnknownCoupon, CouponNotYetValid, CouponExpired, CouponCurrencyMismatch, SpendTooLow, CouponUsedUp,
    CouponAlreadyUsed.
    """
    if coupon is None or not coupon.active:
        raise UnknownCoupon
    if coupon.valid_from is not None and at < coupon.valid_from:
        raise CouponNotYetValid(f"it is from {coupon.valid_from:%Y-%m-%d %H:%M %Z}")
    if coupon.valid_until is not None and at >= coupon.valid_until:
        raise CouponExpired(f"it was valid until {coupon.valid_until:%Y-%m-%d %H:%M %Z}")
    if currency != coupon.currency:
        raise CouponCurrencyMismatch(f"it is in {coupon.currency}, the order in {currency}")
    if subtotal < coupon.minimum_spend:
        raise SpendTooLow(
            f"it takes {_amount(coupon.minimum_spend, currency)}, the order has {_amount(subtotal, currency)}"
        )
    if coupon.total_limit is not None and coupon.redeemed >= coupon.total_limit:
        raise CouponUsedUp
    if coupon.per_customer_limit is not None and uses_by_customer >= coupon.per_customer_limit:
        raise CouponAlreadyUsed(f"{uses_by_customer} of {coupon.per_customer_limit} times")
    return discount_of(coupon, subtotal)


def settle(
    commands: Sequence[Command], redemptions: Mapping[int, Redemption], coupons: Mapping[str, Coupon], uses: Uses
) -> Settlement:
    """Serve the commands in their order, each after those before it.

    `redemptions`, `coupons` (by code) and `uses` are what stands in the database; what they do not name is unknown.
    """
    known = dict(redemptions)
    terms = dict(coupons)
    in_use = dict(uses)
    events: list[Event | None] = []
    for command in commands:
        redemption = known.get(command.order_id, Redemption())
        event = decide(redemption, command, terms, in_use)
        if event is not None:
            redemption = evolve(redemption, event)
            if difference := uses_by(event):
                use = event.code, event.customer_id
                in_use[use] = in_use.get(use, 0) + difference
                terms[event.code] = replace(terms[event.code], redeemed=terms[event.code].redeemed + difference)
        elif redemption.status is None:
            redemption = Redemption(status=Status.VOID, customer_id=command.customer_id)
        known[command.order_id] = redemption
        events.append(event)
    return Settlement(events=tuple(events), redemptions=known, coupons=terms)


def decide(redemption: Redemption, command: Command, coupons: Mapping[str, Coupon], uses: Uses) -> Event | None:
    """The event that the command causes; None if it is repeated or too late."""
    match command:
        case RedeemCoupon():
            if redemption.status is not None:
                return None
            code = normalise(command.code)
            try:
                discount = quote(
                    coupons.get(code),
                    uses_by_customer=uses.get((code, command.customer_id), 0),
                    subtotal=command.subtotal,
                    currency=command.currency,
                    at=command.placed_at,
                )
                if discount != command.discount:
                    raise CouponChanged(
                        f"{_amount(discount, command.currency)} instead of"
                        f" {_amount(command.discount, command.currency)}"
                    )
            except CouponError as error:
                return CouponRefused(
                    code=code,
                    customer_id=command.customer_id,
                    reason=error.code,
                    detail=str(error),
                    at=command.at,
                )
            return CouponRedeemed(code=code, customer_id=command.customer_id, discount=discount, at=command.at)
        case ReleaseCoupon():
            if redemption.status is not Status.REDEEMED or redemption.code is None:
                return None
            return CouponReleased(code=redemption.code, customer_id=redemption.customer_id, at=command.at)
        case _:
            assert_never(command)


def evolve(redemption: Redemption, event: Event) -> Redemption:
    """Apply one event. Accepts every event ever stored."""
    match event:
        case CouponRedeemed():
            return Redemption(
                status=Status.REDEEMED, code=event.code, customer_id=event.customer_id, discount=event.discount
            )
        case CouponRefused():
            return Redemption(status=Status.REFUSED, code=event.code, customer_id=event.customer_id)
        case CouponReleased():
            return replace(redemption, status=Status.RELEASED)
        case _:
            assert_never(event)


def uses_by(event: Event) -> int:
    """How many more uses of its coupon there are after the event."""
    match event:
        case CouponRedeemed():
            return 1
        case CouponReleased():
            return -1
        case CouponRefused():
            return 0
        case _:
            assert_never(event)


def check_terms(coupon: Coupon) -> None:
    """Raises InvalidCoupon, naming what the terms may be."""
    if CODE.fullmatch(coupon.code) is None:
        raise InvalidCoupon(f"a code has up to 40 capital letters, digits and dashes, got {coupon.code!r}")
    if CURRENCY.fullmatch(coupon.currency) is None:
        raise InvalidCoupon(f"a currency is a code of three capital letters, got {coupon.currency!r}")
    if coupon.kind is Kind.PERCENTAGE and not 1 <= coupon.value <= WHOLE:
        raise InvalidCoupon(f"a percentage is 0.01 % to 100 %, got {coupon.value / 100:g} %")
    for name, lowest, amount in (("an amount off", 1, coupon.value), ("a minimum spend", 0, coupon.minimum_spend)):
        if not lowest <= amount <= MAX_AMOUNT:
            limits = f"{_amount(lowest, coupon.currency)} to {_amount(MAX_AMOUNT, coupon.currency)}"
            raise InvalidCoupon(f"{name} is {limits}, got {_amount(amount, coupon.currency)}")
    if coupon.valid_from and coupon.valid_until and coupon.valid_from >= coupon.valid_until:
        raise InvalidCoupon(f"it would end at {coupon.valid_until}, before it begins at {coupon.valid_from}")
    for limit in (coupon.total_limit, coupon.per_customer_limit):
        if limit is not None and limit < 1:
            raise InvalidCoupon(f"a limit is at least 1, got {limit}")


def _amount(minor_units: int, currency: str) -> str:
    """`12.34 EUR`"""
    decimals = OTHER_DECIMALS.get(currency, 2)
    digits = f"{minor_units:0{decimals + 1}}"
    whole, fraction = digits[: len(digits) - decimals], digits[len(digits) - decimals :]
    return f"{whole}.{fraction} {currency}" if fraction else f"{whole} {currency}"
