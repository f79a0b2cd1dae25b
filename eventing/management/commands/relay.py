"""Runs the relay: a thread for each database takes committed events from its outbox to the broker."""

from __future__ import annotations

import signal
import socket
import threading
from argparse import ArgumentParser
from types import FrameType
from typing import Any

from django.conf import settings
from django.core.checks import run_checks
from django.core.management.base import BaseCommand, CommandError
from django.db import DEFAULT_DB_ALIAS, connections

from eventing import clocks
from eventing.conf import conf
from eventing.pressure import Load
from eventing.relay import start_threads

WAKE_SECONDS = 0.5


class Command(BaseCommand):
    requires_system_checks: list[str] = []  # they would load every page
    help = (
        "Publish committed events to the broker until stopped. Several relays may run: each database has "
        "one of them as leader, and another takes over when it dies. SIGTERM finishes the current batch."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--database", action="append", metavar="ALIAS", help="only this database; may be repeated (default: all)"
        )

    def handle(self, *args: Any, database: list[str] | None = None, **options: Any) -> None:
        aliases = database or list(settings.DATABASES)
        if unknown := set(aliases) - set(settings.DATABASES):
            raise CommandError(
                f"There is no database {', '.join(sorted(unknown))}; there are {', '.join(settings.DATABASES)}."
            )
        if not conf.EVENTING_DURABLE_BROKER:
            raise CommandError("The broker lives inside another process, which runs the relay with it.")
        # The project may know that these are not the right databases.
        if wrong := run_checks(tags=["installation"], databases=list(settings.DATABASES)):
            raise CommandError(" ".join(message.msg for message in wrong))
        connections.close_all()
        stop = threading.Event()

        def on_signal(number: int, frame: FrameType | None) -> None:
            stop.set()

        signal.signal(signal.SIGTERM, on_signal)
        signal.signal(signal.SIGINT, on_signal)
        load = Load()
        threads = start_threads(aliases, stop, load)
        self.stdout.write(f"relay: {len(aliases)} databases ({', '.join(aliases)})")
        self.stdout.flush()  # a program that has started it may wait for this line
        while not stop.wait(WAKE_SECONDS):
            clocks.note(f"relay@{socket.gethostname()}")
            connections[DEFAULT_DB_ALIAS].close()
        for thread in threads:
            thread.join(timeout=30)
        load.close()
        self.stdout.write("relay: stopped")
