"""How long each table keeps its rows, and what prunes it; declared by each app in its `apps.py`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.apps import apps
from django.db import connections, router

from eventing.conf import conf
from eventing.databases import time_to_db

PRUNE = "Prune what is old"
RUN_SECONDS = 20  # less than a task may take; the rest is left to the next run


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """What becomes of the rows of a table (`model`, by its label), or of other things that grow.

    With a `column` the task PRUNE deletes rows whose time there is more than `days` ago, those with the values of
    `only`. Otherwise the named task does it; without one they stay.
    """

    model: str
    keeps: str
    task: str = ""
    column: str = ""
    days: int = 0
    only: dict[str, Any] = field(default_factory=dict)


def permanent(model: str, why: str) -> Retention:
    return Retention(model=model, keeps=f"permanent: {why}")


def pruned(model: str, keeps: str, *, column: str, days: int, **only: Any) -> Retention:
    return Retention(model=model, keeps=keeps, task=PRUNE, column=column, days=days, only=only)


def declared() -> Iterator[Retention]:
    """What the installed apps have declared, in their order."""
    for app in apps.get_app_configs():
        yield from getattr(app, "retention", ())


def prune(now: datetime, batch: int) -> int:
    """Delete what is old, `batch` rows at a time; returns how many."""
    until = time.monotonic() + RUN_SECONDS
    deleted = 0
    for one in declared():
        if not one.column:
            continue
        model = apps.get_model(one.model)
        rows = model._base_manager.using(router.db_for_write(model))
        old = rows.filter(**{f"{one.column}__lt": now - timedelta(days=one.days)}, **one.only)
        while time.monotonic() < until:
            keys = list(old.values_list("pk", flat=True)[:batch])
            deleted += rows.filter(pk__in=keys).delete()[0]
            if len(keys) < batch:
                break
    return deleted


def prune_inbox(now: datetime, using: str, limit: int) -> int:
    """Delete up to `limit` inbox rows of a database that are too old for their event to come again; returns how many.

    The broker keeps no message for so long, and a replay that goes further back meets effects that are idempotent by
    their own keys.
    """
    connection = connections[using]
    before = time_to_db(connection, now - timedelta(days=conf.EVENTING_INBOX_RETENTION_DAYS))
    key = "stream_id, category, version, subscriber"
    with connection.cursor() as cursor:
        cursor.execute(
            f"DELETE FROM eventing_inbox WHERE ({key}) IN"
            f" (SELECT {key} FROM eventing_inbox WHERE handled_at < %s LIMIT %s)",
            [before, limit],
        )
        return int(cursor.rowcount)


def as_markdown() -> str:
    """The table of the documentation."""
    lines = [f"| {one.model} | {one.keeps} | {one.task or 'nothing'} |" for one in declared()]
    return "\n".join(["| what | how long | pruned by |", "|---|---|---|", *lines])
