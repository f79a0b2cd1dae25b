"""Whether this process can do its work, and which of the things that it leans on are there.

Without the default database, or the one of the products, nothing can be sold: not ready. Without a shard its customers
wait while the others are served; without the broker or a relay orders are accepted and go on later; without the cache
everything is slower. These are degraded, not down: taking the process out of service would only make it worse.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import StrEnum
from uuid import uuid4

import structlog
from celery import current_app
from django.core.cache import cache
from django.db import DEFAULT_DB_ALIAS, connections
from kombu.exceptions import KombuError

from eventing.relay import is_led
from monitoring.selectors import ask_databases
from sharding.router import database_of

BROKER_SECONDS = 3

logger = structlog.get_logger(__name__)


class Status(StrEnum):
    OK = "ok"
    DEGRADED = "degraded"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependency:
    """`detail` is how long the answer took, or why there was none; nothing that strangers should not read."""

    ok: bool
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    status: Status
    dependencies: dict[str, Dependency]


def readiness() -> Readiness:
    """Ask every dependency; takes a few seconds at most when some are away."""
    dependencies = _databases() | {"relay": _relay(), "broker": _broker(), "cache": _cache()}
    needed = {DEFAULT_DB_ALIAS, database_of("inventory")}
    if not all(dependencies[alias].ok for alias in needed):
        status = Status.UNAVAILABLE
    elif not all(dependency.ok for dependency in dependencies.values()):
        status = Status.DEGRADED
    else:
        status = Status.OK
    return Readiness(status=status, dependencies=dependencies)


def _databases() -> dict[str, Dependency]:
    def ping(alias: str) -> float:
        started = time.perf_counter()
        with connections[alias].cursor() as cursor:
            cursor.execute("SELECT 1")
        return time.perf_counter() - started

    return {
        alias: _absent(answer.error) if answer.value is None else _present(answer.value)
        for alias, answer in ask_databases(ping).items()
    }


def _relay() -> Dependency:
    """A database that does not answer has a line of its own."""
    answers = ask_databases(is_led)
    if alone := [alias for alias, answer in answers.items() if answer.value is False]:
        return Dependency(ok=False, detail=f"nobody publishes the events of {', '.join(alone)}")
    return Dependency(ok=True, detail="at work on every database that answers")


def _broker() -> Dependency:
    started = time.perf_counter()
    connection = current_app.connection_for_write(connect_timeout=BROKER_SECONDS)
    try:
        connection.ensure_connection(max_retries=1, interval_start=0)
    except (KombuError, *connection.connection_errors, *connection.channel_errors) as error:
        logger.warning("broker.no_answer", error=str(error))
        return _absent(type(error).__name__)
    else:
        return _present(time.perf_counter() - started)
    finally:
        connection.release()


def _cache() -> Dependency:
    """Write and read something: the cache hides its failures, so that nobody needs to care."""
    started = time.perf_counter()
    key, value = "monitoring:readiness", uuid4().hex
    cache.set(key, value, timeout=10)
    if cache.get(key) != value:
        return _absent("what was written is not there")
    return _present(time.perf_counter() - started)


def _present(seconds: float) -> Dependency:
    return Dependency(ok=True, detail=f"answers in {seconds * 1000:.1f} ms")


def _absent(why: str) -> Dependency:
    return Dependency(ok=False, detail=f"no answer: {why}")
