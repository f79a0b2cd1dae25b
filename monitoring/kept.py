"""An answer that costs something, kept for a moment, so that many who ask cost no more than one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from django.conf import settings

T = TypeVar("T")


@dataclass(slots=True)
class Kept(Generic[T]):
    """The answer of `ask`, PROBE_CACHE_SECONDS old at most.

    One thread asks anew while the others wait for its answer. What `ask` raises is raised to the thread that has asked,
    and the next one asks again.
    """

    ask: Callable[[], T]
    _answer: list[tuple[float, T]] = field(default_factory=list)  # when it came, and it; or nothing
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self) -> T:
        asked_at = time.monotonic()
        with self._lock:
            # An answer that came while this thread waited is young enough, whatever the setting.
            if self._answer and self._answer[0][0] > asked_at - settings.PROBE_CACHE_SECONDS:
                return self._answer[0][1]
            answer = self.ask()
            self._answer[:] = [(time.monotonic(), answer)]
            return answer
