"""How long an order takes from placed to confirmed at low load, on either profile."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from statistics import median, quantiles

from lab.client import Client
from lab.stack import Embedded, Processes
from lab.temporary import temporary_stack

TARGET_P95_MS = {"services": 300, "embedded": 500}
WARM_UP = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Percentiles in milliseconds. The floor is a bare request that touches no broker: the order's own page."""

    profile: str
    orders: int
    rate: float
    accept_p50: float
    accept_p95: float
    confirm_p50: float
    confirm_p95: float
    confirm_max: float
    floor_p50: float


def percentile_95(values: Sequence[float]) -> float:
    return quantiles(values, n=20)[-1]


def measure(base_url: str, profile: str, *, orders: int, rate: float) -> Latency:
    """Place orders one after another at `rate` per second, and read from their events when they were confirmed."""
    client = Client(base_url).sign_in()
    skus = [item["sku"] for item in client.products() if item["available"] > orders + WARM_UP]
    if not skus:
        raise SystemExit(
            f"No product has {orders + WARM_UP} pieces in stock: seed the shop anew, or ask for fewer orders."
        )
    accepted: list[float] = []
    numbers: list[str] = []
    next_at = time.perf_counter()
    for count in range(orders + WARM_UP):
        time.sleep(max(0.0, next_at - time.perf_counter()))
        next_at += 1 / rate
        started = time.perf_counter()
        number = client.place((skus[count % len(skus)], 1))
        if count >= WARM_UP:
            accepted.append((time.perf_counter() - started) * 1000)
            numbers.append(number)
    confirmed = [_placed_to_confirmed(client, number) for number in numbers]
    floor = []
    for number in numbers:
        started = time.perf_counter()
        client.order(number)
        floor.append((time.perf_counter() - started) * 1000)
    return Latency(
        profile=profile,
        orders=orders,
        rate=rate,
        accept_p50=median(accepted),
        accept_p95=percentile_95(accepted),
        confirm_p50=median(confirmed),
        confirm_p95=percentile_95(confirmed),
        confirm_max=max(confirmed),
        floor_p50=median(floor),
    )


def _placed_to_confirmed(client: Client, number: str) -> float:
    client.wait_for(number, "confirmed")
    at = {event["type"]: datetime.fromisoformat(event["recorded_at"]) for event in client.events(number)}
    return (at["order.confirmed"] - at["order.placed"]).total_seconds() * 1000


def table(results: Sequence[Latency]) -> str:
    header = f"{'profile':<10}{'orders':>7}{'per s':>7}{'read p50':>10}{'accept p50':>12}{'p95':>8}"
    lines = [f"{header}{'placed→confirmed p50':>22}{'p95':>8}{'max':>8}{'target p95':>12}"]
    for result in results:
        target = TARGET_P95_MS[result.profile]
        verdict = "ok" if result.confirm_p95 <= target else "MISSED"
        lines.append(
            f"{result.profile:<10}{result.orders:>7}{result.rate:>7.0f}{result.floor_p50:>10.1f}"
            f"{result.accept_p50:>12.1f}{result.accept_p95:>8.1f}{result.confirm_p50:>22.1f}"
            f"{result.confirm_p95:>8.1f}{result.confirm_max:>8.1f}{f'{target} {verdict}':>12}"
        )
    return "\n".join([*lines, "times in milliseconds"])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="script/latency", description=__doc__)
    parser.add_argument("--profile", choices=["embedded", "services", "both"], default="both")
    parser.add_argument("--orders", type=int, default=200, help="orders to measure (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=10, help="orders per second (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to a file, too")
    options = parser.parse_args(arguments)
    results = []
    for profile in ["embedded", "services"] if options.profile == "both" else [options.profile]:
        print(
            f"{profile}: starting a shop of its own, then {options.orders} orders at {options.rate:.0f}/s …",
            file=sys.stderr,
        )
        with tempfile.TemporaryDirectory(prefix="wharf-") as folder, _shop(profile, Path(folder)) as shop:
            results.append(measure(shop.url, profile, orders=options.orders, rate=options.rate))
    print(table(results))
    if options.json:
        options.json.write_text(json.dumps([asdict(result) for result in results], indent=2) + "\n")
    return 0


def _shop(profile: str, folder: Path) -> AbstractContextManager[Processes]:
    if profile == "embedded":
        return Embedded(data_dir=folder)
    # With the logins that are printed for trying out, which needs DEBUG.
    return temporary_stack("wharf_bench", folder, {"DEBUG": "1"})


if __name__ == "__main__":
    sys.exit(main())
