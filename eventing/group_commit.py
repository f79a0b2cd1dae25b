"""Group commit: what several threads want to write at the same moment is written at once.

Writing ten orders costs a database hardly more than writing one (DeWitt et al., Implementation Techniques for Main
Memory Database Systems, 1984). Nobody waits for others to come: who finds a writer's place free writes at once, and
takes along what has queued up meanwhile. So groups are as large as the load makes them.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar, cast

T = TypeVar("T")
R = TypeVar("R")


@dataclass(slots=True, eq=False)
class _Ticket(Generic[T, R]):
    """A thread's wish. Its turn has come when somebody has written it, or when it is to write itself."""

    item: T
    leads: bool = False
    outcome: R | BaseException | None = None
    turn: threading.Event = field(default_factory=threading.Event)


class GroupCommit(Generic[T, R]):
    """Calls `write` with what its callers have submitted, at most `most` together and `writers` times in parallel.

    `write` returns an outcome for each, in their order; one that is an exception is raised where it was submitted, and
    so is what `write` raises, for all of them. `gather` is called before a group is closed, with those that wait by
    then, and may let more come by taking its time.
    """

    def __init__(
        self,
        write: Callable[[Sequence[T]], Sequence[R | Exception]],
        *,
        writers: int = 1,
        most: int = 100,
        gather: Callable[[Sequence[T]], None] | None = None,
    ) -> None:
        self._write = write
        self._free = writers
        self._most = most
        self._gather = gather
        self._lock = threading.Lock()
        # While somebody is here no writer's place is free.
        self._waiting: deque[_Ticket[T, R]] = deque()

    def submit(self, item: T) -> R:
        """Returns, or raises, the outcome for this item once it was written."""
        ticket: _Ticket[T, R] = _Ticket(item)
        with self._lock:
            if self._free:
                self._free -= 1
                ticket.leads = True
            else:
                self._waiting.append(ticket)
        if not ticket.leads:
            ticket.turn.wait()
        if ticket.leads:
            self._lead(ticket)
        if isinstance(ticket.outcome, BaseException):
            raise ticket.outcome
        return cast("R", ticket.outcome)

    def _lead(self, own: _Ticket[T, R]) -> None:
        group = [own]
        try:
            if self._gather is not None:
                with self._lock:
                    waiting = [own.item, *(ticket.item for ticket in self._waiting)]
                self._gather(waiting)
            with self._lock:
                while self._waiting and len(group) < self._most:
                    group.append(self._waiting.popleft())
            for ticket, outcome in zip(group, self._write([ticket.item for ticket in group]), strict=True):
                ticket.outcome = outcome
        except BaseException as error:
            for ticket in group:
                ticket.outcome = error
        finally:
            self._hand_over()
            for ticket in group[1:]:
                ticket.turn.set()

    def _hand_over(self) -> None:
        with self._lock:
            if not self._waiting:
                self._free += 1
                return
            following = self._waiting.popleft()
        following.leads = True
        following.turn.set()
