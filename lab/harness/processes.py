"""Programs of this machine: how they are started, seen and ended."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from lab.harness import ROOT, wait_until

GONE_SECONDS = 30  # in which the kernel ends what it was told to end
POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """Leads a group of its own, so that its children can be found after its end.

    When it `started` tells it from a later one with the same number; `child` is for those that this one has started.
    """

    pid: int
    started: str
    child: subprocess.Popen[bytes] | None = field(default=None, repr=False, compare=False)

    @property
    def is_running(self) -> bool:
        if self.child is not None:
            return self.child.poll() is None
        return bool(self.started) and _start_of(self.pid) == self.started

    @property
    def code(self) -> int | None:
        """How a child has ended."""
        return None if self.child is None else self.child.poll()

    def signal_group(self, number: int) -> None:
        with suppress(ProcessLookupError, PermissionError):  # macOS refuses signals to groups of zombies
            os.killpg(self.pid, number)

    def has_group(self) -> bool:
        """Whether any process of the group lives. Zombies do not count: some containers have nobody to bury them."""
        for process in psutil.process_iter(["status"]):
            with suppress(ProcessLookupError, PermissionError):
                if os.getpgid(process.pid) == self.pid and process.info["status"] != psutil.STATUS_ZOMBIE:
                    return True
        return False

    def ask_to_end(self, number: int = signal.SIGTERM) -> None:
        """Only the first process is asked, as a container's is: it ends its children in good order."""
        if self.is_running:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)
            self.signal_group(signal.SIGCONT)  # a stopped process is woken up to hear it

    def end(self, deadline: float = 0) -> None:
        """Wait for the end of the first process, then end by force whatever is left of its group."""
        if self.child is None and not self.is_running:
            return  # its number may be somebody else's by now
        wait_until(lambda: not self.is_running, deadline - time.monotonic(), every=POLL_SECONDS)
        self.signal_group(signal.SIGKILL)
        wait_until(lambda: not (self.is_running or self.has_group()), GONE_SECONDS, every=POLL_SECONDS)


def spawn(
    command: Sequence[str],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    user: str | None = None,
    cwd: Path = ROOT,
) -> Process:
    """Start a program in a session of its own, in which it may outlive this one."""
    with log.open("ab") as output:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=env,
            cwd="/" if user else cwd,
            start_new_session=True,
            **as_user(user),
        )
    return Process(pid=child.pid, started=_start_of(child.pid), child=child)


def as_user(user: str | None) -> dict[str, Any]:
    """Options of `subprocess`."""
    return {"user": user, "group": user, "extra_groups": []} if user else {}


def _start_of(pid: int) -> str:
    """When the process started, in the system's own notation; empty if it is not running."""
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            # The name in brackets may hold anything; after it come the state and, as the 20th field, the start.
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return ""
        return "" if fields[0] in "ZX" else fields[19]
    found = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return found.stdout.strip()
