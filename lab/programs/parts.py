"""Parts of the pipeline on their own: how fast one process reserves stock, and how fast one relay publishes.

For a shop that nobody else works in, with databases and queues of its own.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import count, islice
from typing import Any

from celery import current_app
from django.db import connections
from kombu import Queue

from eventing import subscribers, topology
from eventing.delivery import Delivery, deliver
from eventing.models import OutboxMessage
from eventing.relay import Relay, envelope_of_row
from eventing.store import COLUMNS
from lab.programs.shop import handle_all, placements, products
from sharding import shards

HOT_BATCH = 64
STOCK = 1_000_000
BROKER_MESSAGES = 5_000
BROKER_BYTES = 1_000
SKUS = [f"BENCH-{number}" for number in range(50)]
EVENTS = {1: 400, 16: 3_200, 64: 9_600, 256: 12_800}  # for each size of a batch, so that each takes some seconds

_customers = count(1)


def measure(share: float, runs: int) -> dict[str, list[float]]:
    """Events a second by name, each so many times; `share` of the full number of events."""
    products(dict.fromkeys((*SKUS, "HOT"), STOCK))
    found = [_measure(share) for _ in range(runs)]
    return {name: [run[name] for run in found] for name in found[0]}


def _measure(share: float) -> dict[str, float]:
    spread = {size: _place(int(number * share), SKUS) for size, number in EVENTS.items()}
    hot = _place(int(EVENTS[HOT_BATCH] * share), ["HOT"])
    waiting = sum(OutboxMessage.objects.using(alias).count() for alias in shards.aliases())
    started = time.perf_counter()
    for alias in shards.aliases():
        relay = Relay(alias)
        while relay.publish_once():
            """There may be more."""
        relay.sender.close()
    found = {"relay": waiting / (time.perf_counter() - started)}
    found |= _broker(max(100, int(BROKER_MESSAGES * share)))
    found |= {f"consume {size}": _consume(orders, size) for size, orders in spread.items()}
    return found | {"hot": _consume(hot, HOT_BATCH)}


def _place(orders: int, skus: Sequence[str]) -> list[int]:
    """Place orders of two lines, or one where there is one product only; returns their ids."""
    due = datetime.now(UTC) + timedelta(hours=1)
    commands = list(placements(islice(_customers, orders), skus, due))
    handle_all(commands)
    return [command.order_id for command in commands]


def _consume(order_ids: Sequence[int], size: int) -> float:
    """Let inventory handle the placements in batches of this size; returns how many a second."""
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
        raise RuntimeError(f"{handled} of {len(order_ids)} placements were handled")
    return handled / seconds


def _broker(messages: int) -> dict[str, float]:
    """What the broker alone does: messages that are confirmed one by one, and acknowledged one by one."""
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
