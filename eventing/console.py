"""What management commands share that work for long: arguments, progress on stderr, and an end by Ctrl-C."""

from __future__ import annotations

import sys
import time
from argparse import ArgumentTypeError
from collections.abc import Callable
from typing import NoReturn

from django.core.management.base import BaseCommand

PROGRESS_SECONDS = 1.0
INTERRUPTED = 130  # what a shell reports of a program that Ctrl-C ended


class LongCommand(BaseCommand):
    requires_system_checks: list[str] = []  # they would load every page

    _reported_at = float("-inf")

    def report(self, text: str) -> None:
        self._reported_at = time.monotonic()
        self.stderr.write(text)
        self.stderr.flush()

    def report_progress(self, text: str) -> None:
        """Report at most once in PROGRESS_SECONDS."""
        if time.monotonic() - self._reported_at >= PROGRESS_SECONDS:
            self.report(text)

    def interrupted(self, text: str) -> NoReturn:
        self.report(text)
        sys.exit(INTERRUPTED)


def whole_number(low: int, high: int, *, what: str = "number") -> Callable[[str], int]:
    """The type of an argument that is a number from `low` to `high`."""

    def parse(text: str) -> int:
        if not text.isdecimal() or not low <= int(text) <= high:
            raise ArgumentTypeError(f"{text!r} is not a {what} from {low} to {high}")
        return int(text)

    return parse
