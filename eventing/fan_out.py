"""Queries and work for several databases, where one that is slow or unavailable does not hold up the others."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, TypeVar

import structlog
from django.db import Error, OperationalError, connections

from eventing.databases import is_postgresql, time_limit
from eventing.transient import is_transient

T = TypeVar("T")

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers(Generic[T]):
    """What each database has returned, and the errors of those that are unavailable, by alias."""

    values: dict[str, T] = field(default_factory=dict)
    unavailable: dict[str, Exception] = field(default_factory=dict)


def query(aliases: Collection[str], question: Callable[[str], T], *, seconds: float) -> Answers[T]:
    """The answer of each database to `question(alias)`, in the order of the aliases.

    Each has `seconds`; PostgreSQL cancels a statement that takes longer. Several PostgreSQL databases are queried at
    the same time, in threads. One alone is queried in this thread, and so is a database that this thread has a
    transaction in, which others cannot see, and SQLite, which has no server to wait for.
    """
    apart = [alias for alias in aliases if is_postgresql(connections[alias]) and not connections[alias].in_atomic_block]
    if len(apart) == 1:
        apart = []
    for alias in apart:
        connections[alias].close()  # back to the pool: a thread may be waiting for it
    futures = concurrently({alias: partial(_in_thread, alias, question, seconds) for alias in apart}, seconds=seconds)
    answers: Answers[T] = Answers()
    for alias in aliases:
        try:
            if alias not in futures:
                answers.values[alias] = _limited(alias, question, seconds)
            elif futures[alias].done():
                answers.values[alias] = futures[alias].result()
            else:
                raise OperationalError(f"no answer within {seconds} s")
        except Error as error:
            if not is_transient(error):
                raise
            logger.warning("database.unavailable", alias=alias, error=str(error))
            answers.unavailable[alias] = error
    return answers


def concurrently(calls: Mapping[str, Callable[[], T]], *, seconds: float | None = None) -> dict[str, Future[T]]:
    """Make each call in a thread of its own; returns when all are done, or after `seconds`.

    The thread of a call that takes longer goes on until the call returns.
    """
    threads = ThreadPoolExecutor(max_workers=len(calls) or 1, thread_name_prefix="fan-out")
    try:
        futures = {name: threads.submit(call) for name, call in calls.items()}
        wait(futures.values(), timeout=seconds)
        return futures
    finally:
        threads.shutdown(wait=False)


def on_each(aliases: Iterable[str], work: Callable[[str], T], *, task: str) -> Answers[T]:
    """Do `work(alias)` on each database in turn; one that is unavailable or busy is skipped.

    Any other error is raised too, but only after the last database.
    """
    answers: Answers[T] = Answers()
    failed: Exception | None = None
    for alias in aliases:
        try:
            answers.values[alias] = work(alias)
        except Exception as error:
            if is_transient(error):
                logger.warning("database.skipped", alias=alias, task=task, error=str(error))
                answers.unavailable[alias] = error
            else:
                logger.exception("database.failed", alias=alias, task=task)
                failed = failed or error
    if failed is not None:
        raise failed
    return answers


def _in_thread(alias: str, question: Callable[[str], T], seconds: float) -> T:
    try:
        return _limited(alias, question, seconds)
    finally:
        connections.close_all()


def _limited(alias: str, question: Callable[[str], T], seconds: float) -> T:
    with time_limit(connections[alias], seconds):
        return question(alias)
