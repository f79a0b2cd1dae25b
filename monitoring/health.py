"""Whether this process can serve, which parts of the system do not work, and what works without them.

A part is asked about by a `Check`. All checks run side by side, each with a time-out of its own, and their answers are
kept for PROBE_CACHE_SECONDS, however many ask. A part that does not work makes the process *impaired*, which is no
reason to take it out of service: the other processes lean on the same parts. Only a process that can serve nothing
useful is unavailable.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, wait
from dataclasses import dataclass
from enum import StrEnum

import structlog
from django.db import Error, connections

from monitoring.kept import Kept

ANSWER_SECONDS = 1.5

logger = structlog.get_logger(__name__)


class Status(StrEnum):
    """From the best to the worst."""

    OK = "ok"
    IMPAIRED = "impaired"
    UNAVAILABLE = "unavailable"


class Impaired(Exception):
    """The part does not work; the message says why.

    `still_works` says what works all the same, where that is not what the check says.
    """

    def __init__(self, why: str, *, still_works: str = "") -> None:
        super().__init__(why)
        self.still_works = still_works


class Unavailable(Impaired):
    """Without this part the process can serve nothing useful."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """How to ask about a part, and what works without it.

    `ask` returns what there is to say about a part that works, and raises Impaired (or any error: "no answer") for one
    that does not. It runs in a thread of its own and may use any database. A process that gets no answer to a `needed`
    check can serve nothing useful.
    """

    name: str
    ask: Callable[[], str]
    still_works: str
    needed: bool = False
    seconds: float = ANSWER_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What a check has found: `detail` says what is wrong, or how long the answer took."""

    ok: bool
    detail: str
    still_works: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    status: Status
    dependencies: dict[str, Part]

    @property
    def impaired(self) -> dict[str, Part]:
        """The parts that do not work."""
        return {name: part for name, part in self.dependencies.items() if not part.ok}


_sources: list[Callable[[], Iterable[Check]]] = []


def register(source: Callable[[], Iterable[Check]]) -> None:
    """Run the checks that `source()` returns as well, each time anew."""
    if source not in _sources:
        _sources.append(source)


def measure() -> Readiness:
    """What all checks find now; takes as long as the slowest may."""
    checks = [check for source in _sources for check in source()]
    asked_at = time.monotonic()
    answers = {check.name: _ask(check) for check in checks}
    found: dict[str, Part] = {}
    statuses = [Status.OK]
    for check in checks:
        answer = answers[check.name]
        wait([answer], timeout=max(0.0, asked_at + check.seconds - time.monotonic()))
        found[check.name], status = _judge(check, answer)
        statuses.append(status)
    return Readiness(status=max(statuses, key=list(Status).index), dependencies=found)


_kept: Kept[Readiness] = Kept(measure)


def readiness() -> Readiness:
    """What all checks found, PROBE_CACHE_SECONDS ago at most."""
    return _kept.get()


_answers: dict[str, Future[str]] = {}


def _ask(check: Check) -> Future[str]:
    """The answer, once it comes. A question that is still open is not asked again: a part that hangs has one thread."""
    before = _answers.get(check.name)
    if before is not None and not before.done():
        return before
    answer: Future[str] = Future()

    def ask() -> None:
        try:
            answer.set_result(check.ask())
        except Exception as error:  # judged by whoever waits for the answer
            answer.set_exception(error)
        finally:
            connections.close_all()

    _answers[check.name] = answer
    threading.Thread(target=ask, name=f"check-{check.name}", daemon=True).start()
    return answer


def _judge(check: Check, answer: Future[str]) -> tuple[Part, Status]:
    if not answer.done():
        error: BaseException | None = TimeoutError(f"nothing within {check.seconds:g} s")
    else:
        error = answer.exception()
    if error is None:
        return Part(ok=True, detail=answer.result()), Status.OK
    still_works, status = check.still_works, Status.IMPAIRED
    if isinstance(error, Impaired):
        detail = str(error)
        still_works = error.still_works or still_works
    else:
        # The text of an error may name hosts and users.
        detail = f"no answer: {error if isinstance(error, TimeoutError) else type(error).__name__}"
    if isinstance(error, Unavailable) or (check.needed and not isinstance(error, Impaired)):
        status, still_works = Status.UNAVAILABLE, "nothing"
    unexpected = not isinstance(error, Impaired | TimeoutError | OSError | Error)
    logger.warning("check.failed", check=check.name, detail=detail, error=str(error), exc_info=unexpected and error)
    return Part(ok=False, detail=detail, still_works=still_works), status
