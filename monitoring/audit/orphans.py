"""Whether everything that is bound to an order has one: a restored shard has forgotten what others reacted to."""

from __future__ import annotations

from monitoring.audit.report import NOTHING, Finding, Scope, case_check
from monitoring.audit.rows import Case
from orders.events import CATEGORY as ORDER
from sharding import numbers


@case_check(
    title="Stock, coupons, payments and messages are bound to orders that exist.",
    counts="orders",
    hint="The shard was restored to an earlier moment (`manage.py restored`). Give back what is bound: release the "
    "stock, return the coupon, refund the payment, tell the customer.",
)
def everything_has_its_order(case: Case, scope: Scope) -> Finding:
    known = {
        "stock": case.reservation,
        "a coupon": case.redemption,
        "payments": case.account,
        "messages": case.messages,
    }
    bound = [what for what, rows in known.items() if rows]
    if not bound:
        return NOTHING
    return 1, [] if (ORDER, 1) in case.hashes else [f"{', '.join(bound)} of order {numbers.to_text(case.id)}"]


CHECKS = (everything_has_its_order,)
