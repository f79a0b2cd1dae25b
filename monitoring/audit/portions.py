"""The audit in small portions: each looks for a short time, and the next goes on where it has ended.

A portion has no time to wait until what seems wrong is cleared. So the next one looks at those suspects again first.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from typing import TypedDict

import structlog
from django.db import OperationalError, connections

from eventing import registry
from eventing.databases import time_limit
from monitoring.audit.broker import Broker
from monitoring.audit.cases import ranges
from monitoring.audit.report import OFFENDERS, DatabaseQuestion, Scope
from monitoring.audit.running import CHECKS, Run, Tally
from sharding.router import context_databases, database_of

SECONDS = 2.0  # that a portion goes on for; it ends after the stretch or the statement that it is at
END = 1 << 63  # no id is as large
CASES = 500  # orders that are read together
SETTLE = timedelta(seconds=60)

logger = structlog.get_logger(__name__)


class Found(TypedDict):
    """Violations of one check, and when the last of them was found."""

    violations: int
    offenders: list[str]
    at: str


@dataclass(slots=True, kw_only=True)
class Round:
    """How far a round is that looks at everything once: `questions` to databases are asked, then cases from `after` on.

    `suspects` are to be looked at again: offenders and where, by check. `skipped` are checks that were not done in this
    round, because a database was away or would have taken too long.
    """

    questions: int = 0
    after: int = 0
    cases: int = 0
    suspects: dict[str, dict[str, int | str]] = field(default_factory=dict)
    found: dict[str, Found] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)


registry.describe(Round)


def go_on(state: Round, now: datetime, *, seconds: float = SECONDS) -> bool:
    """Look at the next portion of everything; True if the round is complete with it."""
    deadline = time.monotonic() + seconds
    run = Run(Scope(now=now, settle=SETTLE, broker=Broker()), [Tally(check) for check in CHECKS], lambda text: None)
    if not run.begin():
        return False
    _look_again(state, run)
    complete = _ask_databases(state, run, deadline) and _read_cases(state, run, deadline)
    for tally in run.tallies:
        if tally.check.at_once:
            _add(state, tally, now)
        elif tally.suspects:
            state.suspects[tally.check.name] = {**state.suspects.get(tally.check.name, {}), **tally.suspects}
    return complete


def _look_again(state: Round, run: Run) -> None:
    """Who offends for the second time has done it. While a database is away nobody is acquitted nor found guilty."""
    if run.away or not state.suspects:
        return
    for tally in run.tallies:
        tally.suspects = dict(state.suspects.get(tally.check.name, {}))
    run.look_once_more()
    if run.away:
        return
    state.suspects = {}
    for tally in run.tallies:
        _add(state, tally, run.scope.now)
        tally.suspects = {}


def _add(state: Round, tally: Tally, now: datetime) -> None:
    name = tally.check.name
    known = state.found.get(name, Found(violations=0, offenders=[], at=""))
    new = [offender for offender in tally.suspects if offender not in known["offenders"]]
    if not new and not tally.more:
        return
    if not known["violations"]:
        logger.error("audit.violation", check=name, offenders=new[:OFFENDERS])
    state.found[name] = Found(
        violations=known["violations"] + len(new) + tally.more,
        offenders=[*known["offenders"], *new][:OFFENDERS],
        at=now.isoformat(),
    )


def _ask_databases(state: Round, run: Run, deadline: float) -> bool:
    """Ask the questions that are left, each for no longer than a portion; whether all of them are asked."""
    for tally, question, alias in islice(run.questions(), state.questions, None):
        if not run.guard([alias], partial(_ask, state, run, tally, question, alias)):
            _skip(state, tally)
        state.questions += 1
        if time.monotonic() > deadline:
            return False
    return True


def _ask(state: Round, run: Run, tally: Tally, question: DatabaseQuestion, alias: str) -> None:
    try:
        with time_limit(connections[alias], SECONDS):
            run.ask(tally, question, alias)
    except OperationalError as error:
        logger.info("audit.question_skipped", check=tally.check.name, database=alias, error=str(error))
        _skip(state, tally)


def _read_cases(state: Round, run: Run, deadline: float) -> bool:
    """Read cases until the time is up; whether all are read."""
    for alias, low, high in ranges():
        low = max(low, state.after)
        while low <= high:
            if not run.guard([alias, *context_databases()], partial(_read, state, run, alias, low, high)):
                for tally, _ in run.of_cases:
                    _skip(state, tally)
                state.after = high + 1
            low = state.after
            if time.monotonic() > deadline and low < END:
                return False
    return True


def _read(state: Round, run: Run, alias: str, low: int, high: int) -> None:
    last = min(_ends(alias, low, high))
    state.cases += run.read(alias, low, last)
    state.after = last + 1


def _ends(alias: str, low: int, high: int) -> Iterator[int]:
    """Ids, of which the lowest is the last of a stretch that has no more than so many orders, or mails, in it."""
    yield high
    for where, table in ((alias, "orders_order"), (database_of("notifications"), "notifications_message")):
        with connections[where].cursor() as cursor:
            cursor.execute(
                f"SELECT id FROM {table} WHERE id BETWEEN %s AND %s ORDER BY id LIMIT 1 OFFSET %s",
                [low, high, CASES - 1],
            )
            yield from (one for (one,) in cursor.fetchall())


def _skip(state: Round, tally: Tally) -> None:
    if tally.check.name not in state.skipped:
        state.skipped.append(tally.check.name)
