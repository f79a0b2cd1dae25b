"""The circuit breakers of all processes, in a table: a worker that leaves the payment gateway alone is asked by nobody.

A row stands for a breaker that is not closed. One whose process has died is forgotten after a while.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import structlog
from django.db import DatabaseError, InterfaceError, transaction
from django.utils import timezone

from caching import breakers
from caching.breakers import Breaker, State
from monitoring.models import OpenCircuit
from sharding.router import database_of

FORGET = timedelta(minutes=15)  # longer than the longest pause between two attempts to deliver an event

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Circuit:
    """A service behind breakers: how many processes have theirs open, and how many half-open, since when and why."""

    name: str
    open: int = 0
    half_open: int = 0
    since: datetime | None = None
    error: str = ""

    @property
    def state(self) -> State:
        if self.open:
            return State.OPEN
        return State.HALF_OPEN if self.half_open else State.CLOSED


def record(breaker: Breaker) -> None:
    """Write down that a breaker of this process has changed; in a transaction, after its end."""
    failure = breaker.last_failure
    write = partial(
        _write,
        breaker.name,
        None if breaker.state is State.CLOSED else breaker.open_until,
        f"{type(failure).__name__}: {failure}"[:200] if failure else "",
    )
    transaction.on_commit(write, using=database_of("monitoring"), robust=True)


def _write(name: str, retry_at: datetime | None, error: str) -> None:
    rows = OpenCircuit.objects.using(database_of("monitoring"))
    process = f"{socket.gethostname()[:80]}:{os.getpid()}"
    now = timezone.now()
    try:
        if retry_at is None:
            rows.filter(name=name, process=process).delete()
        else:
            values = {"retry_at": retry_at, "error": error}
            rows.update_or_create(name=name, process=process, defaults=values, create_defaults=values | {"since": now})
            rows.filter(retry_at__lt=now - FORGET).delete()
    except (DatabaseError, InterfaceError) as problem:
        logger.warning("circuit.not_recorded", name=name, error=str(problem))


def circuits() -> list[Circuit]:
    """Every service that has a breaker, by name."""
    rows = OpenCircuit.objects.using(database_of("monitoring")).filter(retry_at__gt=timezone.now() - FORGET)
    by_name: dict[str, list[OpenCircuit]] = {name: [] for name in breakers.names()}
    for row in rows.order_by("name", "since"):
        by_name.setdefault(row.name, []).append(row)
    return [_circuit(name, found) for name, found in sorted(by_name.items())]


def is_closed(name: str) -> bool:
    """Whether no process leaves this service alone."""
    return all(circuit.state is State.CLOSED for circuit in circuits() if circuit.name == name)


def _circuit(name: str, rows: Iterable[OpenCircuit]) -> Circuit:
    found = list(rows)
    if not found:
        return Circuit(name=name)
    still_open = sum(row.retry_at > timezone.now() for row in found)
    return Circuit(
        name=name,
        open=still_open,
        half_open=len(found) - still_open,
        since=found[0].since,
        error=found[-1].error,
    )
