"""How long an order takes from placed to confirmed at low load, on either profile."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from statistics import median, quantiles

from lab import command
from lab.client import Client
from lab.figures import Figure, at_most, figure
from lab.harness import say
from lab.harness.stack import Embedded
from lab.harness.system import System, temporary_system

TARGET_P95_MS = {"services": 300, "embedded": 500}
WARM_UP = 10


def measure(url: str, profile: str, *, orders: int, rate: float) -> list[Figure]:
    """Place orders one after another at `rate` per second, and read from their events when they were confirmed."""
    client = Client(url).sign_in()
    skus = [item["sku"] for item in client.products() if item["available"] > orders + WARM_UP]
    if not skus:
        raise SystemExit(f"No product has {orders + WARM_UP} pieces in stock: seed the shop, or ask for fewer orders.")
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
    read = []
    for number in numbers:
        started = time.perf_counter()
        client.order(number)  # a bare request that touches no broker
        read.append((time.perf_counter() - started) * 1000)
    target = at_most(TARGET_P95_MS[profile])
    return [
        figure(f"{profile}: order read, p50", median(read), "ms"),
        figure(f"{profile}: order accepted, p50", median(accepted), "ms"),
        figure(f"{profile}: order accepted, p95", quantiles(accepted, n=20)[-1], "ms"),
        figure(f"{profile}: placed → confirmed, p50", median(confirmed), "ms"),
        figure(f"{profile}: placed → confirmed, p95", quantiles(confirmed, n=20)[-1], "ms", target),
        figure(f"{profile}: placed → confirmed, longest", max(confirmed), "ms"),
    ]


def _placed_to_confirmed(client: Client, number: str) -> float:
    client.wait_for(number, "confirmed")
    at = {event["type"]: datetime.fromisoformat(event["recorded_at"]) for event in client.events(number)}
    return (at["order.confirmed"] - at["order.placed"]).total_seconds() * 1000


def _shop(profile: str, folder: Path) -> AbstractContextManager[Embedded | System]:
    if profile == "embedded":
        return Embedded(data_dir=folder)
    # With the logins that are printed for trying out, which needs DEBUG.
    return temporary_system("wharf_latency", folder, {"DEBUG": "1"})


def main(arguments: Sequence[str] | None = None) -> int:
    parser = command.parser("latency", __doc__)
    add = parser.add_argument
    add("--profile", choices=["embedded", "services", "both"], default="both")
    add("--orders", type=command.number(int, 2), default=200, help="orders to measure (default: %(default)s)")
    add("--rate", type=command.positive, default=10, help="orders per second (default: %(default)s)")
    options = parser.parse_args(arguments)

    def measure_each(folder: Path) -> list[Figure]:
        figures = []
        for profile in ["embedded", "services"] if options.profile == "both" else [options.profile]:
            say(f"{profile}: starting a shop of its own, then {options.orders} orders at {options.rate:.0f}/s …")
            with _shop(profile, folder / profile) as shop:
                figures += measure(shop.url, profile, orders=options.orders, rate=options.rate)
        return figures

    return command.report(measure_each, options.json, strict=False, orders=options.orders, rate=options.rate)
