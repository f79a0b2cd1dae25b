"""What a fault is, and how one is entered into the catalogue.

A fault is a generator. It injects, yields how many seconds it is to last under traffic, heals, and may yield a second
time: it is resumed when everything is quiet, to check what only it can know.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass

from lab.faults.lab import Lab
from lab.faults.ledger import Ledger

WAIT_SECONDS = 120  # for what is sure to happen, on however busy a machine
HEALED = 0.0  # the second yield of a fault

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


def fault(stage: Stage) -> Stage:
    """Enter a fault under the name of its function; its docstring is the summary."""
    name = stage.__name__.replace("_", "-")
    FAULTS[name] = Fault(name=name, summary=(stage.__doc__ or "").strip().rstrip("."), stage=stage)
    return stage


def require(condition: bool, text: str) -> None:
    if not condition:
        raise FaultFailed(text)


def wait_for(condition: Callable[[], bool], what: str, seconds: float = WAIT_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        require(time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}")
        time.sleep(0.1)
