"""Group commit: what several threads want to write at the same moment is written in one transaction.

Writing ten orders costs a database hardly more than writing one (DeWitt et al., Implementation Techniques for Main
Memory Database Systems, 1984). No thread waits for a group to fill: it writes at once if no other thread is writing,
and what arrives meanwhile is the next group. So groups are as large as the load makes them.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, TypeVar, cast

import structlog
from django.db import transaction

from eventing.conf import conf
from eventing.databases import give_back_connections

T = TypeVar("T")
R = TypeVar("R")

logger = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class _Ticket(Generic[T, R]):
    """A thread's request. Its turn comes when it was written, or when it has to write the group that it leads."""

    item: T
    group: list[_Ticket[T, R]] = field(default_factory=list)
    outcome: R | BaseException | None = None
    turn: threading.Event = field(default_factory=threading.Event)


class GroupCommit(Generic[T, R]):
    """Calls `write` with what its callers have submitted, at most `most` together, in one of their threads.

    While that thread writes and `crowd` others wait, or one for `patience` seconds, a further one writes those, up to
    `writers` in parallel. `write` returns an outcome for each, in their order; one that is an exception is raised where
    it was submitted, and so is what `write` raises, for all of them.
    """

    def __init__(
        self,
        write: Callable[[Sequence[T]], Sequence[R | Exception]],
        *,
        writers: int = 1,
        crowd: int = 4,
        patience: float = 0.05,
        most: int = 100,
    ) -> None:
        self._write = write
        self._writers = writers
        self._crowd = crowd
        self._patience = patience
        self._most = most
        self._lock = threading.Lock()
        self._writing = 0
        self._waiting: deque[_Ticket[T, R]] = deque()  # empty while no thread writes

    def submit(self, item: T) -> R:
        """Returns, or raises, the outcome for this item once it was written."""
        ticket: _Ticket[T, R] = _Ticket(item)
        with self._lock:
            self._waiting.append(ticket)
            self._appoint(self._crowd)
        if not ticket.turn.wait(self._patience):
            with self._lock:
                self._appoint(1)
            ticket.turn.wait()
        if ticket.group:
            self._write_all(ticket.group)
        if isinstance(ticket.outcome, BaseException):
            raise ticket.outcome
        return cast("R", ticket.outcome)

    def _write_all(self, group: Sequence[_Ticket[T, R]]) -> None:
        try:
            for ticket, outcome in zip(group, self._write([ticket.item for ticket in group]), strict=True):
                ticket.outcome = outcome
        except BaseException as error:
            for ticket in group:
                ticket.outcome = error
        finally:
            with self._lock:
                self._writing -= 1
                self._appoint(self._crowd)
            for ticket in group[1:]:
                ticket.turn.set()

    def _appoint(self, crowd: int) -> None:
        """Let the thread that waits longest write for all that wait, if no thread writes or they are a crowd."""
        if self._writing < self._writers and len(self._waiting) >= (crowd if self._writing else 1):
            self._writing += 1
            group = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._most))]
            leader = group[0]
            leader.group = group
            leader.turn.set()


class GroupedWrites(Generic[T, R]):
    """Writes items, each in a transaction of its database that it may share with others of the same moment.

    `write(using, items)` is called in that transaction and returns what has become of each item, in their order. If it
    fails for a group it is called for each item alone, so that each answers for itself only.
    """

    def __init__(self, write: Callable[[str, Sequence[T]], Sequence[R]]) -> None:
        self._write = write
        self._groups: dict[str, GroupCommit[T, R]] = {}

    def submit(self, using: str, item: T) -> R:
        """What `write` returns for the item once it is committed; raises what it raises."""
        give_back_connections()  # another thread may write this item with them
        return self._group(using).submit(item)

    def alone(self, using: str, item: T) -> R:
        """The same in a transaction that is not shared: for what may be refused, and the others of a group with it."""
        with transaction.atomic(using=using):
            [result] = self._write(using, [item])
        return result

    def together(self, using: str, items: Sequence[T]) -> Sequence[R | Exception]:
        """What has become of each item, or what it has raised."""
        if len(items) > 1:
            try:
                with transaction.atomic(using=using):
                    return list(self._write(using, items))
            except Exception as error:
                logger.info("group.singly", database=using, items=len(items), error=repr(error))
        outcomes: list[R | Exception] = []
        for item in items:
            try:
                outcomes.append(self.alone(using, item))
            except Exception as error:
                outcomes.append(error)
        return outcomes

    def _group(self, using: str) -> GroupCommit[T, R]:
        """More writers than the pool has connections would find it empty."""
        if (group := self._groups.get(using)) is None:
            group = GroupCommit(partial(self.together, using), writers=conf.EVENTING_WRITERS)
            group = self._groups.setdefault(using, group)
        return group
