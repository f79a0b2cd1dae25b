"""A fault in the middle of a load: injected beside the customers, and judged when they have gone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from lab.faults.campaign import Campaign, Injected
from lab.faults.staging import Fault

# Orders a second of the fault's own customers, whose promises are kept in a ledger: the load comes on top of them.
RATE = 2.0
POLL_SECONDS = 0.1


@dataclass(slots=True)
class Faulting:
    """Waits for its moment in a thread of its own. `span` in seconds since the epoch, once it is known."""

    campaign: Campaign
    fault: Fault
    is_time: Callable[[], bool]
    begun_at: float | None = None
    healed_at: float | None = None
    findings: list[str] = field(default_factory=list)
    _injected: Injected | None = None
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._stage, daemon=True)
        self._thread.start()

    def join(self) -> None:
        """No fault begins any more; one that has begun is waited for."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        if self.begun_at is None:
            self.findings.append("it did not come to it: the load was over before its moment")

    @property
    def span(self) -> tuple[float, float] | None:
        if self.begun_at is None:
            return None
        return self.begun_at, self.healed_at or time.time()

    def conclude(self) -> None:
        """Compare what the fault's customers were promised with what is there; for a shop that is at rest."""
        if self._injected is None:
            return
        try:
            outcome = self.campaign.conclude(self._injected)
        except Exception as error:
            self.findings.append(f"{type(error).__name__}: {error}")
        else:
            self.findings += outcome.verdict.findings

    def _stage(self) -> None:
        while not self.is_time():
            if self._over.wait(POLL_SECONDS):
                return
        self.begun_at = time.time()
        try:
            self._injected = self.campaign.inject(self.fault)
        except Exception as error:  # whatever went wrong, the run is judged all the same
            self.findings.append(f"{type(error).__name__}: {error}")
        self.healed_at = time.time()
