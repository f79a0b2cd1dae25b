"""Questions to several databases, each with a deadline: one that is slow or away costs the others nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
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
    """What each database has said, and the aliases of those that have said nothing in time."""

    values: dict[str, T]
    silent: tuple[str, ...]


def ask(aliases: Collection[str], question: Callable[[str], T], *, seconds: float) -> Answers[T]:
    """The answer of each database to `question(alias)`, in the order of the aliases.

    Each has `seconds`; PostgreSQL is told, so that a late statement ends there, too. Several PostgreSQL databases are
    asked in threads, all at once. One alone is asked in this thread, and so is a database that this thread has a
    transaction in, which others cannot see, and SQLite, which has no server to wait for.
    """
    apart = [alias for alias in aliases if is_postgresql(connections[alias]) and not connections[alias].in_atomic_block]
    if len(apart) == 1:
        apart = []
    for alias in apart:
        connections[alias].close()  # back to the pool: a thread may be waiting for it
    asked = at_once({alias: partial(_ask_in_thread, alias, question, seconds) for alias in apart}, seconds=seconds)
    values: dict[str, T] = {}
    silent: list[str] = []
    for alias in aliases:
        try:
            if alias not in asked:
                values[alias] = _ask(alias, question, seconds)
            elif asked[alias].done():
                values[alias] = asked[alias].result()
            else:
                raise OperationalError(f"nothing within {seconds} s")
        except Error as error:
            if not is_transient(error):
                raise
            logger.warning("database.no_answer", alias=alias, error=str(error))
            silent.append(alias)
    return Answers(values=values, silent=tuple(silent))


def at_once(questions: Mapping[str, Callable[[], T]], *, seconds: float | None = None) -> dict[str, Future[T]]:
    """Ask each question in a thread of its own; returns when all are done, or after `seconds`.

    A question that is not done by then is given up; its thread ends when whoever is asked gives up, too.
    """
    threads = ThreadPoolExecutor(max_workers=len(questions) or 1, thread_name_prefix="ask")
    try:
        futures = {name: threads.submit(question) for name, question in questions.items()}
        wait(futures.values(), timeout=seconds)
        return futures
    finally:
        threads.shutdown(wait=False)


def _ask_in_thread(alias: str, question: Callable[[str], T], seconds: float) -> T:
    try:
        return _ask(alias, question, seconds)
    finally:
        connections.close_all()


def _ask(alias: str, question: Callable[[str], T], seconds: float) -> T:
    with time_limit(connections[alias], seconds):
        return question(alias)
