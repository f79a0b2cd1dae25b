"""What Prometheus is told. Numbers of the whole installation are asked for when it scrapes, so every process answers
the same; a process's own come from all processes that share `PROMETHEUS_MULTIPROC_DIR`, if that is set.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import structlog
from django.db import DatabaseError, InterfaceError
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from caching.breakers import State
from eventing import queues
from eventing.outbox import Lag
from eventing.queues import BrokerUnavailable
from monitoring import audit_rounds, circuits, health, schedules, selectors

BROKER_SECONDS = 1.0
WAY_OF_DEAD_LETTERS = frozenset({"exchange domain.dead", "queue dead-letters"})

T = TypeVar("T")

logger = structlog.get_logger(__name__)


class Backbone(Collector):
    """How far events have come. What cannot be asked is left out, and `wharf_database_up` says why."""

    def collect(self) -> Iterator[Metric]:
        lags = selectors.outbox_lags()
        known = {alias: answer.value for alias, answer in lags.items() if answer.value is not None}
        yield _gauge(
            "wharf_database_up", "1 if the database answers.", "database", {alias: alias in known for alias in lags}
        )
        for name, text, of in OF_OUTBOXES:
            yield _gauge(name, text, "database", {alias: of(lag) for alias, lag in known.items()})
        parts = health.readiness().dependencies
        yield _gauge(
            "wharf_check_ok",
            "1 if what this check of /readyz looks at works.",
            "check",
            {name: part.ok for name, part in parts.items()},
        )
        yield from _dead_letters()
        yield from _queues()
        yield from _circuits()
        yield _gauge(
            "wharf_clock_ahead_seconds",
            "How far a clock is ahead of the default database's.",
            "process",
            _asked(schedules.clocks_ahead) or {},
        )
        yield from _audits()


OF_OUTBOXES: tuple[tuple[str, str, Callable[[Lag], float]], ...] = (
    ("wharf_outbox_events", "Events not published yet.", lambda lag: lag.waiting),
    ("wharf_outbox_oldest_seconds", "Age of the oldest event not published yet.", lambda lag: lag.seconds),
    ("wharf_relay_leading", "1 if a relay is at work on it.", lambda lag: lag.led),
)


def _gauge(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for labelled, value in values.items():
        family.add_metric([labelled], value)
    return family


def _asked(ask: Callable[[], T]) -> T | None:
    """The answer; None if the database gives none."""
    try:
        return ask()
    except (DatabaseError, InterfaceError) as error:
        logger.warning("metrics.no_answer", asked=ask.__name__, error=str(error))
        return None


def _dead_letters() -> Iterator[Metric]:
    """How many there are is not known while those of the broker have no way into the table."""
    with suppress(BrokerUnavailable):
        if WAY_OF_DEAD_LETTERS.intersection(queues.missing_topology(seconds=BROKER_SECONDS)):
            return
    dead = _asked(selectors.open_dead_letters)
    if dead is not None:
        yield GaugeMetricFamily("wharf_dead_letters_open", "Events that wait for an operator.", value=dead)


def _queues() -> Iterator[Metric]:
    try:
        depths = queues.depths(seconds=BROKER_SECONDS)
    except BrokerUnavailable:
        depths = None
    yield GaugeMetricFamily("wharf_broker_up", "1 if the broker answers.", value=depths is not None)
    messages = {depth.name: depth.messages for depth in depths or () if depth.messages is not None}
    yield _gauge("wharf_queue_messages", "Batches of events that wait for a worker.", "queue", messages)


def _circuits() -> Iterator[Metric]:
    family = GaugeMetricFamily(
        "wharf_circuits", "Processes whose circuit breaker for a service is not closed.", labels=["service", "state"]
    )
    for circuit in _asked(circuits.circuits) or ():
        family.add_metric([circuit.name, State.OPEN], circuit.open)
        family.add_metric([circuit.name, State.HALF_OPEN], circuit.half_open)
    yield family


def _audits() -> Iterator[Metric]:
    known = _asked(audit_rounds.known)
    yield _gauge(
        "wharf_audit_violations",
        "Broken promises that the newest audits know of.",
        "check",
        known.violations if known else {},
    )
    yield _gauge(
        "wharf_audit_last_run_timestamp_seconds",
        "When an audit of everything, a round of portions, or a portion was done last.",
        "audit",
        {audit: at.timestamp() for audit, at in known.at.items()} if known else {},
    )


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
