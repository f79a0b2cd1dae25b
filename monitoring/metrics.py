"""What Prometheus is told. Numbers of the whole installation are asked for when it scrapes, so every process answers
the same; a process's own come from all processes that share `PROMETHEUS_MULTIPROC_DIR`, if that is set.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import structlog
from django.db import DatabaseError, InterfaceError
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from caching.breakers import State
from eventing import queues
from eventing.queues import BrokerUnavailable
from monitoring import audit_rounds, circuits, health, schedules, selectors

BROKER_SECONDS = 1.0
WAY_OF_DEAD_LETTERS = frozenset({"exchange domain.dead", "queue dead-letters"})

logger = structlog.get_logger(__name__)


class Backbone(Collector):
    """How far events have come. What cannot be asked is left out, and `wharf_database_up` says why."""

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("wharf_database_up", "1 if the database answers.", labels=["database"])
        waiting = GaugeMetricFamily("wharf_outbox_events", "Events not published yet.", labels=["database"])
        age = GaugeMetricFamily(
            "wharf_outbox_oldest_seconds", "Age of the oldest event not published yet.", labels=["database"]
        )
        led = GaugeMetricFamily("wharf_relay_leading", "1 if a relay is at work on it.", labels=["database"])
        for alias, answer in selectors.outbox_lags().items():
            up.add_metric([alias], 0 if answer.value is None else 1)
            if answer.value is not None:
                waiting.add_metric([alias], answer.value.waiting)
                age.add_metric([alias], answer.value.seconds)
                led.add_metric([alias], answer.value.led)
        yield from (up, waiting, age, led)
        works = GaugeMetricFamily("wharf_check_ok", "1 if what this check of /readyz looks at works.", labels=["check"])
        for name, part in health.readiness().dependencies.items():
            works.add_metric([name], part.ok)
        yield works
        yield from _dead_letters()
        yield from _queues()
        yield from _circuits()
        yield from _clocks()
        yield from _audits()


def _dead_letters() -> Iterator[Metric]:
    """How many there are is not known while those of the broker have no way into the table."""
    with suppress(BrokerUnavailable):
        if WAY_OF_DEAD_LETTERS.intersection(queues.missing_topology(seconds=BROKER_SECONDS)):
            return
    try:
        dead = selectors.open_dead_letters()
    except (DatabaseError, InterfaceError) as error:
        logger.warning("metrics.no_dead_letters", error=str(error))
    else:
        yield GaugeMetricFamily("wharf_dead_letters_open", "Events that wait for an operator.", value=dead)


def _queues() -> Iterator[Metric]:
    up = GaugeMetricFamily("wharf_broker_up", "1 if the broker answers.")
    messages = GaugeMetricFamily("wharf_queue_messages", "Batches of events that wait for a worker.", labels=["queue"])
    try:
        depths = queues.depths(seconds=BROKER_SECONDS)
    except BrokerUnavailable:
        up.add_metric([], 0)
    else:
        up.add_metric([], 1)
        for depth in depths:
            if depth.messages is not None:
                messages.add_metric([depth.name], depth.messages)
    yield from (up, messages)


def _circuits() -> Iterator[Metric]:
    family = GaugeMetricFamily(
        "wharf_circuits", "Processes whose circuit breaker for a service is not closed.", labels=["service", "state"]
    )
    try:
        for circuit in circuits.circuits():
            family.add_metric([circuit.name, State.OPEN], circuit.open)
            family.add_metric([circuit.name, State.HALF_OPEN], circuit.half_open)
    except (DatabaseError, InterfaceError) as error:
        logger.warning("metrics.no_circuits", error=str(error))
    yield family


def _clocks() -> Iterator[Metric]:
    ahead = GaugeMetricFamily(
        "wharf_clock_ahead_seconds", "How far a clock is ahead of the default database's.", labels=["process"]
    )
    try:
        for process, seconds in schedules.clocks_ahead().items():
            ahead.add_metric([process], seconds)
    except (DatabaseError, InterfaceError) as error:
        logger.warning("metrics.no_clocks", error=str(error))
    yield ahead


def _audits() -> Iterator[Metric]:
    violations = GaugeMetricFamily(
        "wharf_audit_violations", "Broken promises that the newest audits know of.", labels=["check"]
    )
    ran = GaugeMetricFamily(
        "wharf_audit_last_run_timestamp_seconds",
        "When an audit of everything, a round of portions, or a portion was done last.",
        labels=["audit"],
    )
    try:
        known = audit_rounds.known()
    except (DatabaseError, InterfaceError) as error:
        logger.warning("metrics.no_audits", error=str(error))
    else:
        for check, number in known.violations.items():
            violations.add_metric([check], number)
        for audit, at in known.at.items():
            ran.add_metric([audit], at.timestamp())
    yield from (violations, ran)


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheUse:
    """Where a cache's answers have come from since the processes of this container were started."""

    name: str
    memory: int
    redis: int
    database: int

    @property
    def reads(self) -> int:
        return self.memory + self.redis + self.database

    @property
    def memory_percent(self) -> float:
        """Of all reads."""
        return 100 * self.memory / self.reads

    @property
    def redis_percent(self) -> float | None:
        """Of those that the memory could not answer; None if there were none."""
        asked = self.redis + self.database
        return 100 * self.redis / asked if asked else None


def registry() -> CollectorRegistry:
    """Everything there is to tell, for one scrape."""
    registry = _of_processes()
    registry.register(Backbone())
    return registry


def cache_uses() -> list[CacheUse]:
    """The caches that have been asked, by name."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for metric in _of_processes().collect():
        for sample in metric.samples if metric.name == "wharf_cache_reads" else ():
            if sample.name.endswith("_total"):
                counts[sample.labels["cache"]][sample.labels["level"]] += int(sample.value)
    return [
        CacheUse(name=name, memory=levels["memory"], redis=levels["redis"], database=levels["database"])
        for name, levels in sorted(counts.items())
    ]


def _of_processes() -> CollectorRegistry:
    registry = CollectorRegistry()
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        MultiProcessCollector(registry)
    else:
        registry.register(REGISTRY)
    return registry
