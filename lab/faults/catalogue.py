"""What a fault is, and the catalogue of all faults by name.

A fault is a generator. It injects, yields how many seconds it is to last under traffic, heals, and may yield a second
time: it is resumed when everything is quiet, to check what only it can know.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from uuid import uuid4

from lab.client import Customer
from lab.faults.lab import Lab
from lab.harness import wait_until
from lab.oracle import Ledger
from lab.programs import shop

WAIT_SECONDS = 120  # for what is sure to happen, on however busy a machine
HEALED = 0.0  # the second yield of a fault
COUPON = "FAULTS-TEN"  # ten percent off, for everybody
SKUS = [f"FAULTS-{number}" for number in range(1, 6)]
STEP = 17  # between the numbers of customers, so that eight of them are on all shards

Staging = Generator[float, None, None]
Stage = Callable[[Lab, Ledger], Staging]


class FaultFailed(Exception):
    """The fault could not be staged, or what only it can know is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    name: str
    summary: str
    stage: Stage
    missing: Callable[[], str] = str  # what this machine lacks for it, in words


FAULTS: dict[str, Fault] = {}


def add(name: str, summary: str, stage: Stage, missing: Callable[[], str] = str) -> None:
    FAULTS[name] = Fault(name=name, summary=summary, stage=stage, missing=missing)


def fault(stage: Stage) -> Stage:
    """Add a fault under the name of its function; its docstring is the summary."""
    add(stage.__name__.replace("_", "-"), (stage.__doc__ or "").strip().rstrip("."), stage)
    return stage


def in_random_order(names: Sequence[str], rng: random.Random) -> Iterator[Fault]:
    """All of these, shuffled, again and again."""
    while True:
        for name in rng.sample(names, len(names)):
            yield FAULTS[name]


# --- What faults have in common --------------------------------------------------------------------------------------


def require(condition: bool, text: str) -> None:
    if not condition:
        raise FaultFailed(text)


def wait_for(condition: Callable[[], bool], what: str, seconds: float = WAIT_SECONDS) -> None:
    require(wait_until(condition, seconds), f"not within {seconds:.0f} s: {what}")


def new_customers(lab: Lab, ledger: Ledger, count: int) -> list[Customer]:
    """Customers of their own, who are signed in."""
    people = lab.call(shop.people, count, step=STEP)
    return [Customer(lab.url, person.customer_id, person.token, ledger) for person in people]


def new_product(lab: Lab, ledger: Ledger, stock: int, sku: str = "") -> str:
    sku = sku or f"RARE-{uuid4().hex[:8].upper()}"
    lab.call(shop.products, {sku: stock})
    ledger.stock[sku] = stock
    return sku


for kind in ("clocks", "infrastructure", "reactions"):
    import_module(f"lab.faults.{kind}")
