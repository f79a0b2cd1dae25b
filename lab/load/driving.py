"""The process of Locust: started for one run, watched through its recording, and ended by its id."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from urllib.request import urlopen

from lab.load.recording import Reader, Recording
from lab.stack import HOST, ROOT

STOP_SECONDS = 30  # in which customers may finish what they are at
END_SECONDS = 45
LOG_LINES = 15
START_SECONDS = 30
POLL_SECONDS = 0.1


class LoadFailed(Exception):
    """The customers could not come; the message ends with the last lines of Locust's log."""


@dataclass(slots=True)
class Settings:
    """Of one run. `web_port` is that of Locust's page; without it the run starts at once and ends after `minutes`."""

    url: str
    customers: Sequence[str]
    users: int
    rate: float
    minutes: float
    web_port: int | None = None


class Driver:
    """Customers of one run. A context manager: none of them is left afterwards."""

    def __init__(self, settings: Settings, folder: Path, plan: Path) -> None:
        self._settings = settings
        self._log = folder / "locust.log"
        self._recording = folder / "recording.jsonl"
        self._plan = plan
        self._reader = Reader(self._recording)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Driver:
        of_ours = {"LOADTEST_PLAN": str(self._plan), "LOADTEST_RECORDING": str(self._recording)}
        with self._log.open("ab") as log:
            # In a session of its own, so that Ctrl-C comes to us alone.
            self._process = subprocess.Popen(
                self._command(),
                cwd=ROOT,
                env={**os.environ, **of_ours, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.stop()
        else:
            self._kill()

    def _command(self) -> list[str]:
        settings = self._settings
        command = [sys.executable, "-m", "locust", "--locustfile", str(ROOT / "lab" / "load" / "locustfile.py")]
        command += ["--host", settings.url, "--users", str(settings.users), "--spawn-rate", str(settings.rate)]
        command += ["--stop-timeout", str(STOP_SECONDS), "--exit-code-on-error", "0"]
        if settings.web_port is not None:
            command += ["--web-host", HOST, "--web-port", str(settings.web_port)]
        else:
            command += ["--headless", "--only-summary"]
        if settings.minutes:
            command += ["--run-time", f"{round(settings.minutes * 60)}s"]
        return [*command, *settings.customers]

    @property
    def page(self) -> str:
        return f"http://{HOST}:{self._settings.web_port}/"

    def wait_for_page(self) -> None:
        """Wait until Locust's page can be opened. Raises LoadFailed."""
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._has_ended or time.monotonic() > deadline:
                raise LoadFailed(f"Locust's page did not come up:\n{self._tail()}")
            time.sleep(POLL_SECONDS)

    def _answers(self) -> bool:
        try:
            with urlopen(self.page, timeout=5) as response:  # noqa: S310 (our own http URL)
                return bool(response.status == HTTPStatus.OK)
        except OSError:
            return False

    @property
    def _has_ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

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
        if self.read().stopped_at is not None:
            return True
        if self._has_ended:
            if self.read().stopped_at is not None:
                return True
            raise LoadFailed(f"Locust has ended before its time:\n{self._tail()}")
        return False

    def stop(self) -> None:
        """Send everybody home; who is waiting for an answer may get it. May be repeated."""
        if self._process is not None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(END_SECONDS)
        self._kill()

    def _kill(self) -> None:
        """End at once what is left of Locust and of what it has started."""
        if self._process is not None:
            with suppress(ProcessLookupError, PermissionError):  # macOS refuses signals to groups of zombies
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _tail(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-LOG_LINES:])
