"""One run of a scenario: prepare, let the customers come, wait until everything is at rest, audit, judge."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from lab.faults.campaign import Campaign
from lab.faults.lab import free_ports
from lab.faults.staging import Fault
from lab.load import promises
from lab.load.driving import Driver, Settings
from lab.load.faulting import Faulting
from lab.load.interrupts import Interrupts
from lab.load.preparing import Prepared, coupons_of, orders_of, prepare, stock_of
from lab.load.promises import Observed
from lab.load.recording import Recording
from lab.load.report import Section
from lab.load.sampling import Sampler
from lab.load.scenarios import Scenario
from lab.load.shop import Say, Shop

POLL_SECONDS = 0.2
SAY_SECONDS = 5.0
WEB_MINUTES = 10.0  # that the stock is made for, when the end of the run is not known


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How a scenario is run. `minutes` is None with the web page, where somebody says when it is over.

    `drain` seconds may pass until everything is at rest; `campaign` stages the fault, if there is one.
    """

    users: int
    rate: float
    minutes: float | None
    drain: float
    fault: Fault | None = None
    campaign: Campaign | None = None


def stage(shop: Shop, scenario: Scenario, effort: Effort, interrupts: Interrupts, say: Say) -> Section:
    """Run a scenario. Raises ShellError, LoadFailed."""
    say(f"{scenario.name}: {scenario.summary}")
    prepared = prepare(shop.shell, scenario, effort.users, effort.minutes or WEB_MINUTES)
    with (
        tempfile.TemporaryDirectory(prefix="wharf-load-") as folder,
        Sampler(shop.shell, list(prepared.stock)) as sampler,
    ):
        with interrupts.ending_the_load():
            recording, faulting = _load(shop, scenario, effort, prepared, Path(folder), sampler, interrupts, say)
        say("  no more requests; waiting until outboxes and queues are empty …")
        quiet, left = shop.drain(effort.drain, say)
        ended_at = time.time()
    if faulting is not None:
        faulting.conclude()
    say("  auditing …")
    audit = shop.audit(say)
    observed = Observed(
        recording=recording,
        orders=orders_of(shop.shell, prepared),
        stock=stock_of(shop.shell, prepared),
        coupons=coupons_of(shop.shell, prepared),
        audit=audit,
        drained=ended_at - (recording.stopped_at or ended_at) if quiet else None,
        drain_limit=effort.drain,
        left=left,
        dead_letters=shop.dead_letters(),
        buyers=len(prepared.people) if scenario.burst else 0,
        rare=prepared.rare,
        ended=shop.ended,
        fault=effort.fault.name if effort.fault else "",
        fault_findings=faulting.findings if faulting else [],
    )
    return Section(
        name=scenario.name,
        summary=scenario.summary,
        settings=_settings(scenario, effort),
        recording=recording,
        samples=[sample for sample in sampler.samples if sample.at >= (recording.started_at or 0.0)],
        lines=[*scenario.judge(observed), *promises.common(observed)],
        ended_at=ended_at,
        fault=observed.fault,
        fault_span=faulting.span if faulting else None,
        violations=observed.audit.violations,
        notes=["It was interrupted before its time."] if interrupts.seen and effort.minutes is not None else [],
    )


def _load(
    shop: Shop,
    scenario: Scenario,
    effort: Effort,
    prepared: Prepared,
    folder: Path,
    sampler: Sampler,
    interrupts: Interrupts,
    say: Say,
) -> tuple[Recording, Faulting | None]:
    plan = folder / "plan.json"
    prepared.write(plan)
    web_port = free_ports(1)[0] if effort.minutes is None else None
    settings = Settings(
        url=shop.url,
        customers=scenario.customers,
        users=1 if scenario.burst else effort.users,
        rate=effort.rate,
        minutes=0.0 if scenario.burst else effort.minutes or 0.0,
        web_port=web_port,
    )
    with Driver(settings, folder, plan) as driver:
        if web_port is not None:
            driver.wait_for_page()
            say(f"  Locust's page: {driver.page}  (start and stop the run there, or end it here with Ctrl-C)")
        faulting = _faulting(scenario, effort, driver)
        try:
            said = time.monotonic()
            while not (driver.over or interrupts.seen):
                time.sleep(POLL_SECONDS)
                if time.monotonic() - said >= SAY_SECONDS and driver.read().started_at is not None:
                    say(_progress(driver.read(), sampler))
                    said = time.monotonic()
            driver.stop()
        finally:
            if faulting is not None:
                faulting.join()
    return driver.read(), faulting


def _faulting(scenario: Scenario, effort: Effort, driver: Driver) -> Faulting | None:
    """In the middle of the run, or of the time that it would have; in a burst, as soon as the first are answered."""
    if effort.fault is None or effort.campaign is None:
        return None
    half = 30 * (effort.minutes or scenario.minutes)

    def is_time() -> bool:
        recording = driver.recording
        if scenario.burst:
            return bool(recording.requests)
        return recording.started_at is not None and time.time() - recording.started_at >= half

    faulting = Faulting(effort.campaign, effort.fault, is_time)
    faulting.start()
    return faulting


def _progress(recording: Recording, sampler: Sampler) -> str:
    seconds = time.time() - (recording.started_at or time.time())
    last = sampler.last
    users = recording.users[-1][1] if recording.users else 0
    asked = f"{users} users, {len(recording.requests):,} answers, {len(recording.failures):,} failed"
    waiting = f"; {last.outbox:,} events in outboxes, {last.messages:,} messages in queues" if last else ""
    return f"  {seconds:4.0f} s: {asked}{waiting}"


def _settings(scenario: Scenario, effort: Effort) -> dict[str, str]:
    if scenario.burst:
        settings = {"buyers": f"{effort.users:,}, within one second"}
    elif effort.minutes is None:
        settings = {"users": "as chosen on the page", "length": "until it was stopped on the page"}
    else:
        users = f"{effort.users:,}, of whom {effort.rate:g} start each second"
        settings = {"users": users, "length": f"{effort.minutes:g} minutes"}
    settings["customers"] = ", ".join(scenario.customers)
    if effort.fault is not None:
        settings["fault"] = f"{effort.fault.name}: {effort.fault.summary}"
    return settings
