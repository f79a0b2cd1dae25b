"""Runs the checks: all cases in one pass, then what single databases answer, then a second look at what seems wrong.

The databases are read one after the other while the shop goes on, so what seems wrong may only have been read at two
different moments. Before anything is reported it is looked at again until it is gone or patience has run out.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

import structlog
from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, DatabaseError, InterfaceError, connections

from eventing import chain, clocks
from eventing.databases import time_from_db
from monitoring import selectors
from monitoring.audit import accounts, ledger, messages, orders, orphans, streams, tables
from monitoring.audit.broker import Broker
from monitoring.audit.cases import cases_between, cases_of, ranges
from monitoring.audit.report import OFFENDERS, CaseQuestion, Check, DatabaseQuestion, Report, Result, Scope
from sharding import shards
from sharding.router import context_databases, database_of
from values.contexts import Promise, all_contexts


def _check(label: str, promise: Promise) -> Check:
    """What a context has declared, as a check of its database."""
    return Check(
        name=promise.name,
        title=promise.title,
        counts=promise.counts,
        hint=promise.hint,
        of_database=lambda alias, scope: promise.find(alias, scope.cutoff),
        databases=lambda: (database_of(label),),
        at_once=promise.at_once,
    )


CHECKS: tuple[Check, ...] = (
    *(_check(label, promise) for label, context in all_contexts().items() for promise in context.promises),
    *tables.CHECKS,
    *ledger.CHECKS,
    *accounts.CHECKS,
    *orphans.CHECKS,
    *orders.CHECKS,
    *messages.CHECKS,
    *streams.CHECKS,
)

PING_SECONDS = 5.0
LOOK_AGAIN = 1_000  # suspects of each check
PATIENCE = (timedelta(seconds=10), timedelta(seconds=60))  # at least and at most; it is the settling time otherwise
PAUSE_SECONDS = 0.5

Say = Callable[[str], None]

logger = structlog.get_logger(__name__)


class UnknownCheck(Exception):
    """There is no check of this name."""


@dataclass(slots=True)
class Tally:
    """A check under way. `suspects` are offenders and where to look again: a case's id, or a database."""

    check: Check
    checked: int = 0
    suspects: dict[str, int | str] = field(default_factory=dict)
    more: int = 0  # offenders that are not looked at again: there are so many that it is no coincidence
    not_asked: list[str] = field(default_factory=list)

    def add(self, where: int | str, checked: int, offenders: Iterable[str]) -> None:
        self.checked += checked
        for offender in offenders:
            if len(self.suspects) < LOOK_AGAIN:
                self.suspects[offender] = where
            elif offender not in self.suspects:
                self.more += 1

    def keep(self, places: Collection[int | str], still: Collection[str]) -> None:
        """Acquit the suspects of these places that do not offend any more."""
        self.suspects = {
            offender: where for offender, where in self.suspects.items() if where not in places or offender in still
        }

    def result(self, note: str) -> Result:
        offenders = tuple(self.suspects)[:OFFENDERS]
        return Result(
            check=self.check,
            checked=self.checked,
            violations=len(self.suspects) + self.more,
            offenders=offenders,
            note=note,
            unavailable=tuple(dict.fromkeys(self.not_asked)),
        )


def audit(
    *,
    settle: timedelta = timedelta(seconds=60),
    now: datetime | None = None,
    only: Collection[str] = (),
    say: Say = lambda text: None,
) -> Report:
    """Check every promise, or `only` those of these names, as of `now`.

    What is younger than `settle` is left out, so the shop may go on meanwhile; 0 is for a shop that has come to rest.
    Never raises because a database is away: the report names it. Raises UnknownCheck.
    """
    if unknown := set(only) - {check.name for check in CHECKS}:
        raise UnknownCheck(", ".join(sorted(unknown)))
    started = time.monotonic()
    scope = Scope(now=now or clocks.time_of_any(settings.DATABASES), settle=settle, broker=Broker())
    run = Run(scope, [Tally(check) for check in CHECKS if not only or check.name in only], say)
    run.go()
    return Report(
        at=scope.now,
        settle=settle,
        seconds=time.monotonic() - started,
        results=tuple(tally.result(run.note(tally.check)) for tally in run.tallies),
        unavailable=(*(alias for alias in settings.DATABASES if alias in run.away), *run.silent_broker()),
    )


class Run:
    """One audit, or a portion of one."""

    def __init__(self, scope: Scope, tallies: list[Tally], say: Say) -> None:
        self.scope = scope
        self.tallies = tallies
        self.say = say
        self.away: set[str] = set()
        self.of_cases = [(tally, tally.check.of_case) for tally in tallies if tally.check.of_case]
        self.of_databases = [(tally, tally.check.of_database) for tally in tallies if tally.check.of_database]

    def go(self) -> None:
        if not self.begin():
            # Without the shard map nobody knows where to look.
            for tally in self.tallies:
                tally.not_asked.append(DEFAULT_DB_ALIAS)
            return
        for tally, question, alias in self.questions():
            self.say(tally.check.title)
            if not self.guard([alias], partial(self.ask, tally, question, alias)):
                tally.not_asked.append(alias)
        if self.of_cases:
            self._read_cases()
        self._look_again()

    def begin(self) -> bool:
        """Find out who answers; False if nothing can be looked at."""

        def ping(alias: str) -> datetime | None:
            with connections[alias].cursor() as cursor:
                cursor.execute(
                    "SELECT max(applied) FROM django_migrations WHERE app = 'eventing' AND name = %s", [chain.MIGRATION]
                )
                [applied] = cursor.fetchone()
            return None if applied is None else time_from_db(applied)

        answers = selectors.ask_databases(ping, seconds=PING_SECONDS)
        self.away = {alias for alias, answer in answers.items() if answer.value is None}
        self.scope.hashed_since = max((answer.value for answer in answers.values() if answer.value), default=None)
        if DEFAULT_DB_ALIAS not in self.away:
            self.guard([DEFAULT_DB_ALIAS], shards.refresh)
        return DEFAULT_DB_ALIAS not in self.away

    def questions(self) -> Iterator[tuple[Tally, DatabaseQuestion, str]]:
        """What single databases are asked."""
        for tally, question in self.of_databases:
            for alias in tally.check.databases():
                yield tally, question, alias

    def ask(self, tally: Tally, question: DatabaseQuestion, alias: str) -> None:
        tally.add(alias, *question(alias, self.scope))

    def _read_cases(self) -> None:
        everything = list(ranges())
        for number, (alias, low, high) in enumerate(everything, start=1):
            self.say(f"orders: part {number} of {len(everything)} ({alias})")
            needed = [alias, *context_databases()]
            if not self.guard(needed, partial(self.read, alias, low, high)):
                for tally, _ in self.of_cases:
                    tally.not_asked += [one for one in needed if one in self.away]

    def read(self, alias: str, low: int, high: int) -> int:
        """Look at the cases of these ids; returns how many there are."""
        number = 0
        for case in cases_between(alias, low, high, self.scope.horizon):
            number += 1
            for tally, find in self.of_cases:
                tally.add(case.id, *find(case, self.scope))
        return number

    def guard(self, aliases: Iterable[str], look: Callable[[], object]) -> bool:
        """Look unless one of these databases is away; False if one is. One that breaks down is not asked any more."""
        wanted = list(dict.fromkeys(aliases))
        if self.away & set(wanted):
            return False
        try:
            look()
        except (DatabaseError, InterfaceError) as error:
            gone = [alias for alias in wanted if not _answers(alias)]
            if not gone:
                raise
            logger.warning("audit.database_away", databases=gone, error=str(error))
            self.away.update(gone)
            return False
        return True

    def _look_again(self) -> None:
        """Look at the suspects until they are cleared; who is still there at the end has done it."""
        settle = self.scope.settle
        patience = min(max(settle, PATIENCE[0]), PATIENCE[1]) if settle else timedelta(0)
        deadline = time.monotonic() + patience.total_seconds()
        while suspects := sum(len(tally.suspects) for tally in self.tallies if not tally.check.at_once):
            left = deadline - time.monotonic()
            if left <= 0:
                return
            self.say(f"looking again at {suspects} that may only have been on their way ({left:.0f} s)")
            time.sleep(min(PAUSE_SECONDS, left))
            self.look_once_more()

    def look_once_more(self) -> None:
        """Acquit the suspects that do not offend any more, as far as the databases can be asked."""
        for tally, find in self.of_databases:
            if not tally.check.at_once:
                for alias in {str(where) for where in tally.suspects.values()}:
                    self.guard([alias], partial(self._ask_again, tally, find, alias))
        suspected = [(tally, find) for tally, find in self.of_cases if tally.suspects and not tally.check.at_once]
        by_alias: dict[str, list[int]] = defaultdict(list)
        for where in {where for tally, _ in suspected for where in tally.suspects.values()}:
            by_alias[shards.alias_of(int(where))].append(int(where))
        for alias, ids in by_alias.items():
            self.guard([alias, *context_databases()], partial(self._read_again, suspected, ids))

    def _ask_again(self, tally: Tally, find: DatabaseQuestion, alias: str) -> None:
        tally.keep([alias], set(find(alias, self.scope)[1]))

    def _read_again(self, suspected: Sequence[tuple[Tally, CaseQuestion]], ids: Sequence[int]) -> None:
        still: dict[str, set[str]] = {tally.check.name: set() for tally, _ in suspected}
        for case in cases_of(ids, self.scope.horizon):
            for tally, find in suspected:
                still[tally.check.name] |= set(find(case, self.scope)[1])
        for tally, _ in suspected:
            tally.keep(set(ids), still[tally.check.name])

    def silent_broker(self) -> list[str]:
        """The broker, if it was asked about deliveries and has not answered."""
        return [] if self.scope.broker.answers else ["broker"]

    def note(self, check: Check) -> str:
        if check.name != "events_reach_subscribers":
            return ""
        parts = []
        if self.scope.pending:
            under_way = ", ".join(f"{name} {number}" for name, number in sorted(self.scope.pending.items()))
            parts.append(f"not handled yet: {under_way}")
        if not self.scope.broker.answers:
            parts.append("the broker does not answer, so nobody knows whether they are lost")
        return "; ".join(parts)


def _answers(alias: str) -> bool:
    try:
        connections[alias].close_if_unusable_or_obsolete()
        with connections[alias].cursor() as cursor:
            cursor.execute("SELECT 1")
    except (DatabaseError, InterfaceError):
        return False
    return True
