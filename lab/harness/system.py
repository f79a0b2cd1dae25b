"""A running shop: its processes, and what can be asked of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

from lab.harness import say
from lab.harness.installations import SHARDS, temporary_installation
from lab.harness.shell import Shell, ShellError
from lab.harness.stack import Processes, Stack
from lab.oracle import Facts, Ledger, Verdict, judge
from lab.programs import questions

P = ParamSpec("P")
T = TypeVar("T")

POLL_SECONDS = 0.5
SAY_SECONDS = 5.0
AUDIT_SECONDS = 60.0


class NotQuiet(Exception):
    """Something is still on its way after the time that it was given."""


@dataclass(slots=True)
class System:
    """A running shop; `shell` is a further process of it."""

    processes: Processes
    shell: Shell

    @property
    def url(self) -> str:
        return self.processes.url

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function in the shop. Raises ShellError."""
        return self.shell.call(function, *args, **kwargs)

    def pending(self) -> dict[str, int]:
        """What is still on its way. Raises ShellError while a service is away."""
        return self.call(questions.pending)

    def wait_until_quiet(self, seconds: float, *, has_past: bool = False, progress: bool = False) -> dict[str, int]:
        """Wait until every event was handled or is a dead letter; returns what `pending` says then. Raises NotQuiet.

        `has_past`: there are orders in bulk, whose deliveries were not recorded. `progress`: print what is left.
        """
        began = said = time.monotonic()
        while True:
            try:
                counts = self.pending()
                handled = has_past or counts["deliveries"] <= counts["dead"]
                if handled and not counts["outbox"] and not counts["messages"]:
                    return counts
                left = ", ".join(f"{number:,} {what}" for what, number in counts.items())
            except ShellError as error:  # a service is not quite back
                left = str(error).strip().rpartition("\n")[2]
            now = time.monotonic()
            if now - began > seconds:
                raise NotQuiet(left)
            if progress and now - said >= SAY_SECONDS:
                say(f"  {now - began:4.0f} s: still on its way: {left}")
                said = now
            time.sleep(POLL_SECONDS)

    def facts(self, customers: Iterable[int], skus: Iterable[str], coupons: Sequence[str] | None = None) -> Facts:
        """What the oracle judges, asked again for AUDIT_SECONDS while the audit could not ask a database.

        After a rush the shop may hold all connections that a server has, until it gives up those that it does not need.
        """
        deadline = time.monotonic() + AUDIT_SECONDS
        while True:
            try:
                facts = self.call(questions.facts, list(customers), list(skus), coupons)
                if not facts.audit["unavailable"] or time.monotonic() > deadline:
                    return facts
            except ShellError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(POLL_SECONDS)

    def judge(self, ledger: Ledger) -> Verdict:
        """The verdict of this moment."""
        return judge(ledger, self.facts(ledger.customers, ledger.stock))


@contextmanager
def temporary_system(name: str, folder: Path, env: Mapping[str, str], *, shards: int = SHARDS) -> Iterator[System]:
    """A running shop on the services that the environment names; nothing of it is left afterwards."""
    with (
        temporary_installation(name, folder, env, shards=shards) as made,
        Stack(env=made, log_dir=folder) as stack,
        Shell(made) as shell,
    ):
        yield System(stack, shell)
