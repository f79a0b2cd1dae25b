"""Was anything lost, doubled or oversold? Compares what customers were promised with what the databases hold.

The judgement stands on two legs that know nothing of each other: the promises (ledger.py) against the tables of orders,
stock, coupons and money, and the audit of the shop itself.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lab.faults.lab import Lab
from lab.faults.ledger import Ledger
from sharding import numbers

NAMED = 5  # offenders that a finding names

# The audit's checks that tell of something that happened twice, or of more than there was. A violation of any other
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The money of an order, in minor units."""

    captured: int
    refunded: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the databases hold of the ledger's customers and products."""

    orders: Mapping[int, str]  # id → status
    accounts: Mapping[int, Account]
    stock: Mapping[str, tuple[int, int, int]]  # sku → on hand, reserved, available
    messages: Mapping[tuple[int, str], int]  # order id, what it is about → how many in the customer's inbox
    coupons: Mapping[str, tuple[int, int | None]]  # code → redeemed, limit
    dead_letters: Sequence[str] = ()


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

    def find(self, kind: str, what: str, offenders: Sequence[str], number: int | None = None) -> None:
        """Count offenders (or `number`) as lost, doubled or oversold."""
        count = len(offenders) if number is None else number
        if count:
            setattr(self, kind, getattr(self, kind) + count)
            more = " …" if len(offenders) > NAMED else ""
            self.findings.append(f"{kind}: {what}: {count} ({', '.join(offenders[:NAMED])}{more})")


def collect(lab: Lab, ledger: Ledger) -> Facts:
    """Ask the databases."""
    customers = list(ledger.customers)
    orders: dict[int, str] = {}
    for alias in lab.databases:
        if alias != "default":
            with lab.connect(alias) as shard:
                rows = shard.execute("SELECT id, status FROM orders_order WHERE customer_id = ANY(%s)", [customers])
                orders |= dict(rows.fetchall())
    with lab.connect() as default:
        accounts = default.execute(
            "SELECT order_id, captured_total, refunded_total FROM payments_account WHERE customer_id = ANY(%s)",
            [customers],
        ).fetchall()
        stock = default.execute(
            "SELECT sku, on_hand, reserved, available FROM inventory_stock WHERE sku = ANY(%s)", [list(ledger.stock)]
        ).fetchall()
        messages = default.execute(
            "SELECT order_id, about, count(*) FROM notifications_message"
            " WHERE channel = 'inbox' AND order_id IS NOT NULL AND customer_id = ANY(%s) GROUP BY order_id, about",
            [customers],
        ).fetchall()
        coupons = default.execute("SELECT code, redeemed, total_limit FROM coupons_coupon").fetchall()
        dead = default.execute(
            "SELECT subscriber, type, error, message FROM eventing_dead_letter WHERE status = 'open'"
        ).fetchall()
    return Facts(
        orders=orders,
        accounts={order_id: Account(captured=captured, refunded=refunded) for order_id, captured, refunded in accounts},
        stock={sku: (on_hand, reserved, available) for sku, on_hand, reserved, available in stock},
        messages={(order_id, about): count for order_id, about, count in messages},
        coupons={code: (redeemed, limit) for code, redeemed, limit in coupons},
        dead_letters=[
            f"{subscriber} {event_type}: {error}: {message}" for subscriber, event_type, error, message in dead
        ],
    )


def judge(ledger: Ledger, facts: Facts, audit: Mapping[str, Any]) -> Verdict:
    """Compare promises and facts, and count the audit's violations."""
    verdict = Verdict()
    _judge_orders(ledger, facts, verdict)
    _judge_stock(ledger, facts, verdict)
    _judge_money(ledger, facts, verdict)
    messages = [
        f"{numbers.to_text(order)} {about} x{count}" for (order, about), count in facts.messages.items() if count > 1
    ]
    verdict.find("doubled", "messages to customers", messages)
    over = [
        f"{code} {redeemed} of {limit}"
        for code, (redeemed, limit) in facts.coupons.items()
        if redeemed > (limit or redeemed)
    ]
    verdict.find("oversold", "coupons redeemed beyond their limit", over)
    verdict.find("lost", "deliveries that ended as dead letters", list(facts.dead_letters))
    for check in audit["checks"]:
        kind = "doubled" if check["name"] in DOUBLED else "oversold" if check["name"] in OVERSOLD else "lost"
        verdict.find(kind, f"audit {check['name']}", [str(item) for item in check["offenders"]], check["violations"])
    verdict.find("lost", "databases that the audit could not ask", [str(alias) for alias in audit["unavailable"]])
    if not audit["clean"] and verdict.clean:
        verdict.find("lost", "the audit is not clean and does not say why", [], 1)
    return verdict


def _judge_orders(ledger: Ledger, facts: Facts, verdict: Verdict) -> None:
    promised = {promise.order_id for promise in ledger.promises}
    wrong: dict[str, list[str]] = defaultdict(list)
    for promise in ledger.promises:
        status = facts.orders.get(promise.order_id, "missing")
        states = promise.right_states()
        if status not in states:
            wrong[f"orders that are {status} instead of {' or '.join(sorted(states))}"].append(
                numbers.to_text(promise.order_id)
            )
    for what, offenders in sorted(wrong.items()):
        verdict.find("lost", what, offenders)
    surplus = sorted(set(facts.orders) - promised)
    # A request that was never answered may have made an order; any more were made twice.
    if len(surplus) > ledger.unanswered:
        number = len(surplus) - ledger.unanswered
        verdict.find("doubled", "orders that nobody was told of", [numbers.to_text(order) for order in surplus], number)


def _judge_stock(ledger: Ledger, facts: Facts, verdict: Verdict) -> None:
    """What is reserved must be what the living orders hold, piece by piece."""
    if len(facts.orders) > len({promise.order_id for promise in ledger.promises}):
        return  # nobody knows what the unanswered requests have ordered; the audit does
    held: Counter[str] = Counter()
    for promise in ledger.promises:
        if facts.orders.get(promise.order_id) in LIVE:
            held.update(promise.items)
    for sku, received in ledger.stock.items():
        on_hand, reserved, available = facts.stock.get(sku, (0, 0, 0))
        levels = [f"{sku}: on hand {on_hand}, reserved {reserved}, available {available}, held by orders {held[sku]}"]
        verdict.find("lost", "pieces that are not set aside for their orders", levels, max(0, held[sku] - reserved))
        verdict.find("doubled", "pieces that are set aside for no order", levels, max(0, reserved - held[sku]))
        verdict.find("lost", "pieces that are not on hand", levels, abs(received - on_hand))
        verdict.find("oversold", "pieces that are not there", levels, max(0, held[sku] - received, -available))


def _judge_money(ledger: Ledger, facts: Facts, verdict: Verdict) -> None:
    none = Account(captured=0, refunded=0)
    unpaid, kept, twice = [], [], []
    for promise in ledger.promises:
        account = facts.accounts.get(promise.order_id, none)
        number = numbers.to_text(promise.order_id)
        status = facts.orders.get(promise.order_id)
        if account.captured > promise.total or account.refunded > account.captured:
            twice.append(number)
        elif status == "paid" and account.captured - account.refunded < promise.total:
            unpaid.append(number)
        elif status in ("cancelled", "rejected") and account.captured > account.refunded:
            kept.append(number)
    verdict.find("lost", "paid orders without their money", unpaid)
    verdict.find("lost", "refunds of orders that came to nothing", kept)
    verdict.find("doubled", "captures or refunds", twice)
