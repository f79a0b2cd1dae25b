"""Whether the shop kept its promises: what was answered and what the databases hold, compared. Pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lab.load.recording import Recording
from lab.sharded import Line

ANSWER_SECONDS = 2.0  # within which every buyer of a flash sale is answered
NAMED = 5  # offenders that a line names
PLACE = "place an order"  # the name of these requests
LATER = "told to come back later (503)"  # added to the name of those that were
OVERLOADED = "overloaded"  # the code of that answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What the databases hold of an order; amounts in minor units. `endings` are its final events, in their order."""

    status: str
    total: int
    coupon: str | None = None
    endings: Sequence[str] = ()
    captured: int = 0
    refunded: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stock:
    """Pieces of a product; `held` by orders that are placed, confirmed or paid."""

    received: int
    on_hand: int
    reserved: int
    available: int
    held: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What `manage.py audit --json` has said; `violations` name check, number and offenders.

    A database that is `unavailable` makes it unclean, too: nobody knows what is in there.
    """

    clean: bool
    checks: int = 0
    violations: Sequence[str] = ()
    unavailable: Sequence[str] = ()

    @classmethod
    def read(cls, report: Mapping[str, Any]) -> Audit:
        violations = [
            f"{check['name']}: {check['violations']} ({_some([str(item) for item in check['offenders']])})"
            for check in report["checks"]
            if check["violations"]
        ]
        unavailable = report["unavailable"]
        violations += [f"{alias} could not be asked" for alias in unavailable]
        return cls(clean=report["clean"], checks=len(report["checks"]), violations=violations, unavailable=unavailable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """Everything that is judged. `buyers` is how many people there were in a burst.

    `drained` are the seconds until outboxes and queues were empty, None if they were not in time; `left` is what was
    still on its way then. `ended` are processes that ended by themselves. With a fault, requests may fail.
    """

    recording: Recording
    orders: Mapping[str, Order] = field(default_factory=dict)
    stock: Mapping[str, Stock] = field(default_factory=dict)
    coupons: Mapping[str, tuple[int, int | None]] = field(default_factory=dict)  # code → redeemed, limit
    audit: Audit
    drained: float | None = 0.0
    drain_limit: float = 0.0
    left: str = ""
    dead_letters: int = 0
    buyers: int = 0
    rare: str = ""
    ended: Sequence[str] = ()
    fault: str = ""
    fault_findings: Sequence[str] = ()


def common(seen: Observed) -> list[Line]:
    """What holds for every scenario."""
    asked = f"within {seen.drain_limit:.0f} s"
    drained = f"after {seen.drained:.1f} s" if seen.drained is not None else f"left: {seen.left}"
    lines = [
        Line(what="audit", measured="clean" if seen.audit.clean else "NOT CLEAN", asked="clean", good=seen.audit.clean),
        Line(what="outboxes and queues empty", measured=drained, asked=asked, good=seen.drained is not None),
        _none("dead letters", seen.dead_letters),
        _none("processes that ended by themselves", len(seen.ended), seen.ended),
        _answered(seen),
    ]
    if seen.recording.orders or seen.orders:
        lines += _orders(seen)
    if seen.stock:
        oversold = {sku: stock for sku, stock in seen.stock.items() if not _adds_up(stock)}
        named = [f"{sku}: {stock}" for sku, stock in oversold.items()]
        lines.append(_none("products whose stock does not agree with their orders", len(named), named))
    if seen.fault:
        lines.append(_none(f"what the fault {seen.fault} has broken", len(seen.fault_findings), seen.fault_findings))
    return lines


def _answered(seen: Observed) -> Line:
    failures = Counter(request.failure for request in seen.recording.failures)
    line = _none("requests that failed", sum(failures.values()), [text for text, _ in failures.most_common()])
    if not seen.recording.requests:
        return Line(what="requests", measured="0", asked="some", good=False)
    # Who asks while something is broken may not be answered; the orders are judged all the same.
    return line if not seen.fault else Line(what=line.what, measured=line.measured)


def _orders(seen: Observed) -> list[Line]:
    accepted = list(dict.fromkeys(seen.recording.orders))
    missing = [number for number in accepted if number not in seen.orders]
    open_still = [number for number, order in seen.orders.items() if order.status == "placed"]
    return [
        Line(what="orders accepted", measured=f"{len(accepted):,}"),
        _none("accepted orders that are missing", len(missing), missing),
        _none("orders that are neither confirmed nor rejected", len(open_still), open_still),
    ]


def _adds_up(stock: Stock) -> bool:
    return (
        stock.available >= 0
        and stock.on_hand == stock.received == stock.reserved + stock.available
        and stock.reserved == stock.held
    )


# --- Of single scenarios ---------------------------------------------------------------------------------------------


def browsing(seen: Observed) -> list[Line]:
    others = [request.failure for request in seen.recording.failures]
    return [_none("answers other than 200 and 304", len(others), list(dict.fromkeys(others)))]


def steady_orders(seen: Observed) -> list[Line]:
    return [_confirmed(seen), _some_orders(seen)]


def flash_sale(seen: Observed) -> list[Line]:
    """Exactly the pieces there are become confirmed orders, and everybody is answered soon, if nothing is broken."""
    placements = [request for request in seen.recording.requests if request.name.startswith(PLACE)]
    sent = [request.sent_at for request in placements]
    longest = max((request.seconds for request in placements), default=0.0)
    stock = seen.stock.get(seen.rare)
    pieces = stock.received if stock else 0
    expected = min(pieces, seen.buyers)
    confirmed = sum(order.status == "confirmed" for order in seen.orders.values())
    oversold = max(0, stock.held - stock.received) if stock else 0
    answered = sum(not request.failure for request in placements)
    return [
        Line(
            what="buyers answered",
            measured=f"{answered:,}",
            asked=f"{seen.buyers:,}",
            good=None if seen.fault else answered == seen.buyers,
        ),
        Line(
            what="  their orders were sent within", measured=f"{max(sent) - min(sent):.2f} s" if sent else "never sent"
        ),
        Line(
            what="  longest answer",
            measured=f"{longest:.2f} s",
            asked=f"< {ANSWER_SECONDS:g} s",
            good=None if seen.fault else longest < ANSWER_SECONDS,
        ),
        Line(what="orders confirmed", measured=f"{confirmed:,}", asked=f"{expected:,}", good=confirmed == expected),
        _none("pieces sold that are not there", oversold),
    ]


def coupon_rush(seen: Observed) -> list[Line]:
    lines = [_some_orders(seen)]
    for code, (redeemed, limit) in seen.coupons.items():
        living = sum(o.coupon == code and o.status in ("confirmed", "paid") for o in seen.orders.values())
        good = limit is not None and redeemed <= limit
        lines.append(Line(what="redemptions of the coupon", measured=str(redeemed), asked=f"≤ {limit}", good=good))
        good = living == redeemed
        lines.append(Line(what="orders that keep it", measured=str(living), asked=str(redeemed), good=good))
    return lines


def pay_cancel_race(seen: Observed) -> list[Line]:
    """Each order is paid or cancelled and never both; money is kept for those that are paid and for no other."""
    several = [number for number, order in seen.orders.items() if len(order.endings) > 1]
    wrong = [number for number, order in seen.orders.items() if not money_agrees(order)]
    ways = Counter(order.status for order in seen.orders.values())
    return [
        _some_orders(seen),
        Line(what="how the orders ended", measured=", ".join(f"{n} {status}" for status, n in ways.most_common())),
        _none("orders with more than one ending", len(several), several),
        _none("orders whose money does not agree", len(wrong), wrong),
    ]


def money_agrees(order: Order) -> bool:
    return order.captured - order.refunded == (order.total if order.status == "paid" else 0)


def api_clients(seen: Observed) -> list[Line]:
    wrong = [number for number, order in seen.orders.items() if not money_agrees(order)]
    return [_some_orders(seen), _none("orders whose money does not agree", len(wrong), wrong)]


def monday_morning(seen: Observed) -> list[Line]:
    return api_clients(seen)


def _confirmed(seen: Observed) -> Line:
    """Nobody runs out of stock in this scenario, so no order may be rejected."""
    rejected = [number for number, order in seen.orders.items() if order.status == "rejected"]
    return _none("orders rejected with stock for all", len(rejected), rejected)


def _some_orders(seen: Observed) -> Line:
    number = len(seen.orders)
    return Line(what="orders in the databases", measured=f"{number:,}", asked="some", good=number > 0)


def _none(what: str, number: int, offenders: Sequence[str] = ()) -> Line:
    named = f" ({_some(offenders)})" if number and offenders else ""
    return Line(what=what, measured=f"{number:,}{named}", asked="0", good=number == 0)


def _some(offenders: Sequence[str]) -> str:
    return ", ".join(offenders[:NAMED]) + (" …" if len(offenders) > NAMED else "")
