"""Rebuilds a read model from its events while the system runs."""

from __future__ import annotations

import threading
import time
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

from django.core.management.base import CommandError
from django.db import Error, connections

from eventing import projections, rebuild
from eventing.console import LongCommand, whole_number
from eventing.databases import is_postgresql
from eventing.errors import EventingError
from eventing.projections import Part, Projection
from eventing.rebuild import Found
from eventing.transient import is_transient

SHOWN = 50
MOST_JOBS = 32


class Command(LongCommand):
    help = (
        "Rebuild a read model from its events, beside the one in use, report what differed, and switch over. Readers "
        "and writers continue meanwhile. It may be stopped at any time and run again."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--projection", metavar="P", help="which read model")
        parser.add_argument("--check", action="store_true", help="only compare; exit 1 if anything differs")
        parser.add_argument(
            "--jobs",
            type=whole_number(1, MOST_JOBS),
            default=2,
            metavar="N",
            help="so many databases side by side (default: %(default)s)",
        )
        parser.add_argument("--list", action="store_true", help="list the read models that can be rebuilt")

    def handle(self, *args: Any, projection: str | None, check: bool, **options: Any) -> None:
        known = sorted(projections.all_projections(), key=lambda one: one.name)
        if options["list"]:
            for one in known:
                tables = ", ".join(table.name for table in one.tables)
                self.stdout.write(f"{one.name}: {tables}, from the streams of {one.category}")
            return
        if not projection:
            raise CommandError(f"Say --projection; there are {', '.join(one.name for one in known)}.")
        try:
            self._run(projections.get(projection), check, options["jobs"])
        except EventingError as error:
            raise CommandError(str(error)) from error
        except Error as error:
            raise CommandError(f"{error}\nWhat is not rebuilt yet is as it was; run the command again.") from error
        except KeyboardInterrupt:
            self.interrupted("stopped: what is not rebuilt yet is as it was.")

    def _run(self, projection: Projection, check: bool, jobs: int) -> None:
        began = time.monotonic()
        total = Found()
        work = [(alias, projection.parts(alias)) for alias in projection.aliases()]
        parts = sum(len(of_alias) for _, of_alias in work)
        done = 0
        reporting, stop = threading.Lock(), threading.Event()

        def rebuild_all_of(alias: str, of_alias: Sequence[Part]) -> None:
            nonlocal done
            with rebuild.alone(projection, alias):
                for part in of_alias:
                    if stop.is_set():
                        return
                    if check:
                        found = rebuild.compare(projection, alias, part)
                    else:
                        found = rebuild.rebuild(projection, alias, part, on_busy=self._busy(alias, part.name))
                    with reporting:
                        self._add(found, total)
                        done += 1
                        self.report_progress(
                            f"{alias} {part.name}: {done} of {parts} parts, {total.streams:,} streams,"
                            f" {total.differing:,} differed"
                        )

        unavailable: list[Error] = []

        def skip_if_unavailable(alias: str, of_alias: Sequence[Part]) -> None:
            try:
                rebuild_all_of(alias, of_alias)
            except Error as error:
                if not is_transient(error):
                    raise
                unavailable.append(error)

        def in_thread(alias: str, of_alias: Sequence[Part]) -> None:
            try:
                skip_if_unavailable(alias, of_alias)
            finally:
                connections.close_all()

        if jobs == 1 or not is_postgresql(connections[work[0][0]]):  # SQLite has one writer
            for alias, of_alias in work:
                skip_if_unavailable(alias, of_alias)
        else:
            with ThreadPoolExecutor(jobs, thread_name_prefix="rebuild") as threads:
                try:
                    for ended in as_completed([threads.submit(in_thread, *one) for one in work]):
                        ended.result()
                finally:
                    stop.set()
        if unavailable:
            raise unavailable[0]
        if total.differing > 0 and len(total.differences) >= SHOWN:
            self.stdout.write("… more differences are not shown")
        seconds = time.monotonic() - began
        answer = f"{projection.name}: {total.streams:,} streams in {parts} parts, {total.differing:,} differ"
        if not check:
            self.stdout.write(f"{answer}ed; rebuilt in {seconds:.1f} s.")
        elif total.differing:
            raise CommandError(f"{answer}. `manage.py rebuild --projection {projection.name}` rebuilds them.")
        else:
            self.stdout.write(f"{answer}.")

    def _add(self, found: Found, total: Found) -> None:
        for difference in found.differences[: SHOWN - len(total.differences)]:
            self.stdout.write(str(difference))
        total.streams += found.streams
        total.differing += found.differing
        total.differences += found.differences[: SHOWN - len(total.differences)]

    def _busy(self, alias: str, part: str) -> Callable[[int], None]:
        return lambda tries: self.report(f"{alias} {part}: in use; try {tries} of {rebuild.LOCK_TRIES}")
