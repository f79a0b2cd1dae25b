"""Stages faults under traffic, one after another, and judges the shop after each."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from lab.faults import traffic
from lab.faults.lab import Lab, NotQuiet
from lab.faults.ledger import Ledger
from lab.faults.staging import Fault, Staging
from lab.faults.verdict import Verdict, collect, judge

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Injected:
    """A fault that has healed; what it led to is not known yet. `healed_at` by the monotonic clock."""

    fault: Fault
    staging: Staging
    before: int  # promises until then
    healed_at: float
    errors: list[str]


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
        return self.conclude(self.inject(fault))

    def inject(self, fault: Fault) -> Injected:
        """Inject under traffic and heal. Raises FaultFailed."""
        before = len(self.ledger)
        staging = fault.stage(self.lab, self.ledger)
        with traffic.Traffic(self.lab, self.ledger, rate=self.rate) as customers:
            try:
                time.sleep(WARM_UP_SECONDS)
                time.sleep(next(staging))
                next(staging, None)
                healed_at = time.monotonic()
            except BaseException:
                staging.close()
                raise
        return Injected(fault=fault, staging=staging, before=before, healed_at=healed_at, errors=customers.errors)

    def conclude(self, injected: Injected) -> Outcome:
        """Wait until quiet, and judge. Raises FaultFailed."""
        left = self._wait()
        recovery = time.monotonic() - injected.healed_at
        verdict = self.judge(left)
        if verdict.clean:
            for _ in injected.staging:
                """What only the fault can know is checked now."""
        return Outcome(
            fault=injected.fault.name,
            accepted=len(self.ledger) - injected.before,
            recovery=recovery,
            verdict=verdict,
            errors=injected.errors,
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
