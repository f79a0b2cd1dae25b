"""The audit in portions by the clock, and what the newest audits of both kinds have found."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime

import msgspec
from django.db import DEFAULT_DB_ALIAS

from eventing.locks import SessionLock
from monitoring import audit_runs
from monitoring.audit import CHECKS, portions
from monitoring.models import AuditRound, AuditRun

LOCK = "monitoring.audit_portion"


def go_on(now: datetime) -> int:
    """Do the next portion, unless another process is doing one; returns how many orders it has looked at."""
    lock = SessionLock(DEFAULT_DB_ALIAS, LOCK)
    if not lock.hold():
        return 0
    try:
        current = AuditRound.objects.filter(finished_at=None).first()
        if current is None:
            current = AuditRound(started_at=now, state=asdict(portions.Round()))
        state = _state_of(current)
        before = state.cases
        complete = portions.go_on(state, now)
        current.portion_at, current.state = now, asdict(state)
        current.finished_at = now if complete else None
        current.save()
        if complete:
            # Who is suspected is looked at again by the first portion of the next round.
            following = portions.Round(suspects=state.suspects)
            AuditRound.objects.create(started_at=now, portion_at=now, state=asdict(following))
            AuditRound.objects.filter(pk__lt=current.pk).delete()
        return state.cases - before
    finally:
        lock.release()


def _state_of(row: AuditRound) -> portions.Round:
    """How far a round is; one of another version begins anew."""
    try:
        return msgspec.convert(row.state, portions.Round)
    except msgspec.ValidationError:
        return portions.Round()


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the newest audits know: violations of each check that was done, with some offenders, and when.

    `at` are the times of the last audit of everything (`whole`), of the last round of portions that was completed
    (`round`) and of the last portion, as far as there were any.
    """

    violations: dict[str, int]
    offenders: dict[str, list[str]]
    at: dict[str, datetime]

    @property
    def broken(self) -> dict[str, int]:
        return {name: number for name, number in self.violations.items() if number}

    @property
    def total(self) -> int:
        return sum(self.violations.values())

    @property
    def last(self) -> datetime | None:
        """When anything was looked at for the last time."""
        return max(self.at.values(), default=None)


def known() -> Known:
    """Of each check the newest result, and what has been found since by the round that is under way."""
    at: dict[str, datetime] = {}
    found: dict[str, tuple[datetime, int, list[str]]] = {}
    names = [check.name for check in CHECKS]

    whole = AuditRun.objects.filter(report__isnull=False).first()
    checks = audit_runs.checks_of(whole) if whole is not None else []
    if whole is not None and whole.finished_at is not None and checks:
        at["whole"] = whole.finished_at
        for check in checks:
            if check["name"] in names and not check["unavailable"]:
                found[check["name"]] = whole.started_at, check["violations"], check["offenders"]
    for row in reversed(AuditRound.objects.all()[:2]):
        state = _state_of(row)
        at["portion"] = row.portion_at
        if row.finished_at is not None:
            at["round"] = row.finished_at
        for name in names:
            one = state.found.get(name)
            seen = datetime.fromisoformat(one["at"]) if one else row.started_at
            newer = name not in found or seen > found[name][0]
            if newer and (one or (row.finished_at is not None and name not in state.skipped)):
                found[name] = seen, one["violations"] if one else 0, one["offenders"] if one else []
    return Known(
        violations={name: found[name][1] for name in names if name in found},
        offenders={name: found[name][2] for name in names if name in found and found[name][1]},
        at=at,
    )
