"""Ctrl-C: while customers come it ends the load, so that audit and report follow; otherwise it ends the program."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

ECHO_SECONDS = 1.0  # some programs send a signal to a process and then to its group
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(slots=True)
class Interrupts:
    """`seen`: the load was to end before its time. A signal later on raises KeyboardInterrupt, once."""

    seen: bool = False
    _seen_at: float = 0.0
    _loading: bool = False
    _ending: bool = False

    def install(self) -> None:
        for number in STOP_SIGNALS:
            signal.signal(number, self._on_signal)

    @contextmanager
    def ending_the_load(self) -> Iterator[None]:
        """Meanwhile the first signal is only noted."""
        self._loading = True
        try:
            yield
        finally:
            self._loading = False

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._loading and not self.seen:
            self.seen = True
            self._seen_at = time.monotonic()
        elif self.seen and time.monotonic() - self._seen_at < ECHO_SECONDS:
            return
        elif not self._ending:
            self._ending = True  # more signals do not disturb the tidying up
            raise KeyboardInterrupt
