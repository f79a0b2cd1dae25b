"""What of a shop cannot be seen from outside, looked at every second: outboxes, queues, stock."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from lab.shell import Shell, ShellError

SAMPLE_SECONDS = 1.0

SAMPLE = """
from django.db.models import Sum
from eventing import queues
from inventory.models import Stock
from monitoring import selectors
lags = [answer.value for answer in selectors.outbox_lags().values() if answer.value]
levels = Stock.objects.filter(pk__in={skus!r}).aggregate(available=Sum("available"), reserved=Sum("reserved"))
answer = {{
    "outbox": sum(lag.waiting for lag in lags),
    "oldest": max((lag.seconds for lag in lags), default=0.0),
    "messages": sum(depth.messages or 0 for depth in queues.depths(seconds=2)),
    "available": levels["available"] or 0,
    "reserved": levels["reserved"] or 0,
}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One look, at a moment in seconds since the epoch. `outbox` events wait for the relay, the `oldest` for so many
    seconds; `messages` wait for workers; `available` and `reserved` are pieces of the products that are ordered.
    """

    at: float
    outbox: int
    oldest: float
    messages: int
    available: int
    reserved: int


@dataclass(slots=True)
class Sampler:
    """Looks until it is stopped. While a service is away there is no sample: a gap in the charts says so.

    The shell is shared with whoever else asks: a second one would take connections that the shop may need.
    """

    shell: Shell
    skus: Sequence[str]
    samples: list[Sample] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Sampler:
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    @property
    def last(self) -> Sample | None:
        return self.samples[-1] if self.samples else None

    def _look(self) -> None:
        while True:
            began = time.time()
            with suppress(ShellError):  # a service is away
                found = self.shell.run(SAMPLE.format(skus=list(self.skus)))
                self.samples.append(Sample(at=time.time(), **found))
            if self._stop.wait(max(0.0, began + SAMPLE_SECONDS - time.time())):
                return
