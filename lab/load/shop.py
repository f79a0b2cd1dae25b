"""A shop to load: on the services as they are, or on private ones where faults can be staged."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab.bench.run import PRODUCTION
from lab.faults.lab import Lab, private_services
from lab.load.promises import Audit
from lab.pending import pending
from lab.probes import Unusable, probe_postgresql, probe_rabbitmq, probe_redis
from lab.shell import Shell, ShellError
from lab.stack import Processes
from lab.temporary import temporary_stack

NAME = "wharf_load"
POLL_SECONDS = 0.5
SAY_SECONDS = 5.0
AUDIT_SECONDS = 60.0
# As in production, with its limits: the clock's cancellations alone would blur what is expected.
SETTINGS = {**PRODUCTION, "EVENTING_MAX_LAG_SECONDS": "30", "ORDER_PAYMENT_TIMEOUT": "86400"}

Say = Callable[[str], None]


@dataclass(slots=True)
class Shop:
    """A running shop. `services` are the addresses of PostgreSQL, RabbitMQ and Redis; `lab` is where faults happen."""

    processes: Processes
    shell: Shell
    services: Mapping[str, str]
    lab: Lab | None = None

    @property
    def url(self) -> str:
        return self.processes.url

    @property
    def ended(self) -> list[str]:
        """A service that has ended by itself. In a laboratory it is meant to, and is started again."""
        name = self.processes.failed() if self.lab is None else None
        return [name] if name else []

    def versions(self) -> dict[str, str]:
        """Of the services, as far as they answer."""
        probes = {
            "PostgreSQL": (probe_postgresql, "DATABASE_URL"),
            "RabbitMQ": (probe_rabbitmq, "CELERY_BROKER_URL"),
            "Redis": (probe_redis, "REDIS_URL"),
        }
        found = {}
        for name, (probe, variable) in probes.items():
            try:
                found[name] = probe(self.services[variable])
            except (KeyError, Unusable):
                found[name] = "none"
        return found

    def drain(self, limit: float, say: Say) -> tuple[bool, str]:
        """Wait until outboxes and queues are empty and everything was handled, for `limit` seconds at most.

        Returns whether it came to that, and what was left. What has ended as a dead letter stays unhandled.
        """
        began = time.monotonic()
        said = began
        while True:
            try:
                counts = pending(self.shell)
                waits = counts["outbox"] or counts["messages"] or counts["deliveries"] > counts["dead"]
                left = ", ".join(f"{number:,} {what}" for what, number in counts.items())
            except ShellError as error:  # a service is not quite back
                waits, left = 1, str(error).strip().rpartition("\n")[2]
            now = time.monotonic()
            if not waits:
                return True, ""
            if now - began > limit:
                return False, left
            if now - said >= SAY_SECONDS:
                say(f"  {now - began:4.0f} s: still on its way: {left}")
                said = now
            time.sleep(POLL_SECONDS)

    def dead_letters(self) -> int:
        """Events that nobody could handle. Raises ShellError."""
        return pending(self.shell)["dead"]

    def audit(self, say: Say) -> Audit:
        """Run `manage.py audit`, again for AUDIT_SECONDS while it could not ask a database.

        After a rush the shop may hold all connections that a server has, until it gives up those that it does not need.
        """
        deadline = time.monotonic() + AUDIT_SECONDS
        while True:
            audit = self._audit_once()
            if not audit.unavailable or time.monotonic() > deadline:
                return audit
            say(f"  auditing again: {', '.join(audit.unavailable)} could not be asked")

    def _audit_once(self) -> Audit:
        # In a session of its own, so that Ctrl-C comes to us alone.
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "start_new_session": True}
        process = self.shell.spawn("manage.py", "audit", "--json", "--settle", "0", **options)
        try:
            printed, said = process.communicate()
        finally:
            process.kill()
            process.wait()
        try:
            return Audit.read(json.loads(printed))
        except ValueError:
            last = said.strip().rpartition("\n")[2]
            return Audit(clean=False, violations=[f"manage.py audit ended with code {process.returncode}: {last}"])


@contextmanager
def open_shop(folder: Path, *, for_faults: bool) -> Iterator[Shop]:
    """Start a shop, and remove all traces of it afterwards. Raises Unusable or StackError."""
    if for_faults:
        with private_services() as services, Lab(services, services.folder / "lab") as lab:
            addresses = {
                "DATABASE_URL": services.postgresql.url,
                "CELERY_BROKER_URL": services.broker.url,
                "REDIS_URL": services.redis.url,
            }
            yield Shop(lab.stack, lab.shell, addresses, lab)
        return
    env = {**SETTINGS, "SECRET_KEY": secrets.token_urlsafe(50)}
    with temporary_stack(NAME, folder, env) as stack, closing(Shell(stack.env)) as shell:
        yield Shop(stack, shell, {**os.environ, **stack.env})
