"""Checks every promise of the shop over all databases, and says who breaks which."""

from __future__ import annotations

import json
import math
import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from monitoring.audit import CHECKS, Report, Result, UnknownCheck, audit
from sharding.errors import WrongDatabases
from sharding.installation import refuse_mistakes

SHOWN = 20
LINE = 110


def seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number <= 86_400:
        raise ArgumentTypeError(f"{text!r} is not a number of seconds from 0 to 86400")
    return number


class Command(BaseCommand):
    requires_system_checks: list[str] = []  # they load every page of the shop
    help = (
        "Check over all databases that nothing was lost, done twice or oversold. It only reads, and may run while "
        "orders come in. Exit code 0: every promise holds. 1: one is broken, or a database could not be asked."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
        parser.add_argument("--repair-hints", action="store_true", help="say of each broken promise what to do")
        parser.add_argument(
            "--settle",
            type=seconds,
            default=60.0,
            metavar="SECONDS",
            help="leave out what is younger, as it may be on its way (default: %(default)g; 0 when all is quiet)",
        )
        parser.add_argument(
            "--only", action="append", default=[], metavar="CHECK", help="only this check; may be repeated"
        )
        parser.add_argument("--list", action="store_true", help="list the checks and do nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["list"]:
            width = max(len(check.name) for check in CHECKS)
            for check in CHECKS:
                self.stdout.write(f"{check.name:<{width}}  {check.title}")
            return
        try:
            refuse_mistakes()
            report = audit(
                settle=timedelta(seconds=options["settle"]), only=options["only"], say=self._progress(options["json"])
            )
        except WrongDatabases as error:
            raise CommandError(str(error)) from error
        except UnknownCheck as error:
            raise CommandError(f"There is no check {error}. `audit --list` shows them.") from error
        if options["json"]:
            self.stdout.write(json.dumps(report.as_dict(), indent=2))
        else:
            self._print(report, hints=options["repair_hints"])
        if not report.clean:
            sys.exit(1)

    def _progress(self, quiet: bool) -> Callable[[str], None]:
        """A line that is written over, for who watches."""
        if quiet or not sys.stderr.isatty():
            return lambda text: None
        return lambda text: print(f"\r\033[K{text[:LINE]}", end="", file=sys.stderr, flush=True)  # noqa: T201

    def _print(self, report: Report, *, hints: bool) -> None:
        self._progress(False)("")
        width = max(len(result.check.name) for result in report.results)
        self.stdout.write(f"{'check':<{width}}  {'checked':>10}  {'':<11}  {'violations':>10}")
        for result in report.results:
            self._print_result(result, width, hints)
        for alias in report.unavailable:
            self.stdout.write(self.style.ERROR(f"The database {alias} does not answer."))
        checked = sum(result.checked for result in report.results)
        verdict = "clean" if report.clean else "not clean"
        self.stdout.write(
            f"{verdict}: {len(report.results)} checks, {checked:,} looked at, {report.violations:,} violations,"
            f" {report.seconds:.1f} s; what is younger than {report.settle.total_seconds():g} s was left out"
        )

    def _print_result(self, result: Result, width: int, hints: bool) -> None:
        line = (
            f"{result.check.name:<{width}}  {result.checked:>10,}  {result.check.counts:<11}  {result.violations:>10,}"
        )
        if result.unavailable:
            line += f"  not done: {', '.join(result.unavailable)} away"
        self.stdout.write(self.style.ERROR(line) if result.violations or result.unavailable else line)
        if result.note:
            self.stdout.write(f"    {result.note}")
        if not result.violations:
            return
        self.stdout.write(f"    {result.check.title}")
        for offender in result.offenders[:SHOWN]:
            self.stdout.write(f"    - {offender}")
        if (more := result.violations - len(result.offenders[:SHOWN])) > 0:
            self.stdout.write(f"    and {more:,} more")
        if hints:
            self.stdout.write(f"    To repair: {result.check.hint}")
