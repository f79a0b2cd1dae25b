"""Parts of the pipeline on their own: how fast one process reserves stock, and how fast one relay publishes.

Runs as a process of a shop that nobody else works in, with databases and queues of its own; prints JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count, islice
from typing import Any

import django

BATCHES = (1, 16, 64, 256)
SKUS = 50
HOT_BATCH = 64
PRICE = 1_000
STOCK = 1_000_000
BROKER_MESSAGES = 5_000
BROKER_BYTES = 1_000
STARTED = datetime.now(UTC)
EVENTS = {1: 400, 16: 3_200, 64: 9_600, 256: 12_800}  # for each size of a batch, so that each takes some seconds

_customers = count(1)


def measure(share: float) -> dict[str, float]:
    """Events a second by name; `share` of the full number of events."""
    from eventing.models import OutboxMessage
    from sharding import shards

    found: dict[str, float] = {}
    spread = {size: _place(int(number * share), _skus()) for size, number in EVENTS.items()}
    hot = _place(int(EVENTS[HOT_BATCH] * share), ["HOT"])
    waiting = sum(OutboxMessage.objects.using(alias).count() for alias in shards.aliases())
    started = time.perf_counter()
    _publish_all()
    found["relay"] = waiting / (time.perf_counter() - started)
    found |= _broker(max(100, int(BROKER_MESSAGES * share)))
    for size, orders in spread.items():
        found[f"consume {size}"] = _consume(orders, size)
    found["hot"] = _consume(hot, HOT_BATCH)
    return found


def _stock() -> None:
    from inventory import handlers as inventory
    from lab.bulk import metadata

    inventory.add_category(slug="bench", name="Bench")
    for sku in (*_skus(), "HOT"):
        inventory.add_product(sku=sku, name=sku, category="bench", price=PRICE, currency="EUR")
        inventory.receive_stock(sku, STOCK, "bench", datetime.now(UTC), metadata("bench"))


def _skus() -> list[str]:
    return [f"BENCH-{number}" for number in range(SKUS)]


def _place(orders: int, skus: Sequence[str]) -> list[int]:
    """Place orders of two lines, or one where there is one product only; returns their ids."""
    from lab.bulk import handle_all
    from orders.commands import PlaceOrder
    from orders.events import Line
    from sharding import numbers

    now = datetime.now(UTC)
    ids: list[int] = []

    def commands() -> Iterator[PlaceOrder]:
        for number in islice(_customers, orders):
            wanted = dict.fromkeys((skus[number % len(skus)], skus[(number + 1) % len(skus)]))
            # Each a moment of its own: orders of one bucket and millisecond may get the same number.
            order_id = numbers.new_order_id(number, STARTED - timedelta(milliseconds=number))
            ids.append(order_id)
            yield PlaceOrder(
                order_id=order_id,
                customer_id=number,
                currency="EUR",
                lines=tuple(Line(sku=sku, name=sku, quantity=1, unit_price=PRICE) for sku in wanted),
                payment_due_at=now + timedelta(hours=1),
                at=now,
            )

    handle_all(commands(), actor="bench")
    return ids


def _publish_all() -> None:
    from eventing.relay import Relay
    from sharding import shards

    for alias in shards.aliases():
        relay = Relay(alias)
        while relay.publish_once():
            """There may be more."""
        relay.sender.close()


def _consume(order_ids: Sequence[int], size: int) -> float:
    """Let inventory handle the placements in batches of this size; returns how many a second."""
    from django.db import connections

    from eventing import subscribers
    from eventing.delivery import Delivery, deliver
    from eventing.relay import envelope_of_row
    from eventing.store import COLUMNS
    from sharding import shards

    wanted = set(order_ids)
    envelopes = []
    for alias in shards.aliases():
        with connections[alias].cursor() as cursor:
            cursor.execute(f"SELECT {COLUMNS} FROM eventing_event WHERE version = 1")
            envelopes += [envelope_of_row(row) for row in cursor.fetchall() if row[0] in wanted]
    delivery = Delivery(subscriber=subscribers.get("inventory"), attempt=1, published_at=datetime.now(UTC))
    started = time.perf_counter()
    handled = sum(deliver(envelopes[at : at + size], delivery).handled for at in range(0, len(envelopes), size))
    seconds = time.perf_counter() - started
    if handled != len(order_ids):
        raise SystemExit(f"{handled} of {len(order_ids)} placements were handled")
    return handled / seconds


def _broker(messages: int) -> dict[str, float]:
    """What the broker alone does: messages that are confirmed one by one, and acknowledged one by one."""
    from celery import current_app
    from kombu import Queue

    from eventing import topology

    name = topology.qualified("bench")
    queue = Queue(name, durable=True, queue_arguments={"x-queue-type": "quorum"})
    body = b"x" * BROKER_BYTES
    with current_app.connection_for_write() as connection:
        bound = queue(connection.default_channel)
        bound.declare()
        try:
            producer = connection.Producer(auto_declare=False)
            started = time.perf_counter()
            for _ in range(messages):
                producer.publish(body, routing_key=name, exchange="", content_type="application/octet-stream")
            published = time.perf_counter()
            left = messages

            def take(message: Any) -> None:
                nonlocal left
                message.ack()
                left -= 1

            with connection.Consumer([bound], on_message=take, prefetch_count=200, auto_declare=False):
                while left:
                    connection.drain_events(timeout=10)
            ended = time.perf_counter()
        finally:
            bound.delete()
    return {"broker publish": messages / (published - started), "broker consume": messages / (ended - published)}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="lab.bench.parts", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--share", type=float, default=1.0, help="of the full number of events (default: 1)")
    parser.add_argument("--runs", type=int, default=1, help="how often everything is measured (default: 1)")
    options = parser.parse_args(arguments)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    django.setup()
    _stock()
    runs = [measure(options.share) for _ in range(options.runs)]
    print(json.dumps({name: [run[name] for run in runs] for name in runs[0]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
