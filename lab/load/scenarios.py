"""The scenarios: who comes, how many of them, for how long, and what is promised to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lab.load import promises
from lab.load.promises import Observed
from lab.sharded import Line

FLASH_BUYERS = 5_000
FLASH_PIECES = 100
COUPON_LIMIT = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """`customers` are classes of users.py and monday.py; `users`, `rate` (users that start a second) and `minutes` are
    defaults. `judge` says whether the scenario's own promises were kept, beyond those that hold for all.

    A `burst` is over when all have been answered, so it has no rate and takes as long as it takes.
    """

    name: str
    summary: str
    customers: Sequence[str]
    users: int
    judge: Callable[[Observed], list[Line]]
    rate: float = 10.0
    minutes: float = 1.0
    burst: bool = False


SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            name="browsing",
            summary="shoppers look at shelves, products and pictures; only 200 and 304 are answered",
            customers=["Shopper"],
            users=50,
            judge=promises.browsing,
        ),
        Scenario(
            name="steady-orders",
            summary="every user places an order each second; each of them is decided",
            customers=["Regular"],
            users=20,
            judge=promises.steady_orders,
        ),
        Scenario(
            name="flash-sale",
            summary=f"many buyers ({FLASH_BUYERS:,}) order one of {FLASH_PIECES} pieces within one second",
            customers=["Buyers"],
            users=FLASH_BUYERS,
            judge=promises.flash_sale,
            burst=True,
        ),
        Scenario(
            name="coupon-rush",
            summary=f"everybody wants a coupon that may be used {COUPON_LIMIT} times",
            customers=["CouponHunter"],
            users=60,
            rate=60.0,
            minutes=0.5,
            judge=promises.coupon_rush,
        ),
        Scenario(
            name="pay-cancel-race",
            summary="orders are paid and cancelled in the same moment; each has one ending, and the money agrees",
            customers=["Waverer"],
            users=20,
            judge=promises.pay_cancel_race,
        ),
        Scenario(
            name="api-clients",
            summary="programs sign in, read, order, follow, pay, and repeat requests with the same key",
            customers=["Program"],
            users=20,
            rate=2.0,
            judge=promises.api_clients,
        ),
        Scenario(
            name="monday-morning",
            summary="shoppers, customers on the pages and programs together, with time to think",
            customers=["MondayShopper", "MondayCustomer", "MondayProgram"],
            users=60,
            rate=2.0,
            minutes=3.0,
            judge=promises.monday_morning,
        ),
    )
}
