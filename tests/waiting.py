"""Waiting for a condition, with a deadline, instead of sleeping for luck."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from uuid import uuid4

from caching import two_level as levels
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
    if not levels._shares_redis():
        return
    echo: TwoLevelCache[int] = TwoLevelCache(f"echo-{uuid4().hex}", int, seconds=lambda: 60)
    heard = threading.Event()
    levels.on_evict(echo.name, lambda keys: heard.set())
    levels._messages.listen()

    def is_heard() -> bool:
        levels._messages.tell(echo.name, ["told"])
        return heard.is_set()

    wait_until(is_heard)
    del levels._listeners[echo.name], levels._caches[echo.name]
