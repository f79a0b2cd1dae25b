"""`manage.py run ROLE`: turns this process into one of the application's. All that a role is, is said here.

A role has settings of its own, so manage.py calls this before Django reads them, and Django is loaded by the role.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import threading
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import django
from django.apps import apps
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError

from config import environment, roles
from seed.options import add_options

BACKLOG = 1024  # connections that wait for the web server
STOP_SECONDS = 10  # that requests in hand may take when the web server stops


class Command(BaseCommand):
    requires_system_checks: list[str] = []  # they load every page of the shop
    help = "Run one of the application's processes until SIGTERM or Ctrl-C, which let it end what it has in hand."

    def add_arguments(self, parser: ArgumentParser) -> None:
        known = parser.add_subparsers(dest="role", metavar="ROLE", required=True)

        def add(name: str, text: str) -> ArgumentParser:
            return known.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")

        web = add("web", "the web server: WEB_WORKERS processes with WEB_THREADS threads each")
        add_address(web)
        relay = add("relay", "publishes committed events; of several, another takes over when one dies")
        relay.add_argument("--database", action="append", metavar="ALIAS", help="only this one; may be repeated")
        worker = add("worker", "handles events and background tasks with WORKER_CONCURRENCY processes")
        worker.add_argument(
            "subscribers",
            nargs="*",
            metavar="SUBSCRIBER",
            help="whose queues it takes; `tasks` is the queue of background tasks (default: all of them)",
        )
        add("beat", "sends the periodic tasks when they are due; of several, one does")
        everything = add(
            "all",
            "the embedded profile: prepares the databases, fills an empty shop as `seed` would, and runs web server, "
            "relay, worker and beat as threads of this process",
        )
        add_address(everything)
        everything.add_argument("--no-seed", action="store_true", help="do not fill an empty shop")
        add_options(everything)

    def handle(self, *args: Any, role: str, **options: Any) -> None:
        match role:
            case "web":
                self.web(options["host"], options["port"])
            case "relay":
                self.load("services")
                call_command("relay", database=options["database"], stdout=self.stdout)
            case "worker":
                self.worker(options["subscribers"])
            case "beat":
                self.load("services")
                self.say("beat: periodic tasks")
                self.celery("beat")
            case _:
                self.everything(**options)

    def web(self, host: str, number: int | None) -> None:
        with metrics_folder():
            self.require("services")
            self.check_databases()
            # This process only watches over those of the web server, which load the application.
            from granian import Granian
            from granian.constants import Interfaces
            from granian.errors import FatalError

            server = Granian(
                "config.wsgi:application",
                address=host,
                port=number or settings.PORT,
                interface=Interfaces.WSGI,
                workers=settings.WEB_WORKERS,
                blocking_threads=settings.WEB_THREADS,
                backlog=BACKLOG,
                websockets=False,
                respawn_failed_workers=True,
                workers_kill_timeout=STOP_SECONDS,
            )
            address = f"http://{host}:{number or settings.PORT}/"
            self.say(f"web: {address}, {settings.WEB_WORKERS} processes with {settings.WEB_THREADS} threads each")
            try:
                server.serve()
            except FatalError as error:
                raise CommandError(f"The web server has failed: {error}") from error

    def check_databases(self) -> None:
        """End with one line if the web server must not start (`config.startup`).

        A child does it, once: each process of the web server would end with that line and be started again, and this
        process stays small.
        """
        child = multiprocessing.get_context("fork").Process(target=loaded_check, daemon=True)
        child.start()
        child.join()
        if child.exitcode:
            raise SystemExit(child.exitcode)

    def worker(self, names: Sequence[str]) -> None:
        os.environ["DATABASE_POOL_SIZE"] = str(roles.WORKER_CONNECTIONS)
        self.load("services")
        from eventing import subscribers, topology

        known = [*(subscriber.name for subscriber in subscribers.all_subscribers()), topology.TASKS]
        if unknown := sorted(set(names) - set(known)):
            raise CommandError(f"There is no subscriber {', '.join(unknown)}; there are {', '.join(known)}.")
        taken = names or known
        self.say(f"worker: {', '.join(taken)}, {settings.WORKER_CONCURRENCY} processes")
        self.celery(
            "worker",
            f"--queues={','.join(topology.qualified(name) for name in taken)}",
            f"--hostname={'-'.join(names) or 'all'}@%h",
            f"--concurrency={settings.WORKER_CONCURRENCY}",
            # These need queues that every worker listens on, and nothing here uses them. The heartbeats of the
            # connection to the broker are others, and stay.
            "--without-gossip",
            "--without-mingle",
            "--without-heartbeat",
        )

    def everything(self, *, host: str, port: int | None, no_seed: bool, **options: Any) -> None:
        self.load("embedded")
        from config import embedded
        from config.wsgi import application

        number = port or settings.PORT
        try:
            front = embedded.web(application, host, number)
        except OSError as error:
            raise CommandError(f"Cannot listen on {host}:{number}: {error}. PORT=8001 chooses another port.") from error
        call_command("migrate_all", stdout=self.stdout)
        if not no_seed and apps.is_installed("seed"):
            names = ("orders", "days", "hot_customer", "reference_data")
            call_command("seed", **{name: options[name] for name in names}, stdout=self.stdout)
        stop = threading.Event()

        def on_signal(number: int, frame: FrameType | None) -> None:
            stop.set()

        signal.signal(signal.SIGTERM, on_signal)
        signal.signal(signal.SIGINT, on_signal)
        address = f"http://{host}:{number}/"
        self.say(
            f"\nWharf is open at {address}\n"
            f"  shop      {address}           demo / demo\n"
            f"  admin     {address}admin/     admin / admin\n"
            f"  API       {address}api/v1/docs\n"
            f"  data      {settings.DATA_DIR}\n\nCtrl-C stops it.\n"
        )
        if failed := embedded.run(front, stop):
            raise CommandError(f"The {failed} thread failed; the log above says why.")
        self.say("Stopped.")

    def celery(self, role: str, *options: str) -> None:
        from config.celery import app

        # Celery would run all checks of Django, which load every page of the shop.
        app.start(["--skip-checks", "--quiet", role, *options])

    def load(self, profile: str) -> None:
        self.require(profile)
        django.setup()

    def require(self, profile: str) -> None:
        """End if the settings choose the other profile."""
        if profile == settings.PROFILE:
            return
        if profile == "embedded":
            raise CommandError(
                "DATABASE_URL is set, so this is the services profile: `script/stack` runs a process for each role. "
                "PROFILE=embedded chooses the embedded profile in spite of it."
            )
        raise CommandError("The embedded profile's broker lives inside one process: `manage.py run all` runs it.")

    def say(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()  # whoever has started it may be waiting for that


def loaded_check() -> None:
    django.setup()
    from config import startup

    startup.check()


def add_address(parser: ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=environment.port, help="port (default: $PORT, else 8000)")


@contextmanager
def metrics_folder() -> Iterator[None]:
    """Where the processes of a web server add up their numbers: PROMETHEUS_MULTIPROC_DIR, else a temporary folder."""
    with ExitStack() as temporary:
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            made = tempfile.TemporaryDirectory(prefix="wharf-metrics-")
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = temporary.enter_context(made)
        folder = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
        folder.mkdir(parents=True, exist_ok=True)
        for file in folder.glob("*.db"):  # numbers of an earlier start would be counted again
            file.unlink()
        yield
