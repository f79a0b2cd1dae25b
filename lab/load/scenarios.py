"""The scenarios: who comes, how many of them, for how long, and what is promised to them. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from lab.figures import Figure, at_least, at_most, none
from lab.load.recording import PLACE, Recording
from lab.oracle import Facts, Ledger, Order, Promise, Verdict, judge
from sharding import numbers

FLASH_BUYERS = 5_000
FLASH_PIECES = 100
COUPON_LIMIT = 50
ANSWER_SECONDS = 2.0  # within which every buyer of a flash sale is answered


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """Everything that is judged. `buyers` is how many people wanted one of the `pieces` in a burst.

    `drained` are the seconds until outboxes and queues were empty; `left` is what was still on its way when they were
    not in time. `ended` are processes that ended by themselves. With a fault, requests may fail.
    """

    recording: Recording
    facts: Facts
    verdict: Verdict = field(default_factory=Verdict)
    drained: float = 0.0
    drain_limit: float = 600.0
    left: str = ""
    buyers: int = 0
    pieces: int = 0
    ended: Sequence[str] = ()
    fault: str = ""
    fault_findings: Sequence[str] = ()

    @property
    def orders(self) -> Sequence[Order]:
        return list(self.facts.orders.values())


def verdict_of(recording: Recording, facts: Facts, customers: set[int], stock: dict[str, int]) -> Verdict:
    """The oracle's: what was accepted must be there and decided. A request that failed may have made an order."""
    accepted = [
        Promise(order_id=numbers.parse(number), only_decided=True) for number in dict.fromkeys(recording.orders)
    ]
    in_flight = max((number for _, number in recording.users), default=0)
    unanswered = len(recording.failures) + in_flight
    ledger = Ledger(promises=accepted, customers=customers, stock=stock, unanswered=unanswered)
    return judge(ledger, facts)


def common(seen: Observed) -> list[Figure]:
    """What holds for every scenario."""
    failures = Counter(request.failure for request in seen.recording.failures)
    texts = [text for text, _ in failures.most_common()]
    failed = none("requests that failed", texts, failures.total())
    if seen.fault:  # who asks while something is broken may not be answered; the orders are judged all the same
        failed = Figure(name=failed.name, runs=failed.runs, note=failed.note)
    figures = [
        Figure(name="requests", runs=[len(seen.recording.requests)], asked=at_least(1)),
        failed,
        Figure(
            name="outboxes and queues empty after",
            runs=[seen.drain_limit + 1 if seen.left else seen.drained],
            unit="s",
            asked=at_most(seen.drain_limit),
            note=f"left: {seen.left}" if seen.left else "",
        ),
        none("processes that ended by themselves", seen.ended),
        Figure(name="orders accepted", runs=[len(set(seen.recording.orders))]),
        *seen.verdict.figures(),
        Figure(name="audit", runs=[float(seen.facts.audit["clean"])], unit="clean", asked=at_least(1)),
    ]
    if seen.fault:
        figures.append(none(f"what the fault {seen.fault} has broken", seen.fault_findings))
    return figures


def some_orders(seen: Observed) -> list[Figure]:
    return [Figure(name="orders in the databases", runs=[len(seen.orders)], asked=at_least(1))]


def nothing_more(seen: Observed) -> list[Figure]:
    return []


def all_confirmed(seen: Observed) -> list[Figure]:
    """Nobody runs out of stock in this scenario, so no order may be rejected."""
    rejected = [numbers.to_text(number) for number, one in seen.facts.orders.items() if one.status == "rejected"]
    return [*some_orders(seen), none("orders rejected with stock for all", rejected)]


def flash_sale(seen: Observed) -> list[Figure]:
    """Exactly the pieces there are become confirmed orders, and everybody is answered soon, if nothing is broken."""
    placements = [request for request in seen.recording.requests if request.name.startswith(PLACE)]
    sent = [request.sent_at for request in placements] or [0.0]
    longest = max((request.seconds for request in placements), default=0.0)
    expected = min(seen.pieces, seen.buyers)
    confirmed = sum(order.status == "confirmed" for order in seen.orders)
    answered = sum(not request.failure for request in placements)
    intact = not seen.fault
    return [
        Figure(name="buyers answered", runs=[answered], asked=at_least(seen.buyers) if intact else None),
        Figure(name="  their orders were sent within", runs=[max(sent) - min(sent)], unit="s"),
        Figure(name="  longest answer", runs=[longest], unit="s", asked=at_most(ANSWER_SECONDS) if intact else None),
        Figure(name="orders confirmed", runs=[confirmed], asked=at_least(expected)),
        none("orders confirmed beyond the pieces there are", [], max(0, confirmed - seen.pieces)),
    ]


def coupon_rush(seen: Observed) -> list[Figure]:
    figures = some_orders(seen)
    for code, (redeemed, limit) in seen.facts.coupons.items():
        living = sum(one.coupon == code and one.status in ("confirmed", "paid") for one in seen.orders)
        figures.append(Figure(name="redemptions of the coupon", runs=[redeemed], asked=at_most(limit or 0)))
        figures.append(none("redemptions without an order that keeps it", [], abs(living - redeemed)))
    return figures


def pay_cancel_race(seen: Observed) -> list[Figure]:
    """Each order is paid or cancelled and never both: the verdict has said that; this is how they ended."""
    ways = Counter(order.status for order in seen.orders)
    ended = [Figure(name=f"  orders {status}", runs=[number]) for status, number in ways.most_common()]
    return [*some_orders(seen), *ended]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """`customers` are classes of users.py; `users`, `rate` (users that start a second) and `minutes` are defaults.
    `judge` says whether the scenario's own promises were kept, beyond those that hold for all.

    A `burst` is over when all have been answered, so it has no rate and takes as long as it takes.
    """

    name: str
    summary: str
    customers: Sequence[str]
    users: int
    judge: Callable[[Observed], list[Figure]] = some_orders
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
            judge=nothing_more,
        ),
        Scenario(
            name="steady-orders",
            summary="every user places an order each second; each of them is decided",
            customers=["Regular"],
            users=20,
            judge=all_confirmed,
        ),
        Scenario(
            name="flash-sale",
            summary=f"many buyers ({FLASH_BUYERS:,}) order one of {FLASH_PIECES} pieces within one second",
            customers=["Buyers"],
            users=FLASH_BUYERS,
            judge=flash_sale,
            burst=True,
        ),
        Scenario(
            name="coupon-rush",
            summary=f"everybody wants a coupon that may be used {COUPON_LIMIT} times",
            customers=["CouponHunter"],
            users=60,
            rate=60.0,
            minutes=0.5,
            judge=coupon_rush,
        ),
        Scenario(
            name="pay-cancel-race",
            summary="orders are paid and cancelled in the same moment; each has one ending, and the money agrees",
            customers=["Waverer"],
            users=20,
            judge=pay_cancel_race,
        ),
        Scenario(
            name="api-clients",
            summary="programs sign in, read, order, follow, pay, and repeat requests with the same key",
            customers=["Program"],
            users=20,
            rate=2.0,
        ),
        Scenario(
            name="mixed-workload",
            summary="shoppers, customers on the pages and programs together, with time to think",
            customers=["ThinkingShopper", "PageCustomer", "ThinkingProgram"],
            users=60,
            rate=2.0,
            minutes=3.0,
        ),
    )
}
