"""Periodic tasks find what is to be done in databases and queues, so what one run cannot do is done by the next."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import ParamSpec, TypeVar

import structlog

from eventing.transient import is_transient

P = ParamSpec("P")
T = TypeVar("T")

logger = structlog.get_logger(__name__)


def left_to_the_next_run(work: Callable[P, int]) -> Callable[P, int]:
    """Answer 0 when a database or the broker is lost in the middle: a task that fails becomes a dead letter."""

    @functools.wraps(work)
    def run(*args: P.args, **kwargs: P.kwargs) -> int:
        try:
            return work(*args, **kwargs)
        except Exception as error:
            if not is_transient(error):
                raise
            logger.warning("task.left_to_the_next_run", task=work.__name__, error=str(error))
            return 0

    return run


def on_each(aliases: Iterable[str], work: Callable[[str], T], *, task: str) -> dict[str, T]:
    """What `work(alias)` returns for each database; one that is away or busy is left to the next run.

    Raises what else has gone wrong, but only after the last database: none of them keeps the others waiting.
    """
    done: dict[str, T] = {}
    failed: Exception | None = None
    for alias in aliases:
        try:
            done[alias] = work(alias)
        except Exception as error:
            if is_transient(error):
                logger.warning("database.skipped", alias=alias, task=task, error=str(error))
            else:
                logger.exception("database.failed", alias=alias, task=task)
                failed = failed or error
    if failed is not None:
        raise failed
    return done
