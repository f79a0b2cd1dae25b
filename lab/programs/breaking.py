"""What faults do inside a shop: hold transactions open, lose and replay messages, die in the middle of a move."""

from __future__ import annotations

import os
import signal
import threading
import traceback
from datetime import timedelta
from queue import Queue
from typing import Any
from uuid import uuid4

import stamina
from django.core.management import call_command
from django.db import connections
from django.utils import timezone

from checkout import service as checkout
from eventing import deadletters, replay, store
from eventing.models import DeadLetter
from eventing.publishing import Publisher
from lab.programs.shop import metadata
from payments import handlers as payments
from payments.commands import RequestPayment
from resharding import moving
from resharding.steps import Step
from sharding import shards
from sharding.errors import MoveRefused
from sharding.partitions import attached_buckets


def place_due_soon(customer_id: int, sku: str, seconds: float) -> tuple[int, int]:
    """An order that the clock cancels after so long unless it is paid: its id and total."""
    term = timedelta(seconds=seconds)
    placement = checkout.place(customer_id, [(sku, 1)], None, key=uuid4().hex, metadata=metadata(), payment_term=term)
    return placement.order_id, total_of(placement.placed)


def total_of(placed: Any) -> int:
    return int(sum(line.quantity * line.unit_price for line in placed.lines))


class RolledBack(Exception):
    """The transaction that was held open is to leave nothing."""


class HeldOrder:
    """An order whose transaction stays open, with its event and outbox row written, until `end_order`."""

    def __init__(self, customer_id: int, sku: str) -> None:
        self.appended: Queue[tuple[int, int]] = Queue()
        self.may_commit: Queue[bool] = Queue()
        self._append = store.append
        store.append = self._append_and_wait
        self.thread = threading.Thread(target=self._place, args=[customer_id, sku])
        self.thread.start()

    def _append_and_wait(self, *args: Any, **options: Any) -> Any:
        recorded = self._append(*args, **options)
        self.appended.put((recorded[0].stream_id, total_of(recorded[0].event)))
        if not self.may_commit.get():
            raise RolledBack
        return recorded

    def _place(self, customer_id: int, sku: str) -> None:
        try:
            checkout.place(customer_id, [(sku, 1)], None, key=uuid4().hex, metadata=metadata())
        except RolledBack:
            """Nothing is left of it."""
        finally:
            connections.close_all()


_held: list[HeldOrder] = []


def hold_order(customer_id: int, sku: str) -> tuple[int, int]:
    """Place an order and leave its transaction open; its id and total."""
    _held.append(HeldOrder(customer_id, sku))
    return _held[-1].appended.get(timeout=60)


def end_order(*, commit: bool) -> None:
    """End the transaction of the order that is held."""
    held = _held.pop()
    held.may_commit.put(commit)
    held.thread.join()


def pay_early(order_id: int, customer_id: int, amount: int) -> None:
    """Request a payment although the order is not confirmed."""
    payment = RequestPayment(
        order_id=order_id,
        customer_id=customer_id,
        amount=amount,
        currency="EUR",
        payment_id=str(uuid4()),
        token="tok_ok",  # noqa: S106  (the sandbox's word for a card)
        at=timezone.now(),
    )
    payments.request_payment(payment, metadata())


def redrive(order_id: int) -> None:
    """Redrive the dead letters of an order."""
    with Publisher() as publisher:
        for dead_letter in DeadLetter.objects.filter(status="open", stream_id=order_id):
            deadletters.redrive(dead_letter, publisher, by="faults")


def replay_and_die(when: str, *arguments: str) -> None:
    """Replay, and die when a message is with the broker and its row does not say so yet, or at once after that."""
    save = replay._save

    def die(run: Any) -> None:
        if when == "after":
            save(run)
        os.kill(os.getpid(), signal.SIGKILL)

    if when != "never":
        replay._save = die
    with open(os.devnull, "w") as nothing:  # noqa: PTH123
        call_command("replay", *arguments, stdout=nothing, stderr=nothing)


def move(bucket: int, target: str) -> tuple[int, int]:
    """Move a bucket to a database: how many rows, and for how many milliseconds it was closed."""
    started = moving.start(bucket, target, drop_source=True)
    moving.run(started)
    return started.rows, started.closed_ms or 0


def move_and_die(bucket: int, target: str, step: Step) -> int:
    """Move a bucket in a process that dies at a step; how it has ended. Its caller must have asked no database yet."""
    mover = os.fork()
    if mover:
        return os.waitstatus_to_exitcode(os.waitpid(mover, 0)[1])

    def die(reached: Step) -> None:
        if reached is step:
            os.kill(os.getpid(), signal.SIGKILL)

    try:
        moving.run(moving.start(bucket, target, drop_source=True), on_step=die)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def end_moves(bucket: int, *, give_up: bool = False) -> str:
    """Let all moves that were left go on, or give them up; the database that has the bucket then."""
    # The locks of the dead go with their connections, which the database may notice a moment later.
    for attempt in stamina.retry_context(on=MoveRefused, attempts=None, timeout=10, wait_max=0.2):
        with attempt:
            for left in moving.active():
                (moving.abort if give_up else moving.run)(left)
    return shards.refresh().owners[bucket]


def databases_with(bucket: int) -> list[str]:
    """Those that have all of a bucket's partitions attached."""
    owned = {alias: attached_buckets(alias).values() for alias in shards.aliases()}
    return [alias for alias, tables in owned.items() if all(bucket in buckets for buckets in tables)]
