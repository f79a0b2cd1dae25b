"""The process of Locust: started for one run, watched through its recording, and ended by its id."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lab.harness import ROOT
from lab.harness.stack import HOST, Processes
from lab.load.recording import Reader, Recording

CUSTOMERS_SECONDS = 20  # in which they may finish what they are at


class LoadFailed(Exception):
    """The customers could not come; the message ends with the last lines of Locust's log."""


@dataclass(kw_only=True)
class Driver(Processes):
    """Customers of one run; none of them is left afterwards. `plan` names a file with what was prepared for them.

    With `page` the run is started and ended on Locust's page; without it, it starts at once and ends after `minutes`.
    """

    target: str
    customers: Sequence[str]
    users: int
    rate: float
    minutes: float
    page: bool
    plan: Path
    ready_path: str = "/"
    start_seconds: float = 30
    _reader: Reader = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._reader = Reader(self.log_dir / "recording.jsonl")

    def __exit__(self, *error: object) -> None:
        if any(error) and "locust" in self.running:
            self.kill("locust", signal.SIGKILL)
        self.stop()

    def _start(self) -> None:
        command = [sys.executable, "-m", "locust", "--locustfile", str(ROOT / "lab" / "load" / "users.py")]
        command += ["--host", self.target, "--users", str(self.users), "--spawn-rate", str(self.rate)]
        command += ["--stop-timeout", str(CUSTOMERS_SECONDS), "--exit-code-on-error", "0"]
        if self.page:
            command += ["--web-host", HOST, "--web-port", str(self.port)]
        else:
            command += ["--headless", "--only-summary"]
        if self.minutes:
            command += ["--run-time", f"{round(self.minutes * 60)}s"]
        recording = str(self.log_dir / "recording.jsonl")
        env = {"LOADTEST_PLAN": str(self.plan), "LOADTEST_RECORDING": recording, "PYTHONPATH": str(ROOT)}
        self._spawn("locust", [*command, *self.customers], env)
        if self.page:
            self._wait_until_ready("locust")

    @property
    def recording(self) -> Recording:
        """What was read so far."""
        return self._reader.recording

    def read(self) -> Recording:
        """What has happened so far. Not to be called by several threads."""
        return self._reader.read()

    @property
    def over(self) -> bool:
        """Whether the run has come to its end. Raises LoadFailed if it cannot any more."""
        has_ended = self.failed() is not None
        if self.read().stopped_at is not None:
            return True
        if has_ended:
            raise LoadFailed(f"Locust has ended before its time:\n{self.tail('locust')}")
        return False
