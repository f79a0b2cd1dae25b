"""All faults, by name."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from lab.faults import clocks, frozen, infrastructure, moves, reactions
from lab.faults.staging import FAULTS, Fault

__all__ = ["FAULTS", "clocks", "frozen", "in_random_order", "infrastructure", "moves", "reactions"]


def in_random_order(names: Sequence[str], rng: random.Random) -> Iterator[Fault]:
    """All of these, shuffled, again and again."""
    while True:
        for name in rng.sample(names, len(names)):
            yield FAULTS[name]
