"""Stages faults under traffic, one after another, and judges the shop after each."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from loadtest.faults import traffic
from loadtest.faults.lab import Lab, NotQuiet
from loadtest.faults.ledger import Ledger
from loadtest.faults.staging import Fault
from loadtest.faults.verdict import Verdict, collect, judge

WARM_UP_SECONDS = 1.0  # of traffic before the fault
QUIET_SECONDS = 180
RECOVERY_SECONDS = 30  # what is promised


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One staging. `recovery`: seconds from the end of the fault until everything accepted had had all its effects."""

    fault: str
    accepted: int
    recovery: float
    verdict: Verdict
    errors: list[str]

    @property
    def in_time(self) -> bool:
        return self.recovery <= RECOVERY_SECONDS


@dataclass(slots=True)
class Campaign:
    """A laboratory and what its customers were promised so far."""

    lab: Lab
    ledger: Ledger = field(default_factory=Ledger)
    rate: float = traffic.RATE

    def prepare(self, *, wait: bool = True) -> None:
        """Products and a coupon to order with. Raises NotQuiet if the new shop does not come to rest."""
        for sku in traffic.SKUS:
            traffic.add_product(self.lab, self.ledger, sku, traffic.PLENTY)
        traffic.add_coupon(self.lab, traffic.COUPON)
        if wait:
            self.lab.wait_until_quiet(QUIET_SECONDS)

    def stage(self, fault: Fault) -> Outcome:
        """Inject under traffic, heal, wait until quiet, judge. Raises FaultFailed."""
        before = len(self.ledger)
        staged = fault.stage(self.lab, self.ledger)
        with traffic.Traffic(self.lab, self.ledger, rate=self.rate) as customers:
            try:
                time.sleep(WARM_UP_SECONDS)
                time.sleep(next(staged))
                next(staged, None)
                healed_at = time.monotonic()
            except BaseException:
                staged.close()
                raise
        left = self._wait()
        recovery = time.monotonic() - healed_at
        verdict = self.judge(left)
        if verdict.clean:
            for _ in staged:
                """What only the fault can know is checked now."""
        return Outcome(
            fault=fault.name,
            accepted=len(self.ledger) - before,
            recovery=recovery,
            verdict=verdict,
            errors=customers.errors,
        )

    def judge(self, left: str = "") -> Verdict:
        """The verdict of this moment; `left` is what did not become quiet in time."""
        verdict = judge(self.ledger, collect(self.lab, self.ledger), self.lab.audit())
        if left and verdict.clean:
            verdict.find("lost", "what did not become quiet in time", [left])
        return verdict

    def _wait(self) -> str:
        try:
            self.lab.wait_until_quiet(QUIET_SECONDS)
        except NotQuiet as error:
            return str(error)
        return ""
