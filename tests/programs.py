"""What tests call inside a running shop, in a process of it."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from coupons.models import Coupon
from eventing import deadletters, queues
from eventing.models import DeadLetter, InboxEntry, PeriodicRun, ProcessClock
from eventing.wire import Envelope
from inventory.models import Stock
from notifications.models import Message
from sharding import numbers, shards

SWEEP = "Cancel overdue orders"


def stock(sku: str) -> tuple[int, int, int]:
    """(on hand, reserved, available)"""
    level = Stock.objects.get(product_id=sku)
    return level.on_hand, level.reserved, level.available


def add_coupon(code: str, limit: int | None = None) -> None:
    """One euro off."""
    Coupon.objects.create(code=code, kind="fixed", value=100, currency="EUR", total_limit=limit)


def redeemed(code: str) -> int:
    return Coupon.objects.get(code=code).redeemed


def shard_of(number: str) -> str:
    return shards.alias_of(numbers.parse(number))


def owners() -> tuple[str, ...]:
    return tuple(shards.refresh().owners)


def in_inbox(number: str) -> list[str]:
    """What the messages about an order in its customer's inbox are about."""
    rows = Message.objects.filter(order_id=numbers.parse(number), channel="inbox")
    return sorted(rows.values_list("about", flat=True))


def lose_message(number: str, about: str) -> None:
    Message.objects.filter(order_id=numbers.parse(number), channel="inbox", about=about).delete()


def handled_at(number: str, subscriber: str) -> str:
    return str(InboxEntry.objects.get(stream_id=numbers.parse(number), subscriber=subscriber).handled_at)


def handled(stream_id: int, subscriber: str) -> int:
    return InboxEntry.objects.filter(stream_id=stream_id, subscriber=subscriber).count()


def dead_letters_of(subscriber: str) -> int:
    return DeadLetter.objects.filter(subscriber=subscriber).count()


def schedule(task: str, limit: int, every: int, ran_minutes_ago: int) -> None:
    """Have a task run with this limit every so many seconds."""
    interval, _ = IntervalSchedule.objects.get_or_create(every=every, period="seconds")
    PeriodicTask.objects.create(
        name=f"test {limit}",
        task=task,
        interval=interval,
        kwargs=json.dumps({"limit": limit}),
        last_run_at=timezone.now() - timedelta(minutes=ran_minutes_ago),
    )


def worker_of_the_sweep() -> str:
    """Who has last ended the sweep; empty if nobody ever has."""
    return PeriodicRun.objects.filter(name=SWEEP).values_list("worker", flat=True).first() or ""


def clocks_ahead() -> dict[str, float]:
    """By how many seconds the clock of each process was ahead when it was last noted."""
    return dict(ProcessClock.objects.values_list("process", "seconds_ahead"))


def last_run_of(worker: str) -> str:
    """When a worker of this name has last ended a periodic task; empty if it never has."""
    runs = PeriodicRun.objects.filter(worker__startswith=f"{worker}@").order_by("-finished_at")
    return str(runs[0].finished_at) if runs else ""


def consumers() -> dict[str, int]:
    """How many consume from each queue."""
    return {depth.name: depth.consumers or 0 for depth in queues.depths(seconds=5)}


def add_logins() -> None:
    User.objects.create_superuser("admin", "admin@example.org", "admin")
    User.objects.create_user("demo", "demo@example.org", "demo")


def park(count: int, first: int, error: Exception, field: str) -> dict[str, Any]:
    """Dead letters of notifications with so many versions from `first` on; the event's data."""
    data = {"at": "2026-05-01T00:00:00Z", field: User.objects.get(username="demo").pk}
    for version in range(first, first + count):
        envelope = Envelope(
            stream_id=77,
            category="order",
            version=version,
            type="order.confirmed",
            schema_version=1,
            data=data,
            metadata={"correlation_id": "test"},
            recorded_at=timezone.now(),
        )
        deadletters.park(envelope, "notifications", error, "Traceback", attempts=1)
    return data
