"""How punctually the clock cancels many orders that become due in the same moment, and whether all comes back.

It runs a shop of its own on the services: places the orders, lets inventory and coupons confirm them, waits for the
common deadline, and watches the sweep, the returning stock and coupons, and the audit.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from lab import command
from lab.figures import Figure, at_least, clean, figure, none, some
from lab.harness import say, wait_until
from lab.harness.system import NotQuiet, temporary_system
from lab.programs import questions, shop

SKU = "DUE"
COUPON = "REGULAR"  # one of the seed's, without a limit
PRICE = 2_000
DISCOUNT = 100
CUSTOMERS = 5_000
PLACED_PER_SECOND = 400  # about what two cores place, check and confirm; decides how far ahead the deadline is
CANCELLED_PER_SECOND = 50  # slower than this has failed
POLL_SECONDS = 0.5


def place(orders: int, due: datetime) -> int:
    """Place the orders, every second one with a coupon; all customers from the one that is returned on are theirs."""
    shop.products({SKU: orders}, PRICE)
    customers = [person.customer_id for person in shop.people(min(orders, CUSTOMERS))]
    ordering = (customers[number % len(customers)] for number in range(orders))
    shop.handle_all(shop.placements(ordering, [SKU], due, price=PRICE, coupon=COUPON, discount=DISCOUNT))
    return customers[0]


def until(moment: datetime) -> float:
    """In seconds; negative if it is over."""
    return (moment - datetime.now(UTC)).total_seconds()


def measure(orders: int, log_dir: Path) -> list[Figure]:
    with temporary_system("wharf_deadlines", log_dir, {"DEBUG": "1"}) as system:
        due = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=20 + orders / PLACED_PER_SECOND)
        patience = 60 + orders / CANCELLED_PER_SECOND
        too_late = due + timedelta(seconds=patience)
        before = system.call(questions.reserved_and_redeemed, SKU, COUPON)
        say(f"placing {orders} orders that are due at {due:%H:%M:%S} UTC …")
        first = system.call(place, orders, due)

        def count(status: str) -> int:
            return system.call(questions.counts_by_status, first).get(status, 0)

        wait_until(lambda: count("placed") == 0, until(due), every=POLL_SECONDS)
        confirmed = count("confirmed")
        say(f"{confirmed} of them are confirmed; waiting for the deadline …")
        wait_until(lambda: count("cancelled") == orders, until(too_late), every=POLL_SECONDS)
        cancelled = count("cancelled")
        say(f"{cancelled} are cancelled; waiting for stock and coupons …")

        def is_back() -> bool:
            return system.call(questions.reserved_and_redeemed, SKU, COUPON) == before

        wait_until(is_back, until(too_late), every=POLL_SECONDS)
        returned_after = patience - until(too_late)
        say("they are back; waiting until every event was handled …")
        left = ""
        try:
            system.wait_until_quiet(max(1.0, until(too_late)))
        except NotQuiet as error:
            left = str(error)
        quiet_after = -until(due)
        moments = system.call(questions.cancellation_moments, first)
        late = [(at - due).total_seconds() for at in moments] or [0.0]
        reserved, redeemed = system.call(questions.reserved_and_redeemed, SKU, COUPON)
        audit = system.call(questions.audit)
    violated = [check["name"] for check in audit["checks"] if check["violations"]] + audit["unavailable"]
    return [
        figure("orders due together", orders),
        figure("  confirmed by then", confirmed),
        figure("cancelled", cancelled, asked=at_least(orders)),
        figure("lateness, half of them", late[len(late) // 2], "s"),
        figure("lateness, the last one", late[-1], "s"),
        figure("all stock and coupons back after", returned_after, "s"),
        figure("every event handled after", quiet_after, "s", note=left),
        none("pieces still reserved", [], reserved - before[0]),
        none("coupons still redeemed", [], redeemed - before[1]),
        clean(audit, some(violated)),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = command.parser("deadlines", __doc__)
    orders = "orders that become due together (default: %(default)s)"
    parser.add_argument("--orders", type=command.number(int, 1), default=10_000, help=orders)
    options = parser.parse_args(arguments)
    return command.report(partial(measure, options.orders), options.json)
