"""Runs the whole shop in this process: the embedded profile."""

from __future__ import annotations

import signal
import threading
from argparse import ArgumentParser
from types import FrameType
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import CommandError

from config.environment import port
from seed.management.commands import seed


class Command(seed.Command):
    help = (
        "Prepare the databases, fill an empty shop as `seed` would, whose options it takes, and run web server, relay, "
        "worker and beat in this process (embedded profile)."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
        parser.add_argument("--port", type=port, default=settings.PORT, help="port (default: $PORT, else 8000)")
        parser.add_argument("--no-seed", action="store_true", help="do not fill an empty shop with products and orders")

    def handle(self, *args: Any, **options: Any) -> None:
        host, number = options["host"], options["port"]
        if not settings.EMBEDDED:
            raise CommandError(
                "DATABASE_URL is set, so this is the services profile: `script/stack` runs it. "
                "PROFILE=embedded chooses the embedded profile in spite of it."
            )
        # Imported here because it configures Celery for a worker, which no other command wants.
        from config import embedded
        from config.wsgi import application

        try:
            front = embedded.web(application, host, number)
        except OSError as error:
            raise CommandError(f"Cannot listen on {host}:{number}: {error}. PORT=8001 chooses another port.") from error
        call_command("migrate_all", stdout=self.stdout)
        if not options["no_seed"]:
            super().handle(*args, **options)
        stop = threading.Event()

        def on_signal(number: int, frame: FrameType | None) -> None:
            stop.set()

        signal.signal(signal.SIGTERM, on_signal)
        signal.signal(signal.SIGINT, on_signal)
        address = f"http://{host}:{number}/"
        self.stdout.write(
            f"\nWharf is open at {address}\n"
            f"  shop      {address}           demo / demo\n"
            f"  admin     {address}admin/     admin / admin\n"
            f"  API       {address}api/v1/docs\n"
            f"  data      {settings.DATA_DIR}\n\nCtrl-C stops it.\n"
        )
        if failed := embedded.run(front, stop):
            raise CommandError(f"The {failed} thread failed; the log above says why.")
        self.stdout.write("Stopped.")
