"""Makes processes of a shop under fault tests die, fail and misbehave at exact points; the shop itself has no switch.

Python loads a module of this name at its start. The laboratory (lab/faults/lab.py) puts this folder on the
PYTHONPATH of the shop's processes and orders what is to happen with files in INJECTED_DIR:

    die-<point>                  the next process that comes to this point dies there (`group`: with its whole service)
    fail-<subscriber>-<type>     a handler raises for these events: JSON with `streams`, `times`, `transient`
    thrice                       the relay sends every event alone, three times, in random order

INJECTED_MUTATION breaks a mechanism for good, to see that the tests would notice (lab/faults/campaign.py).
"""

from __future__ import annotations

import functools
import json
import os
import random
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import SimpleNamespace
from typing import Any

FOLDER = Path(os.environ["INJECTED_DIR"])
MUTATION = os.environ.get("INJECTED_MUTATION", "")


def sleep_by_select() -> None:
    """Under libfaketime Python's own sleep fails: it names a moment of the monotonic clock, and that is taken for one
    of the clock that is faked. A wait for nothing names a duration.
    """
    import select
    import time

    def sleep(seconds: Any) -> None:
        select.select([], [], [], seconds)

    time.sleep = sleep


def die(point: str) -> None:
    order, claimed = FOLDER / f"die-{point}", FOLDER / f"died-{point}-{os.getpid()}"
    try:
        order.rename(claimed)  # only one process succeeds
    except FileNotFoundError:
        return
    if claimed.read_text() == "group":
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def fail(subscriber: str, recorded: Any) -> None:
    from django.conf import settings

    from eventing.errors import Transient

    try:
        order = json.loads((FOLDER / f"fail-{subscriber}-{recorded.event.TYPE}").read_text())
    except FileNotFoundError:
        return
    if recorded.stream_id not in order["streams"]:
        return
    if not order["transient"]:
        raise ValueError(f"{recorded.id} is poison")
    with (FOLDER / f"failures-{subscriber}-{recorded.id}").open("ab") as failures:
        if failures.tell() >= order["times"]:
            return
        failures.write(b".")
        count = failures.tell()
    settings.EVENTING_MAX_BACKOFF_SECONDS = 1  # ten failures are to fit into half a minute
    raise Transient(f"failure {count} of {order['times']}")


def let_die(owner: Any, name: str, point: str, *, before: bool = False) -> None:
    """Processes may die at the point that is right after a function of a class or module, or right before it."""
    function = getattr(owner, name)

    @functools.wraps(function)
    def deadly(*args: Any, **options: Any) -> Any:
        if before:
            die(point)
        result = function(*args, **options)
        if not before:
            die(point)
        return result

    setattr(owner, name, deadly)


def patch_subscribers(module: Any) -> None:
    handler_of = module.Subscriber.handler_of

    @functools.cache  # a batch is grouped by handler
    def injected(name: str, handler: Callable[[Sequence[Any]], None]) -> Callable[[Sequence[Any]], None]:
        def handle(batch: Sequence[Any]) -> None:
            for recorded in batch:
                fail(name, recorded)
            handler(batch)
            die("worker-before-commit")

        return handle

    module.Subscriber.handler_of = lambda self, event_type: injected(self.name, handler_of(self, event_type))


def patch_delivery(module: Any) -> None:
    let_die(module, "deliver", "worker-after-commit")
    if MUTATION == "no-inbox":
        module._claim = lambda alias, batch, delivery: list({recorded.key: recorded for recorded in batch}.values())


def patch_publishing(module: Any) -> None:
    send_all = module.Publisher.send_all

    def send_thrice(self: Any, wanted: Mapping[str, Sequence[Any]], **options: Any) -> None:
        if "relay" not in sys.argv or not (FOLDER / "thrice").exists():
            send_all(self, wanted, **options)
            return
        copies = [(name, envelope) for name, envelopes in wanted.items() for envelope in envelopes for _ in range(3)]
        random.shuffle(copies)
        for name, envelope in copies:
            send_all(self, {name: [envelope]}, **options)

    module.Publisher.send_all = send_thrice


def patch_settings(module: Any) -> None:
    if MUTATION == "early-ack":
        module.CELERY_TASK_ACKS_LATE = False


def patch_store(module: Any) -> None:
    if MUTATION != "late-outbox":
        return
    append = module.append

    def append_and_publish_later(category: str, writes: Any, *, using: str, **options: Any) -> Any:
        from django.db import connections, transaction

        recorded = append(category, writes, using=using, **options)
        rows = [recorded_event.key for recorded_event in recorded]

        def publish() -> None:
            die("before-outbox")
            with connections[using].cursor() as cursor:
                cursor.executemany(
                    "INSERT INTO eventing_outbox (stream_id, category, version) VALUES (%s, %s, %s)", rows
                )

        if rows:
            with connections[using].cursor() as cursor:
                cursor.executemany(
                    "DELETE FROM eventing_outbox WHERE stream_id = %s AND category = %s AND version = %s", rows
                )
            transaction.on_commit(publish, using=using)
        return recorded

    module.append = append_and_publish_later


def patch_sweep(module: Any) -> None:
    if MUTATION == "workers-clock":
        from django.utils import timezone

        module.clocks = SimpleNamespace(database_time=lambda alias: timezone.now())


def patch_schedules(module: Any) -> None:
    begin, send_options = module.Entry.__init__, module.Entry.send_options

    def begin_believing(self: Any, model: Any, app: Any = None) -> None:
        last = model.last_run_at
        begin(self, model, app)
        self.last_run_at = model.last_run_at = last or self.last_run_at

    def send_with_expiry(self: Any, *args: Any) -> dict[str, Any]:
        options = send_options(self, *args)
        return {**options, "expires": options["expiration"]}

    if MUTATION == "last-run-believed":
        module.Entry.__init__ = begin_believing
    if MUTATION == "celery-expiry":
        module.Entry.send_options = send_with_expiry


PATCHES: dict[str, Callable[[Any], None]] = {
    "config.settings": patch_settings,
    "eventing.delivery": patch_delivery,
    "eventing.publishing": patch_publishing,
    "eventing.relay": lambda module: let_die(module.Relay, "_delete", "relay-before-delete", before=True),
    "eventing.schedules": patch_schedules,
    "eventing.store": patch_store,
    "eventing.subscribers": patch_subscribers,
    "orders.handlers": lambda module: let_die(module, "place_order", "web-after-commit"),
    "orders.tasks": patch_sweep,
}


class Patcher(MetaPathFinder):
    """Patches a module directly after it is executed, before anybody else sees it."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        patch = PATCHES.get(name)
        spec = PathFinder.find_spec(name, path) if patch else None
        if patch is None or spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_patch(module: Any) -> None:
            execute(module)
            patch(module)

        spec.loader.exec_module = execute_and_patch  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, Patcher())
if "FAKETIME_TIMESTAMP_FILE" in os.environ:
    sleep_by_select()
