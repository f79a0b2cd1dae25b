"""A whole shop on PostgreSQL, RabbitMQ and Redis of its own, where everything may be killed.

The services are private instances on free ports with their data in a folder of their own. The shop is the services
profile (lab/stack.py); a process that dies is started again, as docker compose would.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg

from lab.instances import Instance, kill, start_postgresql, start_rabbitmq, start_redis, stop
from lab.pending import pending
from lab.proxy import Proxy
from lab.shell import Shell, ShellError
from lab.stack import ROOT, Processes, Stack

SABOTAGE = Path(__file__).resolve().parent / "sabotage"
SHARDS = 4  # the last two on a PostgreSQL server of their own
WATCH_SECONDS = 0.1
QUIET_POLL_SECONDS = 0.5

AUDIT = """
from datetime import timedelta
from monitoring.audit import audit
answer = audit(settle=timedelta(0)).as_dict()
"""


class NotQuiet(Exception):
    """Something is still on its way after the time that it was given."""


@dataclass(slots=True)
class Server:
    """A private instance that can be ended and started again, on the same port and with the same data."""

    directory: Path
    begin: Callable[..., Instance]
    port: int
    instance: Instance | None = None

    def start(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.instance = self.begin(self.directory, port=self.port)

    @property
    def url(self) -> str:
        if self.instance is None:
            raise RuntimeError(f"the server in {self.directory} was never started")
        return self.instance.url

    def stop(self) -> None:
        if self.instance is not None:
            stop(self.instance)

    def kill(self) -> None:
        if self.instance is not None:
            kill(self.instance)


def _start_fast_postgresql(directory: Path, *, port: int) -> Instance:
    return start_postgresql(directory, port=port, fsync=False)


@dataclass(slots=True)
class Services:
    """The private services of a laboratory. Only the second PostgreSQL server, with half of the shards, is stopped."""

    folder: Path
    postgresql: Server = field(init=False)
    shards: Server = field(init=False)
    broker: Server = field(init=False)
    redis: Server = field(init=False)

    def __post_init__(self) -> None:
        ports = free_ports(4)
        self.postgresql = Server(self.folder / "postgresql", _start_fast_postgresql, ports[0])
        self.shards = Server(self.folder / "postgresql-shards", start_postgresql, ports[1])
        self.broker = Server(self.folder / "rabbitmq", start_rabbitmq, ports[2])
        self.redis = Server(self.folder / "redis", start_redis, ports[3])

    @property
    def all(self) -> list[Server]:
        return [self.postgresql, self.shards, self.broker, self.redis]

    def start(self) -> None:
        """Raises Unusable if one cannot be started."""
        with ThreadPoolExecutor(len(self.all)) as threads:
            list(threads.map(Server.start, self.all))

    def stop(self) -> None:
        with ThreadPoolExecutor(len(self.all)) as threads:
            list(threads.map(Server.stop, self.all))
        for server in (self.postgresql, self.shards):
            # It is elsewhere when the folder is closed to the user that PostgreSQL runs as.
            shutil.rmtree((server.directory / "data").resolve(), ignore_errors=True)


def free_ports(number: int) -> list[int]:
    """Ports below those that the system gives to clients: one of these could take the port of a stopped server."""
    ports: list[int] = []
    while len(ports) < number:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as listener:
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in ports:
            ports.append(port)
    return ports


class Lab:
    """A shop on private services. `mutation` breaks it on purpose (see sabotage/sitecustomize.py).

    `freeze_seconds` is how long a process is frozen: longer than it takes the clock to come round to an order.
    """

    def __init__(
        self,
        services: Services,
        folder: Path,
        *,
        name: str = "faults",
        mutation: str = "",
        freeze_seconds: float = 40,
    ) -> None:
        self.freeze_seconds = freeze_seconds
        self.services = services
        self.folder = folder
        self.orders = folder / "sabotage"
        self.orders.mkdir(parents=True)
        self.broker_proxy = Proxy("127.0.0.1", services.broker.port)
        broker = urlsplit(services.broker.url)
        login = broker.netloc.rpartition("@")[0]
        main = urlsplit(services.postgresql.url)._replace(path=f"/{name}").geturl()
        others = urlsplit(services.shards.url)._replace(path=f"/{name}").geturl()
        servers = [main] * (SHARDS // 2) + [others] * (SHARDS - SHARDS // 2)
        self.databases = {"default": main} | {
            f"orders_{number}": f"{server}_orders_{number}" for number, server in enumerate(servers)
        }
        env = {
            "PROFILE": "services",
            "DATABASE_URL": main,
            "ORDER_SHARD_URLS": ",".join(url for alias, url in self.databases.items() if alias != "default"),
            "CELERY_BROKER_URL": broker._replace(netloc=f"{login}@127.0.0.1:{self.broker_proxy.port}").geturl(),
            "REDIS_URL": services.redis.url,
            "EVENTING_NAMESPACE": name,
            "DEMO_DIR": str(folder),
            "ALLOWED_HOSTS": "127.0.0.1",
            "DEBUG": "0",
            "EMAIL_URL": "dummymail://",
            "HTTPS": "false",
            "SECRET_KEY": secrets.token_urlsafe(50),
            "SEED_OPTIONS": "--reference-data",
            "ORDER_PAYMENT_TIMEOUT": "86400",  # the clock's cancellations would only blur what is expected
        }
        sabotage = {
            "PYTHONPATH": os.pathsep.join([str(SABOTAGE), str(ROOT)]),
            "SABOTAGE_DIR": str(self.orders),
            "SABOTAGE_MUTATION": mutation,
        }
        self.stack: Processes = Stack(env={**env, **sabotage}, log_dir=folder / "log")
        self.shell = Shell(env)  # the laboratory's own process is not sabotaged
        self._lock = threading.RLock()
        self._closing = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self.restarts = 0

    def __enter__(self) -> Lab:
        try:
            self.stack.start()
            self._watcher.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self._closing.set()
        if self._watcher.is_alive():
            self._watcher.join()
        self.broker_proxy.release_answers()
        self.stack.stop()
        self.shell.close()
        self.broker_proxy.cut()

    @property
    def url(self) -> str:
        return self.stack.url

    def _watch(self) -> None:
        while not self._closing.wait(WATCH_SECONDS):
            with self._lock:
                while (name := self.stack.failed()) is not None:
                    self.stack.restart(name)
                    self.restarts += 1

    # --- Faults of processes ---

    def kill(self, name: str) -> None:
        """End a service at once; it is started again."""
        with self._lock:
            self.stack.kill(name)

    def mutate(self, name: str, mutation: str) -> None:
        """Break a service of this shop on purpose, from now on (see sabotage/sitecustomize.py)."""
        with self._lock:
            self.stack.env = {**self.stack.env, "SABOTAGE_MUTATION": mutation}
            self.stack.restart(name)

    def start_anew(self, name: str, environment: Mapping[str, str]) -> None:
        """Restart a service, with these variables besides those that it has anyway."""
        with self._lock:
            self.stack.own_env[name] = environment
            self.stack.restart(name)

    @contextmanager
    def frozen(self, name: str) -> Iterator[None]:
        """A service that does nothing meanwhile."""
        with self._lock:
            self.stack.kill(name, signal.SIGSTOP)
        try:
            yield
        finally:
            with self._lock:
                self.stack.kill(name, signal.SIGCONT)

    def order_death(self, point: str, *, whole_service: bool = True) -> None:
        """The next process that comes to this point (see sabotage/sitecustomize.py) dies there."""
        self._order(f"die-{point}", "group" if whole_service else "process")

    def deaths(self, point: str) -> int:
        """How many processes have died at this point."""
        return len(list(self.orders.glob(f"died-{point}-*")))

    def cancel_deaths(self) -> None:
        """What has not died yet lives on."""
        for order in self.orders.glob("die-*"):
            order.unlink(missing_ok=True)

    def order_failures(self, subscriber: str, event_type: str, streams: Sequence[int], *, times: int = 0) -> None:
        """A handler raises for these events: `times` times and transiently, or for good."""
        order = {"streams": list(streams), "times": times, "transient": times > 0}
        self._order(f"fail-{subscriber}-{event_type}", json.dumps(order))

    def failures(self, subscriber: str) -> int:
        """How often a handler of this subscriber has failed transiently, over all events."""
        return sum(file.stat().st_size for file in self.orders.glob(f"failures-{subscriber}-*"))

    def cancel_failures(self) -> None:
        for pattern in ("fail-*", "failures-*"):
            for file in self.orders.glob(pattern):
                file.unlink()

    @contextmanager
    def thrice(self) -> Iterator[None]:
        """The relay sends every event three times meanwhile, alone and in random order."""
        self._order("thrice", "")
        try:
            yield
        finally:
            (self.orders / "thrice").unlink()

    def _order(self, name: str, text: str) -> None:
        # Renamed into place, so that nobody reads half of it.
        (self.orders / f"new-{name}").write_text(text)
        (self.orders / f"new-{name}").rename(self.orders / name)

    # --- Questions ---

    def connect(self, alias: str = "default") -> psycopg.Connection[Any]:
        """A connection of our own to one of the shop's databases; each statement commits."""
        return psycopg.connect(self.databases[alias], autocommit=True)

    def pending(self) -> dict[str, int]:
        """What is still on its way. Raises ShellError while a service is away."""
        return pending(self.shell)

    def wait_until_quiet(self, seconds: float) -> None:
        """Wait until everything has had its effect; raises NotQuiet with what is left."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                left = ", ".join(f"{number} {what}" for what, number in self.pending().items() if number)
            except ShellError as error:  # a service is not quite back
                left = str(error)
            if not left:
                return
            if time.monotonic() > deadline:
                raise NotQuiet(left)
            time.sleep(QUIET_POLL_SECONDS)

    def audit(self) -> dict[str, Any]:
        """The report of `manage.py audit --json --settle 0`, without the start of another process."""
        report: dict[str, Any] = self.shell.run(AUDIT)
        return report


@contextmanager
def private_services() -> Iterator[Services]:
    """Start private services, and remove all traces of them afterwards."""
    with tempfile.TemporaryDirectory(prefix="wharf-faults-", ignore_cleanup_errors=True) as folder:
        services = Services(Path(folder))
        try:
            services.start()
            yield services
        finally:
            services.stop()
