"""Waiting for a condition, with a deadline, instead of sleeping for luck."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from uuid import uuid4

from caching import two_level
from caching.two_level import TwoLevelCache

LONGEST_PAUSE = 0.25  # seconds; asking a whole shop costs as much as an order


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    pause = 0.02
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        threading.Event().wait(pause)
        pause = min(1.5 * pause, LONGEST_PAUSE)


def wait_until_changes_are_heard() -> None:
    """From then on this process forgets nothing more because of what has changed so far.

    It hears of its own changes as well, and forgets all it has when it begins to listen; both may be late.
    """
    if not two_level._shares_redis():
        return
    echo: TwoLevelCache[int] = TwoLevelCache(f"echo-{uuid4().hex}", int, seconds=lambda: 60)
    heard = threading.Event()
    two_level.on_evict(echo.name, lambda keys: heard.set())
    two_level._invalidations.listen()

    def is_heard() -> bool:
        two_level._invalidations.publish(echo.name, ["told"])
        return heard.is_set()

    wait_until(is_heard)
    del two_level._listeners[echo.name], two_level._caches[echo.name]
