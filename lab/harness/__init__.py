"""Starts and ends services and shops, and asks a running shop."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import environ

ROOT = Path(__file__).resolve().parent.parent.parent


def read_dotenv(path: Path) -> dict[str, str]:
    """The variables in the file, by the rules of the settings; empty if there is none."""

    class File(environ.Env):
        ENVIRON: ClassVar[dict[str, str]] = {}

    if path.exists():
        File.read_env(path)
    return File.ENVIRON


def say(text: str) -> None:
    """Print on standard error; standard output is for results."""
    print(text, file=sys.stderr, flush=True)


def wait_until(condition: Callable[[], bool], seconds: float, *, every: float = 0.1) -> bool:
    """Ask again and again until it is so; False if it is not so after so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(every)
    return True
