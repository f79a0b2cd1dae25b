"""Questions to all databases at once: one that does not answer costs the others nothing."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

import structlog
from django.conf import settings
from django.db import DatabaseError, InterfaceError, connections

from eventing.models import DeadLetter
from eventing.relay import Lag, lag

T = TypeVar("T")

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer(Generic[T]):
    """What a database has said; `error` names why it has not."""

    value: T | None = None
    error: str = ""


def ask_databases(question: Callable[[str], T]) -> dict[str, Answer[T]]:
    """The answer of each database to `question(alias)`, in the order of the settings.

    Each is asked in a thread of its own, so this takes as long as the slowest: a few seconds if one is away.
    """
    aliases = list(settings.DATABASES)
    with ThreadPoolExecutor(max_workers=len(aliases), thread_name_prefix="ask-databases") as threads:
        return dict(zip(aliases, threads.map(lambda alias: _ask(alias, question), aliases), strict=True))


def _ask(alias: str, question: Callable[[str], T]) -> Answer[T]:
    try:
        return Answer(value=question(alias))
    except (DatabaseError, InterfaceError) as error:
        logger.warning("database.no_answer", alias=alias, error=str(error))
        return Answer(error=type(error).__name__)
    finally:
        connections[alias].close()


def outbox_lags() -> dict[str, Answer[Lag]]:
    """How far the relay is behind in each database."""
    return ask_databases(lag)


def open_dead_letters() -> int:
    """How many events wait for an operator."""
    return DeadLetter.objects.using("default").filter(status=DeadLetter.Status.OPEN).count()
