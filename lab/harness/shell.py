"""A process of a shop that calls functions for others: starting Django anew for each question would take seconds."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, ParamSpec, Self, TypeVar

from lab.harness import ROOT

P = ParamSpec("P")
T = TypeVar("T")

END_SECONDS = 30


class ShellError(Exception):
    """What was called has failed, or its process has ended; the message says why."""


class Shell:
    """Starts with the first call. `env` makes the process part of a shop. May be shared by threads."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self.env = {**env}
        self._lock = threading.Lock()
        self._process: Any = None
        self._pipe: Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def spawn(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Start Python as a further process of the shop; who starts it ends it."""
        env = {"DJANGO_SETTINGS_MODULE": "config.settings", **os.environ, **self.env}
        return subprocess.Popen([sys.executable, *arguments], cwd=ROOT, env=env, text=True, **options)

    def run(self, *arguments: str, quiet: bool = False) -> None:
        """Run Python to its end as a process of the shop, with its output to see unless `quiet`. Raises ShellError."""
        process = self.spawn(*arguments, stdout=subprocess.DEVNULL if quiet else sys.stderr)
        if code := process.wait():
            raise ShellError(f"{' '.join(arguments)} ended with {code}")

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function of a module in the shop; arguments and answer are pickled. Raises ShellError."""
        return self.call_within(None, function, *args, **kwargs)

    def call_within(self, seconds: float | None, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`call`, whose process is ended if there is no answer after so many seconds."""
        with self._lock:
            pipe = self._pipe or self._start()
            try:
                pipe.send((function, args, kwargs))
                if not pipe.poll(seconds):
                    self._end()
                    raise ShellError(f"{function.__name__} has not answered within {seconds:g} s")
                answer, failure = pipe.recv()
            except (EOFError, OSError) as error:
                code = self._end()
                raise ShellError(f"the process of {function.__name__} has ended with {code}") from error
        if failure:
            raise ShellError(failure)
        return answer

    def exit_code(self, function: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> int:
        """How the process ends that calls a function which is meant to end it; 0 if the function returns."""
        with Shell(self.env) as other:
            try:
                other.call(function, *args, **kwargs)
            except ShellError:
                if other._process is None or other._process.exitcode is None:
                    raise
                return int(other._process.exitcode)
        return 0

    def close(self) -> None:
        with self._lock:
            if self._pipe is not None:
                self._pipe.close()
                self._process.join(END_SECONDS)
                self._end()

    def _start(self) -> Connection:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self.env), daemon=True)
        self._process.start()
        theirs.close()
        return self._pipe

    def _end(self) -> int | None:
        """End the process, and what it has started, by force if need be; returns its exit code."""
        self._process.join(1)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.join()
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None
        return self._process.exitcode


def _serve(pipe: Connection, env: Mapping[str, str]) -> None:
    os.setsid()  # so that Ctrl-C does not end it before it is closed
    os.environ.update(env)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    os.environ.setdefault("LOG_LEVEL", "ERROR")  # failures are returned to the caller
    import django

    django.setup()
    from django.db import connections

    while True:
        try:
            function, args, kwargs = pipe.recv()
        except EOFError:
            return
        try:
            answer = function(*args, **kwargs), ""
        except Exception:
            answer = None, traceback.format_exc()
        connections.close_all()
        pipe.send(answer)
