"""Stages faults under traffic, one after another, and judges the shop after each; and whether that would notice.

The self-test breaks one mechanism of the shop at a time, and expects a verdict that is not clean. The breaking happens
in the shop's processes through injected/sitecustomize.py; the shop's code has no switch for it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

from lab.faults.catalogue import COUPON, FAULTS, SKUS, Fault, FaultFailed, Staging, new_customers, new_product
from lab.faults.lab import Lab, Services
from lab.harness.system import NotQuiet
from lab.oracle import Ledger, Verdict
from lab.programs import shop
from lab.traffic import Shopping, Traffic

WARM_UP_SECONDS = 1.0  # of traffic before the fault
# Longer than the longest pause before another attempt (450 s), and than RabbitMQ waits before it repeats a
# dead-lettering that was not confirmed (180 s): what comes later than that is lost.
QUIET_SECONDS = 500
RECOVERY_SECONDS = 30  # what is promised
PLENTY = 1_000_000
CUSTOMERS = 8
RATE = 8.0  # orders a second: two cores keep up, so the recovery is the fault's and not that of a backlog

TRAFFIC_SECONDS = 8  # of the self-test
ROUNDS = 3  # of deaths
BROKEN_QUIET_SECONDS = 15  # what is broken does not become quiet
CONTROL_QUIET_SECONDS = 60
POINTS = ("web-after-commit", "worker-before-commit", "worker-after-commit", "relay-before-delete", "before-outbox")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One staging. `recovery`: seconds from the end of the fault until everything accepted had had all its effects."""

    fault: str
    accepted: int
    recovery: float
    verdict: Verdict
    errors: list[str]


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
    rate: float = RATE

    def prepare(self, *, wait: bool = True) -> None:
        """Products and a coupon to order with. Raises NotQuiet if the new shop does not become quiet."""
        for sku in SKUS:
            new_product(self.lab, self.ledger, PLENTY, sku)
        self.lab.call(shop.coupon, COUPON)
        if wait:
            self.lab.wait_until_quiet(QUIET_SECONDS)

    @contextmanager
    def traffic(self) -> Iterator[Traffic[Shopping]]:
        """Customers who order, pay and cancel meanwhile."""
        customers = new_customers(self.lab, self.ledger, CUSTOMERS)
        shopping = [Shopping(customer, SKUS, COUPON) for customer in customers]
        with Traffic(shopping, Shopping.go_on, rate=self.rate) as traffic:
            yield traffic

    def stage(self, fault: Fault) -> Outcome:
        """Inject under traffic, heal, wait until quiet, judge. Raises FaultFailed."""
        return self.conclude(self.inject(fault))

    def inject(self, fault: Fault) -> Injected:
        """Inject under traffic and heal. Raises FaultFailed."""
        before = len(self.ledger)
        staging = fault.stage(self.lab, self.ledger)
        with self.traffic() as traffic:
            try:
                time.sleep(WARM_UP_SECONDS)
                time.sleep(next(staging))
                next(staging, None)
                healed_at = time.monotonic()
            except BaseException:
                staging.close()
                raise
        return Injected(fault=fault, staging=staging, before=before, healed_at=healed_at, errors=traffic.failures)

    def conclude(self, injected: Injected) -> Outcome:
        """Wait until quiet, and judge. Raises FaultFailed."""
        verdict, quiet_at = self.wait_and_judge(QUIET_SECONDS)
        if verdict.clean:
            for _ in injected.staging:
                """What only the fault can know is checked now."""
        return Outcome(
            fault=injected.fault.name,
            accepted=len(self.ledger) - injected.before,
            recovery=quiet_at - injected.healed_at,
            verdict=verdict,
            errors=injected.errors,
        )

    def wait_and_judge(self, seconds: float) -> tuple[Verdict, float]:
        """The verdict when everything is quiet, or after so many seconds, and when that was."""
        left = ""
        try:
            self.lab.wait_until_quiet(seconds)
        except NotQuiet as error:
            left = str(error)
        quiet_at = time.monotonic()
        verdict = self.judge()
        if left and verdict.clean:
            verdict.find("lost", "what did not become quiet in time", [left])
        return verdict, quiet_at

    def judge(self) -> Verdict:
        return self.lab.judge(self.ledger)


# --- Self-test -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutation:
    """A way to break the shop, and the deaths, or the `fault` of the catalogue, that hurt a shop which is broken so.

    More faults would not hurt it more: copies of a message make up for one that got lost.
    """

    name: str
    title: str
    points: Sequence[str] = POINTS
    thrice: bool = False
    fault: str = ""
    harmful: bool = True


MUTATIONS = (
    Mutation(name="", title="none (control)", thrice=True, harmful=False),
    Mutation(name="no-inbox", title="inbox insert removed", points=["worker-after-commit"], thrice=True),
    Mutation(name="early-ack", title="acknowledged before the commit", points=["worker-before-commit"]),
    Mutation(name="late-outbox", title="outbox written outside the transaction", points=["before-outbox"]),
    Mutation(name="workers-clock", title="overdue by the worker's clock", fault="clocks-stepped"),
    Mutation(name="last-run-believed", title="last run in the future believed", fault="clocks-stepped"),
    Mutation(name="celery-expiry", title="messages expire by the worker's clock", fault="worker-notifications-skewed"),
)


def try_mutation(services: Services, mutation: Mutation) -> Verdict:
    """The verdict on a new shop with this mutation, after some traffic in which processes die."""
    name = f"selftest_{mutation.name.replace('-', '_') or 'control'}"
    with Lab(services, services.folder / name, name=name, mutation=mutation.name) as lab:
        campaign = Campaign(lab)
        campaign.prepare(wait=not mutation.harmful)
        return hurt(campaign, mutation)


def hurt(campaign: Campaign, mutation: Mutation) -> Verdict:
    """The verdict on a shop that has this mutation, after some traffic in which processes die, or the fault.

    Until then the shop must work, or it would be found out for another reason: raises WaitedTooLong.
    """
    lab = campaign.lab
    [customer] = new_customers(lab, campaign.ledger, 1)
    customer.wait_for(customer.place({SKUS[0]: 1}), "confirmed", seconds=CONTROL_QUIET_SECONDS)
    if mutation.fault:
        return _verdict_after(campaign, FAULTS[mutation.fault])
    with lab.thrice() if mutation.thrice else nullcontext(), campaign.traffic():
        for _ in range(ROUNDS):
            for point in mutation.points:
                lab.order_death(point)
            time.sleep(TRAFFIC_SECONDS / ROUNDS)
        lab.cancel("die-*")
    return campaign.wait_and_judge(BROKEN_QUIET_SECONDS if mutation.harmful else CONTROL_QUIET_SECONDS)[0]


def _verdict_after(campaign: Campaign, fault: Fault) -> Verdict:
    """What the fault itself has found wrong counts as lost."""
    try:
        return campaign.stage(fault).verdict
    except FaultFailed as error:
        verdict = Verdict()
        verdict.find("lost", fault.name, [str(error)])
        return verdict
