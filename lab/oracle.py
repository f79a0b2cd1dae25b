"""Was anything lost, doubled or oversold? Compares what customers were promised with what the databases hold.

The judgement stands on two legs that know nothing of each other: the promises and the tables of orders, stock, coupons
and money on one side, the audit of the shop itself on the other. Pure; `lab.programs.questions` collects the facts.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lab.figures import Figure, none, some
from sharding import numbers

# The audit's checks of something that happened twice, or of more than there was. A violation of any other
# check counts as lost.
DOUBLED = frozenset(
    {
        "charges_have_payments",
        "coupon_once_per_order",
        "handled_was_committed",
        "keys_have_one_order",
        "messages_once",
        "one_effect_per_event",
        "orders_in_one_bucket",
    }
)
OVERSOLD = frozenset({"coupons_within_limits", "stock_adds_up"})

LIVE = frozenset({"placed", "confirmed", "paid"})
DECIDED = frozenset({"confirmed", "rejected", "paid", "cancelled"})


# --- What customers were promised ------------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class Promise:
    """An order that was accepted with a 2xx. Without `items` nobody wrote down what was ordered.

    `may_be_rejected`: there may not be enough stock or coupons for it. `may_expire`: its deadline comes soon, so the
    clock cancels it unless it was paid. `pay_asked` without `pay_accepted` means that the request got no answer, and so
    may have had its effect; the same for cancelling. `only_decided`: nobody knows what else was asked of it.
    """

    order_id: int
    customer_id: int = 0
    items: Mapping[str, int] | None = None
    coupon: str | None = None
    total: int = 0
    may_be_rejected: bool = False
    may_expire: bool = False
    pay_asked: bool = False
    pay_accepted: bool = False
    cancel_asked: bool = False
    cancel_accepted: bool = False
    only_decided: bool = False

    def right_states(self) -> set[str]:
        """The states that the order may be in when everything is quiet."""
        if self.only_decided:
            return set(DECIDED)
        if self.cancel_accepted:
            return {"cancelled"}
        states = {"paid"} if self.pay_accepted else {"confirmed"}
        if self.pay_asked:
            states.add("paid")
        if self.cancel_asked or (self.may_expire and not self.pay_accepted):
            states.add("cancelled")
        if self.may_be_rejected:
            states.add("rejected")
        return states


@dataclass(slots=True)
class Ledger:
    """All promises of a run, to be shared by threads. `unanswered` requests may have made an order, or not."""

    promises: list[Promise] = field(default_factory=list)
    customers: set[int] = field(default_factory=set)
    stock: dict[str, int] = field(default_factory=dict)  # sku → pieces that came in
    unanswered: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def accept(self, promise: Promise) -> None:
        with self._lock:
            self.promises.append(promise)

    def give_up(self) -> None:
        with self._lock:
            self.unanswered += 1

    def __len__(self) -> int:
        return len(self.promises)


# --- What is there ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What the databases hold of an order; amounts in minor units. `endings` are its final events, in their order."""

    status: str
    total: int = 0
    items: Mapping[str, int] = field(default_factory=dict)
    coupon: str | None = None
    endings: Sequence[str] = ()
    captured: int = 0
    refunded: int = 0

    def money_agrees(self) -> bool:
        """Money is kept for orders that are paid and for no others."""
        return self.captured - self.refunded == (self.total if self.status == "paid" else 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the databases hold of the ledger's customers and products, and what the audit says."""

    orders: Mapping[int, Order]
    stock: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)  # sku → on hand, reserved, available
    messages: Mapping[tuple[int, str], int] = field(default_factory=dict)  # order, about → in the customer's inbox
    coupons: Mapping[str, tuple[int, int | None]] = field(default_factory=dict)  # code → redeemed, limit
    dead_letters: Sequence[str] = ()
    audit: Mapping[str, Any]

    def held(self) -> Counter[str]:
        """The pieces that living orders hold, by product."""
        pieces: Counter[str] = Counter()
        for order in self.orders.values():
            if order.status in LIVE:
                pieces.update(order.items)
        return pieces


# --- The verdict -----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Verdict:
    """Numbers of offences, and a line about each kind of them."""

    lost: int = 0
    doubled: int = 0
    oversold: int = 0
    findings: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not (self.lost or self.doubled or self.oversold)

    def find(self, kind: str, what: str, offenders: Sequence[object], number: int | None = None) -> None:
        """Count offenders (or `number`) as lost, doubled or oversold."""
        count = len(offenders) if number is None else number
        if count:
            setattr(self, kind, getattr(self, kind) + count)
            self.findings.append(f"{kind}: {what}: {count} ({some(offenders)})")

    def figures(self) -> list[Figure]:
        return [
            none(kind, [f for f in self.findings if f.startswith(f"{kind}:")], getattr(self, kind))
            for kind in ("lost", "doubled", "oversold")
        ]


def judge(ledger: Ledger, facts: Facts) -> Verdict:
    """Compare promises and facts, and count the audit's violations."""
    verdict = Verdict()
    _judge_orders(ledger, facts, verdict)
    _judge_stock(ledger, facts, verdict)
    messages = [f"{numbers.to_text(order)} {about} x{n}" for (order, about), n in facts.messages.items() if n > 1]
    verdict.find("doubled", "messages to customers", messages)
    coupons = facts.coupons.items()
    over = [f"{code} {used} of {limit}" for code, (used, limit) in coupons if limit is not None and used > limit]
    verdict.find("oversold", "coupons redeemed beyond their limit", over)
    verdict.find("lost", "deliveries that ended as dead letters", facts.dead_letters)
    for check in facts.audit["checks"]:
        kind = "doubled" if check["name"] in DOUBLED else "oversold" if check["name"] in OVERSOLD else "lost"
        verdict.find(kind, f"audit {check['name']}", check["offenders"], check["violations"])
    verdict.find("lost", "databases that the audit could not ask", facts.audit["unavailable"])
    if not facts.audit["clean"] and verdict.clean:
        verdict.find("lost", "the audit is not clean and does not say why", [], 1)
    return verdict


def _judge_orders(ledger: Ledger, facts: Facts, verdict: Verdict) -> None:
    offenders: dict[tuple[str, str], list[int]] = defaultdict(list)
    suspects: set[int] = set()
    promised = {promise.order_id: promise for promise in ledger.promises}
    for order_id, promise in promised.items():
        order = facts.orders.get(order_id)
        status = order.status if order is not None else "missing"
        if status not in (states := promise.right_states()):
            suspects.add(order_id)
            offenders["lost", f"orders that are {status} instead of {' or '.join(sorted(states))}"].append(order_id)
        elif order is not None and promise.items is not None and dict(order.items) != dict(promise.items):
            offenders["lost", "orders whose lines are not what was ordered"].append(order_id)
    for order_id, order in facts.orders.items():
        if len(order.endings) > 1:
            offenders["doubled", "orders with more than one ending"].append(order_id)
        if order.captured > order.total or order.refunded > order.captured:
            offenders["doubled", "captures or refunds"].append(order_id)
        elif order_id not in suspects and not order.money_agrees():
            is_paid = order.status == "paid"
            what = "paid orders without their money" if is_paid else "refunds of orders that are not paid"
            offenders["lost", what].append(order_id)
    for (kind, what), order_ids in offenders.items():
        verdict.find(kind, what, _texts(order_ids))
    surplus = sorted(set(facts.orders) - set(promised))
    # A request that was never answered may have made an order; any more were made twice.
    number = max(0, len(surplus) - ledger.unanswered)
    verdict.find("doubled", "orders that nobody was told of", _texts(surplus), number)


def _judge_stock(ledger: Ledger, facts: Facts, verdict: Verdict) -> None:
    """What is reserved must be what the living orders hold, piece by piece."""
    held = facts.held()
    for sku, received in ledger.stock.items():
        on_hand, reserved, available = facts.stock.get(sku, (0, 0, 0))
        levels = [f"{sku}: on hand {on_hand}, reserved {reserved}, available {available}, held by orders {held[sku]}"]
        verdict.find("lost", "pieces that are not set aside for their orders", levels, max(0, held[sku] - reserved))
        verdict.find("doubled", "pieces that are set aside for no order", levels, max(0, reserved - held[sku]))
        verdict.find("lost", "pieces that are not on hand", levels, abs(received - on_hand))
        verdict.find("oversold", "pieces that are not there", levels, max(0, held[sku] - received, -available))


def _texts(order_ids: Sequence[int]) -> list[str]:
    return [numbers.to_text(order_id) for order_id in order_ids]
