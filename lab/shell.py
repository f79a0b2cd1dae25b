"""A process of the shop that runs what it is sent: starting Django anew for each question would take seconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import Any

from lab.stack import ROOT

LOOP = """
import json, sys, traceback
import django
django.setup()
from django.db import connections
for line in sys.stdin:
    names = {"answer": None}
    try:
        exec(json.loads(line), names)
        reply = {"answer": names["answer"]}
    except Exception:
        reply = {"error": traceback.format_exc()}
    connections.close_all()
    print(json.dumps(reply, default=str), flush=True)
"""


class ShellError(Exception):
    """What was run has failed; the message is its traceback."""


class Shell:
    """Starts with the first question. `env` makes the process part of a shop. May be shared by threads."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = {"DJANGO_SETTINGS_MODULE": "config.settings", **os.environ, **env, "PYTHONPATH": str(ROOT)}
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()

    def spawn(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Start Python as a further process of the shop; who starts it ends it."""
        return subprocess.Popen([sys.executable, *arguments], cwd=ROOT, env=self._env, text=True, **options)

    def run(self, code: str) -> Any:
        """Run Python and return what it assigned to `answer`. Raises ShellError."""
        with self._lock:
            if self._process is None:
                # In a session of its own, so that Ctrl-C does not end it before it is closed.
                pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
                self._process = self.spawn("-c", LOOP, start_new_session=True, **pipes)
            if self._process.stdin is None or self._process.stdout is None:
                raise ShellError("the process has no pipes")
            self._process.stdin.write(json.dumps(code) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        if not line:
            raise ShellError("the process has ended")
        reply = json.loads(line)
        if "error" in reply:
            raise ShellError(reply["error"])
        return reply["answer"]

    def close(self) -> None:
        if self._process is not None:
            self._process.communicate(timeout=30)
            self._process = None
