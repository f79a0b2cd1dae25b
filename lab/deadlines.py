"""How punctually the clock cancels many orders that become due in the same moment, and whether all comes back.

    script/deadlines --orders 10000

It runs a shop of its own on the services: places the orders, lets inventory and coupons confirm them, waits for the
common deadline, and watches the sweep, the returning stock and coupons, and the audit.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import django
import psycopg

from lab.pending import pending
from lab.shell import Shell
from lab.stack import ROOT
from lab.temporary import temporary_stack

SKU = "DUE"
COUPON = "REGULAR"  # one of the seed's, without a limit
PRICE = 2_000
DISCOUNT = 100
FIRST_CUSTOMER = 1_000_000  # those before are the seed's
CUSTOMERS = 5_000
PLACED_PER_SECOND = 400  # about what two cores place, check and confirm; decides how far ahead the deadline is
CANCELLED_PER_SECOND = 50  # slower than this has failed
POLL_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """`late_*` are seconds from the deadline to the cancellation, `returned_after` to the last piece and coupon, and
    `quiet_after` until every event has had all its effects.
    """

    orders: int
    confirmed_in_time: int
    cancelled: int
    late_p50: float
    late_max: float
    returned_after: float
    quiet_after: float
    pieces_still_reserved: int
    coupons_still_redeemed: int
    audit_clean: bool
    audit: str

    @property
    def is_good(self) -> bool:
        return (
            self.cancelled == self.orders
            and not self.pieces_still_reserved
            and not self.coupons_still_redeemed
            and self.audit_clean
        )


def place(orders: int, due: datetime) -> None:
    """Place the orders in this process, every second one with a coupon."""
    from inventory import handlers as inventory
    from lab.bulk import handle_all, metadata
    from orders.commands import PlaceOrder
    from orders.events import Line
    from sharding import numbers

    now = datetime.now(UTC)
    inventory.add_category(slug="load", name="Load")
    inventory.add_product(sku=SKU, name="Due soon", category="load", price=PRICE, currency="EUR")
    inventory.receive_stock(SKU, orders, "load test", now, metadata("deadlines"))
    line = Line(sku=SKU, name="Due soon", quantity=1, unit_price=PRICE)

    def commands() -> Iterator[PlaceOrder]:
        for number in range(orders):
            customer_id = FIRST_CUSTOMER + number % CUSTOMERS
            with_coupon = number % 2 == 0
            yield PlaceOrder(
                # Each a moment of its own: orders of one bucket and millisecond may get the same number.
                order_id=numbers.new_order_id(customer_id, now - timedelta(milliseconds=number)),
                customer_id=customer_id,
                currency="EUR",
                lines=(line,),
                coupon_code=COUPON if with_coupon else None,
                discount=DISCOUNT if with_coupon else 0,
                payment_due_at=due,
                at=now,
            )

    handle_all(commands(), actor="deadlines")


class Shop:
    """Questions to the databases of a shop, asked without its code."""

    def __init__(self, url: str, shards: int) -> None:
        self._default = psycopg.connect(url, autocommit=True)
        self._shards = [psycopg.connect(f"{url}_orders_{number}", autocommit=True) for number in range(shards)]

    def _sum(self, query: str, *parameters: Any) -> int:
        rows = [shard.execute(query, parameters).fetchone() for shard in self._shards]
        return sum(row[0] for row in rows if row)

    def count(self, status: str) -> int:
        ours = "SELECT count(*) FROM orders_order WHERE status = %s AND customer_id >= %s"
        return self._sum(ours, status, FIRST_CUSTOMER)

    def lateness(self, due: datetime) -> list[float]:
        """Seconds from the deadline to each cancellation, in order."""
        ours = (
            "SELECT recorded_at FROM eventing_event WHERE category = 'order' AND type = 'order.cancelled'"
            " AND (data->>'customer_id')::bigint >= %s"
        )
        answers = [shard.execute(ours, [FIRST_CUSTOMER]).fetchall() for shard in self._shards]
        return sorted((at - due).total_seconds() for rows in answers for (at,) in rows)

    def reserved(self) -> int:
        row = self._default.execute("SELECT reserved FROM inventory_stock WHERE sku = %s", [SKU]).fetchone()
        return int(row[0]) if row else 0

    def redeemed(self) -> int:
        row = self._default.execute("SELECT redeemed FROM coupons_coupon WHERE code = %s", [COUPON]).fetchone()
        return int(row[0]) if row else 0


def wait_until(condition: Callable[[], bool], deadline: datetime) -> None:
    """Ask again and again until it is so, or too late."""
    while not condition() and datetime.now(UTC) < deadline:
        time.sleep(POLL_SECONDS)


def measure(orders: int, log_dir: Path) -> Report:
    with temporary_stack("wharf_deadlines", log_dir, {"DEBUG": "1"}) as stack:
        env = {**os.environ, **stack.env}
        due = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=20 + orders / PLACED_PER_SECOND)
        shop = Shop(env["DATABASE_URL"], int(env["ORDER_SHARDS"]))
        redeemed_before = shop.redeemed()
        say(f"placing {orders} orders that are due at {due:%H:%M:%S} UTC …")
        placing = ["-m", "lab.deadlines", "--orders", str(orders), "--place-until", due.isoformat()]
        subprocess.run([sys.executable, *placing], cwd=ROOT, env=env, check=True)
        wait_until(lambda: shop.count("placed") == 0, due)
        confirmed = shop.count("confirmed")
        say(f"{confirmed} of them are confirmed; waiting for the deadline …")
        too_late = due + timedelta(seconds=60 + orders / CANCELLED_PER_SECOND)
        wait_until(lambda: shop.count("cancelled") == orders, too_late)
        cancelled = shop.count("cancelled")
        say(f"{cancelled} are cancelled; waiting for stock and coupons …")
        wait_until(lambda: not shop.reserved() and shop.redeemed() == redeemed_before, too_late)
        returned_after = (datetime.now(UTC) - due).total_seconds()
        say("they are back; waiting until everybody has been told …")
        with closing(Shell(stack.env)) as shell:
            wait_until(lambda: not any(pending(shell).values()), too_late)
        quiet_after = (datetime.now(UTC) - due).total_seconds()
        late = shop.lateness(due)
        audit = subprocess.run(
            [sys.executable, "manage.py", "audit", "--settle", "0"], cwd=ROOT, env=env, capture_output=True, text=True
        )
        return Report(
            orders=orders,
            confirmed_in_time=confirmed,
            cancelled=cancelled,
            late_p50=late[len(late) // 2] if late else 0.0,
            late_max=late[-1] if late else 0.0,
            returned_after=returned_after,
            quiet_after=quiet_after,
            pieces_still_reserved=shop.reserved(),
            coupons_still_redeemed=shop.redeemed() - redeemed_before,
            audit_clean=audit.returncode == 0,
            audit=audit.stdout,
        )


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="script/deadlines", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--orders", type=int, default=10_000, help="orders that become due together (default: 10000)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to a file, too")
    parser.add_argument("--place-until", type=datetime.fromisoformat, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.orders < 1:
        parser.error("there must be at least one order")
    if options.place_until:
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
        django.setup()
        place(options.orders, options.place_until)
        return 0
    with tempfile.TemporaryDirectory(prefix="wharf-") as folder:
        report = measure(options.orders, Path(folder))
    print(f"orders due together        {report.orders:>8}   ({report.confirmed_in_time} confirmed by then)")
    print(f"cancelled                  {report.cancelled:>8}")
    print(f"lateness, half of them     {report.late_p50:>8.1f} s")
    print(f"lateness, the last one     {report.late_max:>8.1f} s")
    print(f"all stock and coupons back {report.returned_after:>8.1f} s after the deadline")
    print(f"everybody told             {report.quiet_after:>8.1f} s after the deadline")
    print(f"pieces still reserved      {report.pieces_still_reserved:>8}")
    print(f"coupons still redeemed     {report.coupons_still_redeemed:>8}")
    print(f"audit                      {'clean' if report.audit_clean else 'NOT CLEAN':>8}")
    if not report.audit_clean:
        print(report.audit)
    if options.json:
        options.json.write_text(json.dumps(asdict(report), indent=2) + "\n")
    return 0 if report.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
