"""One run of a scenario: prepare, let the customers come, wait until everything is quiet, judge."""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from lab.faults.campaign import Campaign, Injected
from lab.faults.catalogue import Fault
from lab.harness import say
from lab.harness.interrupts import Interrupts
from lab.harness.shell import ShellError
from lab.harness.system import NotQuiet, System
from lab.load.charts import Sample
from lab.load.driving import Driver
from lab.load.recording import Recording
from lab.load.report import Section
from lab.load.scenarios import COUPON_LIMIT, FLASH_PIECES, Observed, Scenario, common, verdict_of
from lab.programs import questions, shop
from lab.traffic import meanwhile

PLAN = "plan.json"
POLL_SECONDS = 0.2
SAY_SECONDS = 5.0
SAMPLE_SECONDS = 1.0
WEB_MINUTES = 10.0  # that the stock is made for, when the end of the run is not known
PRODUCTS = 10
FEWEST = 1_000  # pieces of each product
PASSWORD = "loadtest"  # noqa: S105 (of people in databases that are gone afterwards)


@dataclass(slots=True)
class Faulting:
    """A fault that is injected once, beside the customers of a load; times in seconds since the epoch."""

    campaign: Campaign
    fault: Fault
    begun_at: float | None = None
    healed_at: float | None = None
    findings: list[str] = field(default_factory=list)
    _injected: Injected | None = None
    _thread: threading.Thread | None = None

    def begin(self) -> None:
        """May be repeated."""
        if self._thread is None:
            self.begun_at = time.time()
            self._thread = threading.Thread(target=self._inject, daemon=True)
            self._thread.start()

    def join(self) -> None:
        if self._thread is None:
            self.findings.append("it did not come to it: the load was over before its moment")
        else:
            self._thread.join()

    @property
    def span(self) -> tuple[float, float] | None:
        return None if self.begun_at is None else (self.begun_at, self.healed_at or time.time())

    def conclude(self) -> None:
        """Compare what the fault's customers were promised with what is there; for a shop that is quiet."""
        if self._injected is not None:
            with self._noting_errors():
                self.findings += self.campaign.conclude(self._injected).verdict.findings

    def _inject(self) -> None:
        with self._noting_errors():
            self._injected = self.campaign.inject(self.fault)
        self.healed_at = time.time()

    @contextmanager
    def _noting_errors(self) -> Iterator[None]:
        """Whatever goes wrong, the run is judged all the same."""
        try:
            yield
        except Exception as error:
            self.findings.append(f"{type(error).__name__}: {error}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How a scenario is run. `minutes` is None with the web page, where somebody says when it is over.

    `drain` seconds may pass until everything is quiet.
    """

    users: int
    rate: float
    minutes: float | None
    drain: float
    faulting: Faulting | None = None


@dataclass(slots=True)
class Prepared:
    """What was made for one run: `stock` is how many pieces came in of which product, `rare` that of a flash sale."""

    people: list[shop.Person]
    stock: dict[str, int]
    rare: str = ""
    coupon: str = ""


def prepare(system: System, scenario: Scenario, users: int, minutes: float, plan: Path) -> Prepared:
    """Make people, products and a coupon, and write a plan of what their customers need to know. Raises ShellError."""
    name = f"LOAD-{uuid4().hex[:6].upper()}"
    prepared = Prepared(system.call(shop.people, users, password=PASSWORD), {})
    catalogue, categories = system.call(shop.offered)
    if scenario.burst:
        prepared.rare = f"{name}-RARE"
        prepared.stock = {prepared.rare: FLASH_PIECES}
    else:
        # Enough for an order a second of each user, and little enough that the chart of the stock shows it.
        pieces = max(FEWEST, round(users * minutes * 60))
        prepared.stock = {f"{name}-{number}": pieces for number in range(1, PRODUCTS + 1)}
    system.call(shop.products, prepared.stock)
    if scenario.name == "coupon-rush":
        prepared.coupon = name
        system.call(shop.coupon, name, COUPON_LIMIT)
    known: dict[str, Any] = {
        "people": prepared.people,
        "skus": [sku for sku in prepared.stock if sku != prepared.rare],
        "rare": prepared.rare,
        "coupon": prepared.coupon,
        "catalogue": catalogue,
        "categories": categories,
        "password": PASSWORD,
    }
    plan.write_text(json.dumps(known))
    return prepared


@contextmanager
def sampling(system: System, skus: Sequence[str]) -> Iterator[list[Sample]]:
    """Look every second at what cannot be seen from outside. While a service is away there is no sample: a gap in the
    charts says so.
    """
    samples: list[Sample] = []

    def look() -> None:
        with suppress(ShellError):
            samples.append(system.call(questions.sample, time.time(), list(skus)))

    with meanwhile(look, every=SAMPLE_SECONDS):
        yield samples


def stage(system: System, scenario: Scenario, effort: Effort, interrupts: Interrupts) -> Section:
    """Run a scenario. Raises ShellError, LoadFailed."""
    say(f"{scenario.name}: {scenario.summary}")
    left = ""
    with tempfile.TemporaryDirectory(prefix="wharf-load-") as name:
        folder = Path(name)
        prepared = prepare(system, scenario, effort.users, effort.minutes or WEB_MINUTES, folder / PLAN)
        with sampling(system, list(prepared.stock)) as samples:
            with interrupts.ending_the_load():
                recording = _load(system, scenario, effort, folder, samples, interrupts)
            say("  no more requests; waiting until outboxes and queues are empty …")
            try:
                system.wait_until_quiet(effort.drain, progress=True)
            except NotQuiet as error:
                left = str(error)
            ended_at = time.time()
    if faulting := effort.faulting:
        faulting.conclude()
    say("  auditing …")
    customers = {person.customer_id for person in prepared.people}
    facts = system.facts(customers, prepared.stock, [prepared.coupon])
    failed = system.processes.failed() if faulting is None else None  # in a laboratory they are meant to end
    observed = Observed(
        recording=recording,
        facts=facts,
        verdict=verdict_of(recording, facts, customers, prepared.stock),
        drained=ended_at - (recording.stopped_at or ended_at),
        drain_limit=effort.drain,
        left=left,
        buyers=len(prepared.people) if scenario.burst else 0,
        pieces=prepared.stock.get(prepared.rare, 0),
        ended=[failed] if failed else [],
        fault=faulting.fault.name if faulting else "",
        fault_findings=faulting.findings if faulting else [],
    )
    return Section(
        name=scenario.name,
        summary=scenario.summary,
        settings=_settings(scenario, effort),
        recording=recording,
        samples=[sample for sample in samples if sample.at >= (recording.started_at or 0.0)],
        figures=[*scenario.judge(observed), *common(observed)],
        ended_at=ended_at,
        fault=observed.fault,
        fault_span=faulting.span if faulting else None,
        findings=observed.verdict.findings,
        notes=["It was interrupted before its time."] if interrupts.seen and effort.minutes is not None else [],
    )


def _load(
    system: System,
    scenario: Scenario,
    effort: Effort,
    folder: Path,
    samples: Sequence[Sample],
    interrupts: Interrupts,
) -> Recording:
    with Driver(
        target=system.url,
        customers=scenario.customers,
        users=1 if scenario.burst else effort.users,
        rate=effort.rate,
        minutes=0.0 if scenario.burst else effort.minutes or 0.0,
        page=effort.minutes is None,
        plan=folder / PLAN,
        log_dir=folder,
    ) as driver:
        if driver.page:
            say(f"  Locust's page: {driver.url}/  (start and stop the run there, or end it here with Ctrl-C)")
        try:
            said = time.monotonic()
            while not (driver.over or interrupts.seen):
                if effort.faulting and _is_middle(scenario, effort, driver.recording):
                    effort.faulting.begin()
                time.sleep(POLL_SECONDS)
                if time.monotonic() - said >= SAY_SECONDS and driver.recording.started_at is not None:
                    say(_progress(driver.recording, samples))
                    said = time.monotonic()
            driver.stop()
        finally:
            if effort.faulting:
                effort.faulting.join()
        return driver.read()


def _is_middle(scenario: Scenario, effort: Effort, recording: Recording) -> bool:
    """Of the run, or of the time that it would have; of a burst, as soon as the first are answered."""
    if scenario.burst:
        return bool(recording.requests)
    half = 30 * (effort.minutes or scenario.minutes)
    return recording.started_at is not None and time.time() - recording.started_at >= half


def _progress(recording: Recording, samples: Sequence[Sample]) -> str:
    seconds = time.time() - (recording.started_at or time.time())
    users = recording.users[-1][1] if recording.users else 0
    text = f"{users} users, {len(recording.requests):,} answers, {len(recording.failures):,} failed"
    if samples:
        last = samples[-1]
        text += f"; {last.outbox:,} events in outboxes, {last.messages:,} messages in queues"
    return f"  {seconds:4.0f} s: {text}"


def _settings(scenario: Scenario, effort: Effort) -> dict[str, str]:
    if scenario.burst:
        settings = {"buyers": f"{effort.users:,}, within one second"}
    elif effort.minutes is None:
        settings = {"users": "as chosen on the page", "length": "until it was stopped on the page"}
    else:
        users = f"{effort.users:,}, of whom {effort.rate:g} start each second"
        settings = {"users": users, "length": f"{effort.minutes:g} minutes"}
    settings["customers"] = ", ".join(scenario.customers)
    if effort.faulting:
        settings["fault"] = f"{effort.faulting.fault.name}: {effort.faulting.fault.summary}"
    return settings
