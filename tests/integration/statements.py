"""The statements that a page causes in all databases, those of its threads included."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from sharding import shards

SHARDS_IN_PRODUCTION = 8


def counted(postgresql: int, sqlite: int) -> int:
    """How many statements are expected: insertions that belong together are one only on PostgreSQL."""
    return postgresql if connections["default"].vendor == "postgresql" else sqlite


@dataclass
class Statements:
    """Each with the alias of its database, in the order in which they began."""

    sent: list[tuple[str, str]] = field(default_factory=list)

    def with_all_shards(self) -> int:
        """How many it would be in production: with the tests' few shards, each of the missing ones counts as the
        busiest of them, if the page has asked them all.
        """
        per_alias = Counter(alias for alias, _ in self.sent)
        asked = [per_alias[alias] for alias in shards.aliases()]
        missing = SHARDS_IN_PRODUCTION - len(asked) if all(asked) else 0
        return len(self.sent) + missing * max(asked)

    def repeated(self, times: int) -> list[str]:
        """The statements that one database was sent so many times or more, whatever their parameters."""
        return [f"{alias}: {sql}" for (alias, sql), count in Counter(self.sent).items() if count >= times]

    def __call__(self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        self.sent.append((context["connection"].alias, sql))
        return execute(sql, params, many, context)


@contextmanager
def statements() -> Iterator[Statements]:
    """Notes what is sent meanwhile, by this thread and by those that connect meanwhile."""
    noted = Statements()
    watched: list[BaseDatabaseWrapper] = []

    def watch(connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
        if not any(one is connection for one in watched):
            watched.append(connection)
            connection.execute_wrappers.append(noted)

    connection_created.connect(watch)
    for connection in connections.all():
        watch(connection)
    try:
        yield noted
    finally:
        connection_created.disconnect(watch)
        for connection in watched:
            connection.execute_wrappers.remove(noted)
