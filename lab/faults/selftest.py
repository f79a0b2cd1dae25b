"""Would the fault tests notice? Breaks one mechanism of the shop at a time, and expects a verdict that is not clean.

The breaking happens in the shop's processes through sabotage/sitecustomize.py; the shop's code has no switch for it.
"""

from __future__ import annotations

import textwrap
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from lab.faults.campaign import Campaign
from lab.faults.catalogue import FAULTS
from lab.faults.lab import Lab, NotQuiet, Services, private_services
from lab.faults.staging import Fault, FaultFailed
from lab.faults.traffic import SKUS, Traffic, new_customers
from lab.faults.verdict import Verdict

TRAFFIC_SECONDS = 8
ROUNDS = 3  # of deaths
QUIET_SECONDS = 15  # what is broken does not become quiet
CONTROL_QUIET_SECONDS = 60
POINTS = ("web-after-commit", "worker-before-commit", "worker-after-commit", "relay-before-delete", "before-outbox")


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

    Until then the shop must work, or it would be found out for another reason: raises GaveUp.
    """
    lab = campaign.lab
    [customer] = new_customers(lab, campaign.ledger, 1)
    customer.wait_for(customer.place({SKUS[0]: 1}), "confirmed", seconds=CONTROL_QUIET_SECONDS)
    if mutation.fault:
        return _stage(campaign, FAULTS[mutation.fault])
    with lab.thrice() if mutation.thrice else nullcontext(), Traffic(lab, campaign.ledger, rate=campaign.rate):
        for _ in range(ROUNDS):
            for point in mutation.points:
                lab.order_death(point)
            time.sleep(TRAFFIC_SECONDS / ROUNDS)
        lab.cancel_deaths()
    left = ""
    try:
        lab.wait_until_quiet(QUIET_SECONDS if mutation.harmful else CONTROL_QUIET_SECONDS)
    except NotQuiet as error:
        left = str(error)
    return campaign.judge(left)


def _stage(campaign: Campaign, fault: Fault) -> Verdict:
    """The verdict after a fault; what the fault itself has found wrong counts as lost."""
    try:
        return campaign.stage(fault).verdict
    except FaultFailed as error:
        verdict = Verdict()
        verdict.find("lost", fault.name, [str(error)])
        return verdict


def self_test() -> int:
    """Try all mutations and print a table; returns the exit code."""
    mutations = []
    for mutation in MUTATIONS:
        if mutation.fault and (missing := FAULTS[mutation.fault].missing()):
            print(f"Skipped: {mutation.title} ({missing})", flush=True)
        else:
            mutations.append(mutation)
    print(f"Starting PostgreSQL (two), RabbitMQ and Redis, then {len(mutations)} shops in turn …", flush=True)
    print(f"{'mutation':<42}{'expected':<10}{'got':<8}first finding", flush=True)
    failed = 0
    with private_services() as services:
        for mutation in mutations:
            verdict = try_mutation(services, mutation)
            expected, got = "red" if mutation.harmful else "green", "green" if verdict.clean else "red"
            failed += got != expected
            finding = textwrap.shorten(next(iter(verdict.findings), ""), 100)
            print(f"{mutation.title:<42}{expected:<10}{got:<8}{finding}", flush=True)
    print("The fault tests notice what they should." if not failed else f"{failed} verdicts are wrong.")
    return 1 if failed else 0
