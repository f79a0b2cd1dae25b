"""What a check is, and what an audit has to say: counts, the offenders' names, and what could not be asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings

from monitoring.audit.broker import Broker
from monitoring.audit.rows import Case

OFFENDERS = 100  # that a report names, of each check

Finding = tuple[int, Iterable[str]]  # how many things were looked at, and those that break the promise
NOTHING: Finding = (0, ())


@dataclass(slots=True, kw_only=True)
class Scope:
    """What an audit looks at. What was recorded after `cutoff` may still be under way and is left out."""

    now: datetime
    settle: timedelta
    broker: Broker
    pending: Counter[str] = field(default_factory=Counter)  # deliveries under way, by subscriber
    hashed_since: datetime | None = None  # from then on, every database writes events with their hashes

    @property
    def cutoff(self) -> datetime:
        return self.now - self.settle

    @property
    def horizon(self) -> datetime:
        """Inbox rows of events that were recorded before may be pruned."""
        return self.now - timedelta(days=settings.EVENTING_INBOX_RETENTION_DAYS)


CaseQuestion = Callable[[Case, Scope], Finding]
DatabaseQuestion = Callable[[str, Scope], Finding]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One promise. `title` says it, `counts` what is counted, `hint` what an operator does when it is broken.

    It looks either at each stream and what belongs to it (`of_case`), or with statements of its own at each of the
    databases that `databases` names (`of_database`). What is compared `at_once` was read at one moment: what seems
    wrong is wrong.
    """

    name: str
    title: str
    counts: str
    hint: str
    of_case: CaseQuestion | None = None
    of_database: DatabaseQuestion | None = None
    databases: Callable[[], Sequence[str]] = tuple
    at_once: bool = False


def case_check(*, title: str, counts: str, hint: str, at_once: bool = False) -> Callable[[CaseQuestion], Check]:
    """Make a check of a function that looks at a case; it has the function's name."""
    return lambda find: Check(name=find.__name__, title=title, counts=counts, hint=hint, of_case=find, at_once=at_once)


def database_check(
    *, title: str, counts: str, hint: str, databases: Callable[[], Sequence[str]], at_once: bool = False
) -> Callable[[DatabaseQuestion], Check]:
    """Make a check of a function that asks a database; it has the function's name."""
    return lambda find: Check(
        name=find.__name__,
        title=title,
        counts=counts,
        hint=hint,
        of_database=find,
        databases=databases,
        at_once=at_once,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of a check. `unavailable` are databases without whose answer it is not done, or only in part."""

    check: Check
    checked: int
    violations: int
    offenders: tuple[str, ...]
    note: str = ""
    unavailable: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.check.name,
            "title": self.check.title,
            "checked": self.checked,
            "violations": self.violations,
            "offenders": list(self.offenders),
            "hint": self.check.hint,
            "counts": self.check.counts,
            "note": self.note,
            "unavailable": list(self.unavailable),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """An audit. It is clean when no promise is broken and everybody has answered."""

    at: datetime
    settle: timedelta
    seconds: float
    results: tuple[Result, ...]
    unavailable: tuple[str, ...] = ()

    @property
    def violations(self) -> int:
        return sum(result.violations for result in self.results)

    @property
    def clean(self) -> bool:
        return not self.violations and not self.unavailable

    def as_dict(self) -> dict[str, Any]:
        """The form of `manage.py audit --json`."""
        return {
            "clean": self.clean,
            "at": self.at.isoformat(),
            "settle_seconds": self.settle.total_seconds(),
            "seconds": round(self.seconds, 2),
            "checks": [result.as_dict() for result in self.results],
            "unavailable": list(self.unavailable),
        }
