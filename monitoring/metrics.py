"""What Prometheus is told. Numbers of the whole installation are asked for when it scrapes, so every process answers
the same; a process's own come from all processes that share `PROMETHEUS_MULTIPROC_DIR`, if that is set.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import structlog
from django.db import DatabaseError, InterfaceError
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from monitoring import selectors

logger = structlog.get_logger(__name__)


class Backbone(Collector):
    """How far events have come. What cannot be asked is left out, and `wharf_database_up` says why."""

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("wharf_database_up", "1 if the database answers.", labels=["database"])
        waiting = GaugeMetricFamily("wharf_outbox_events", "Events not published yet.", labels=["database"])
        age = GaugeMetricFamily(
            "wharf_outbox_oldest_seconds", "Age of the oldest event not published yet.", labels=["database"]
        )
        for alias, answer in selectors.outbox_lags().items():
            up.add_metric([alias], 0 if answer.value is None else 1)
            if answer.value is not None:
                waiting.add_metric([alias], answer.value.waiting)
                age.add_metric([alias], answer.value.seconds)
        yield from (up, waiting, age)
        try:
            dead = selectors.open_dead_letters()
        except (DatabaseError, InterfaceError) as error:
            logger.warning("metrics.no_dead_letters", error=str(error))
            return
        yield GaugeMetricFamily("wharf_dead_letters_open", "Events that wait for an operator.", value=dead)


def registry() -> CollectorRegistry:
    """Everything there is to tell, for one scrape."""
    registry = CollectorRegistry()
    registry.register(Backbone())
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        MultiProcessCollector(registry)
    else:
        registry.register(REGISTRY)
    return registry
