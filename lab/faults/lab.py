"""A whole shop on PostgreSQL, RabbitMQ and Redis of its own, where everything may be killed.

The services are private instances on free ports with their data in a folder of their own. The shop is the services
profile (lab/harness/stack.py); a process that dies is started again, as docker compose would.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, LiteralString
from urllib.parse import urlsplit

import psycopg

from lab.harness import ROOT
from lab.harness.installations import production
from lab.harness.instances import Instance, free_port, kill, start_postgresql, start_rabbitmq, start_redis, stop
from lab.harness.proxy import Proxy
from lab.harness.shell import Shell
from lab.harness.stack import Stack
from lab.harness.system import System

INJECTED = Path(__file__).resolve().parent / "injected"
SHARDS = 4  # the last two on a PostgreSQL server of their own
WATCH_SECONDS = 0.1


@dataclass(slots=True)
class Server:
    """A private instance that can be ended and started again, on the same port and with the same data."""

    directory: Path
    begin: Callable[..., Instance]
    port: int = field(default_factory=free_port)
    instance: Instance | None = None

    @property
    def url(self) -> str:
        if self.instance is None:
            raise RuntimeError(f"the server in {self.directory} was never started")
        return self.instance.url

    def start(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.instance = self.begin(self.directory, port=self.port)

    def stop(self, *, by_force: bool = False) -> None:
        if self.instance is not None:
            (kill if by_force else stop)(self.instance)

    @contextmanager
    def stopped(self, *, by_force: bool = False) -> Iterator[None]:
        """It is away meanwhile."""
        self.stop(by_force=by_force)
        try:
            yield
        finally:
            self.start()


@dataclass(slots=True)
class Services:
    """The private services of a laboratory. Only the second PostgreSQL server, with half of the shards, is stopped."""

    folder: Path
    postgresql: Server = field(init=False)
    shards: Server = field(init=False)
    broker: Server = field(init=False)
    redis: Server = field(init=False)

    def __post_init__(self) -> None:
        self.postgresql = Server(self.folder / "postgresql", partial(start_postgresql, fsync=False))
        self.shards = Server(self.folder / "postgresql-shards", start_postgresql)
        self.broker = Server(self.folder / "rabbitmq", start_rabbitmq)
        self.redis = Server(self.folder / "redis", start_redis)

    def each(self, act: Callable[[Server], None]) -> None:
        servers = [self.postgresql, self.shards, self.broker, self.redis]
        with ThreadPoolExecutor(len(servers)) as threads:
            list(threads.map(act, servers))

    def remove(self) -> None:
        self.each(Server.stop)
        for server in (self.postgresql, self.shards):
            # It is elsewhere when the folder is closed to the user that PostgreSQL runs as.
            shutil.rmtree((server.directory / "data").resolve(), ignore_errors=True)


@contextmanager
def private_services() -> Iterator[Services]:
    """Start private services, and remove all traces of them afterwards. Raises Unusable if one cannot be started."""
    with tempfile.TemporaryDirectory(prefix="wharf-faults-", ignore_cleanup_errors=True) as folder:
        services = Services(Path(folder))
        try:
            services.each(Server.start)
            yield services
        finally:
            services.remove()


class Lab(System):
    """A shop on private services. `mutation` breaks it on purpose (see injected/sitecustomize.py).

    `freeze_seconds` is how long a process is frozen: longer than it takes the clock to come round to an order.
    """

    def __init__(
        self, services: Services, folder: Path, *, name: str = "faults", mutation: str = "", freeze_seconds: float = 40
    ) -> None:
        self.freeze_seconds = freeze_seconds
        self.services = services
        self.folder = folder
        self.orders = folder / "injected"
        self.orders.mkdir(parents=True)
        self.broker_proxy = Proxy("127.0.0.1", services.broker.port)
        broker = urlsplit(services.broker.url)
        login = broker.netloc.rpartition("@")[0]
        main, others = (
            urlsplit(server.url)._replace(path=f"/{name}").geturl() for server in (services.postgresql, services.shards)
        )
        servers = [main] * (SHARDS // 2) + [others] * (SHARDS - SHARDS // 2)
        self.databases = {"default": main} | {
            f"orders_{number}": f"{server}_orders_{number}" for number, server in enumerate(servers)
        }
        env = production(
            PROFILE="services",
            DATABASE_URL=main,
            ORDER_SHARD_URLS=",".join(self.databases[alias] for alias in self.shards),
            CELERY_BROKER_URL=broker._replace(netloc=f"{login}@127.0.0.1:{self.broker_proxy.port}").geturl(),
            REDIS_URL=services.redis.url,
            EVENTING_NAMESPACE=name,
            DEMO_DIR=str(folder),
            ORDER_PAYMENT_TIMEOUT="86400",  # the clock's cancellations would only blur what is expected
        )
        injected = {
            "PYTHONPATH": os.pathsep.join([str(INJECTED), str(ROOT)]),
            "INJECTED_DIR": str(self.orders),
            "INJECTED_MUTATION": mutation,
        }
        # The laboratory's own process of the shop is left in peace.
        super().__init__(Stack(env={**env, **injected}, log_dir=folder / "log"), Shell(env))
        self.env = env
        self._lock = threading.RLock()
        self._closing = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Lab:
        try:
            self.processes.start()
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
        self.processes.stop()
        self.shell.close()
        self.broker_proxy.cut()

    def _watch(self) -> None:
        while not self._closing.wait(WATCH_SECONDS):
            with self._lock:
                while not self._closing.is_set() and (name := self.processes.failed()) is not None:
                    self.processes.restart(name)

    def connect(self, alias: str = "default") -> psycopg.Connection[Any]:
        """A connection of our own to one of the shop's databases; each statement commits."""
        return psycopg.connect(self.databases[alias], autocommit=True)

    def query(self, text: LiteralString, *parameters: object, aliases: Sequence[str] = ("default",)) -> list[Any]:
        """The rows of one or several databases."""
        rows: list[Any] = []
        for alias in aliases:
            with self.connect(alias) as connection:
                rows += connection.execute(text, parameters).fetchall()
        return rows

    @property
    def shards(self) -> list[str]:
        return [alias for alias in self.databases if alias != "default"]

    # --- Faults of processes ---

    def mutate(self, name: str, mutation: str) -> None:
        """Break a service of this shop on purpose, from now on (see injected/sitecustomize.py)."""
        with self._lock:
            self.processes.env = {**self.processes.env, "INJECTED_MUTATION": mutation}
            self.processes.restart(name)

    def start_anew(self, name: str, environment: Mapping[str, str]) -> None:
        """Restart a service, with these variables besides those that it has anyway."""
        with self._lock:
            self.processes.own_env[name] = environment
            self.processes.restart(name)

    @contextmanager
    def frozen(self, name: str) -> Iterator[None]:
        """A service that does nothing meanwhile."""
        with self._lock:
            self.processes.kill(name, signal.SIGSTOP)
        try:
            yield
        finally:
            with self._lock:
                self.processes.kill(name, signal.SIGCONT)

    def order_death(self, point: str, *, whole_service: bool = True) -> None:
        """The next process that comes to this point (see injected/sitecustomize.py) dies there."""
        self._order(f"die-{point}", "group" if whole_service else "process")

    def deaths(self, point: str) -> int:
        """How many processes have died at this point."""
        return len(list(self.orders.glob(f"died-{point}-*")))

    def order_failures(self, subscriber: str, event_type: str, streams: Sequence[int], *, times: int = 0) -> None:
        """A handler raises for these events: `times` times and transiently, or for good."""
        order = {"streams": list(streams), "times": times, "transient": times > 0}
        self._order(f"fail-{subscriber}-{event_type}", json.dumps(order))

    def failures(self, subscriber: str) -> int:
        """How often a handler of this subscriber has failed transiently, over all events."""
        return sum(file.stat().st_size for file in self.orders.glob(f"failures-{subscriber}-*"))

    def cancel(self, *patterns: str) -> None:
        """What was ordered and has not happened yet does not happen any more: `die-*`, `fail-*`."""
        for file in (file for pattern in patterns for file in self.orders.glob(pattern)):
            file.unlink(missing_ok=True)

    @contextmanager
    def thrice(self) -> Iterator[None]:
        """The relay sends every event three times meanwhile, alone and in random order."""
        self._order("thrice", "")
        try:
            yield
        finally:
            self.cancel("thrice")

    def _order(self, name: str, text: str) -> None:
        # Renamed into place, so that nobody reads half of it.
        (self.orders / f"new-{name}").write_text(text)
        (self.orders / f"new-{name}").rename(self.orders / name)
