"""Questions to all databases at once: one that does not answer costs the others nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

import structlog
from django.conf import settings
from django.db import DatabaseError, InterfaceError, connections

from eventing import fan_out
from eventing.models import DeadLetter
from eventing.outbox import Lag, lag
from eventing.queues import BrokerUnavailable

T = TypeVar("T")

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer(Generic[T]):
    """What a database has said; `error` names why it has not."""

    value: T | None = None
    error: str = ""


def ask_databases(question: Callable[[str], T], *, seconds: float | None = None) -> dict[str, Answer[T]]:
    """The answer of each database to `question(alias)`, in the order of the settings.

    Each is asked in a thread of its own, so this takes as long as the slowest: a few seconds if one is away.
    """
    return ask_all({alias: partial(question, alias) for alias in settings.DATABASES}, seconds=seconds)


def ask_all(questions: Mapping[str, Callable[[], T]], *, seconds: float | None = None) -> dict[str, Answer[T]]:
    """The answer to each question under its name, each asked in a thread of its own.

    What has not come after `seconds` is given up; its thread ends when whoever is asked gives up too.
    """
    asked = fan_out.concurrently(
        {name: partial(_ask, name, question) for name, question in questions.items()}, seconds=seconds
    )
    late: Answer[T] = Answer(error=f"nothing within {seconds} s")
    return {name: future.result() if future.done() else late for name, future in asked.items()}


def _ask(name: str, question: Callable[[], T]) -> Answer[T]:
    try:
        return Answer(value=question())
    except (DatabaseError, InterfaceError, BrokerUnavailable) as error:
        logger.warning("dependency.no_answer", name=name, error=str(error))
        return Answer(error=type(error).__name__)
    finally:
        connections.close_all()


def outbox_lags() -> dict[str, Answer[Lag]]:
    """How far the relay is behind in each database, and whether there is one at work."""
    return ask_databases(lag)


def open_dead_letters() -> int:
    """How many events wait for an operator."""
    return DeadLetter.objects.using("default").filter(status=DeadLetter.Status.OPEN).count()


def open_dead_letters_by_subscriber(*, limit: int) -> dict[str, int]:
    """How many events of each subscriber wait for an operator, counting `limit` of them in all."""
    rows = DeadLetter.objects.using("default").filter(status=DeadLetter.Status.OPEN).order_by("subscriber")
    return dict(Counter(rows.values_list("subscriber", flat=True)[:limit]))
