"""A whole shop of its own, as processes: what a test can do to it and ask of it, the same on both profiles."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from urllib.parse import urlsplit

from lab.client import Client
from lab.harness.proxy import Proxy
from lab.harness.shell import Shell
from lab.harness.stack import Embedded, Processes
from lab.harness.system import temporary_system
from lab.programs import shop
from tests import profile, programs

P = ParamSpec("P")
T = TypeVar("T")


@dataclass
class Live:
    """A running shop. `env` is what a further process needs to be part of it."""

    processes: Processes
    env: dict[str, str]
    broker: Proxy | None = None  # between the shop and RabbitMQ
    redis: Proxy | None = None
    _shell: Shell = field(init=False)

    def __post_init__(self) -> None:
        self._shell = Shell(self.env)

    @property
    def url(self) -> str:
        return self.processes.url

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function of a module inside the shop."""
        return self._shell.call(function, *args, **kwargs)

    def spawn(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Start Python as a further process of the shop; who starts it ends it."""
        return self._shell.spawn(*arguments, **options)

    def close(self) -> None:
        self._shell.close()

    def database(self, suffix: str = "") -> str:
        """The URL of the default database, or with `_orders_3` that of a shard."""
        return self.env["DATABASE_URL"] + suffix

    def client(self) -> Client:
        """The shopper demo, signed in."""
        return Client(self.url).sign_in()

    def shoppers(self, count: int) -> list[Client]:
        """Customers of their own, with tokens (hashing a password each would be slow)."""
        return [Client(self.url, token=person.token) for person in self.call(shop.people, count)]

    def product(self, sku: str, stock: int) -> None:
        self.call(shop.products, {sku: stock})

    def stock(self, sku: str) -> tuple[int, int, int]:
        """(on hand, reserved, available)"""
        return self.call(programs.stock, sku)

    def in_parallel(self, clients: list[Client], count: int, act: Any) -> list[Any]:
        """Call `act(client, index)` `count` times, each client in a thread of its own, all starting together."""
        start = threading.Barrier(len(clients))

        def work(position: int) -> list[Any]:
            start.wait(timeout=30)
            return [act(clients[position], index) for index in range(position, count, len(clients))]

        with ThreadPoolExecutor(len(clients)) as pool:
            return [result for results in pool.map(work, range(len(clients))) for result in results]


@contextmanager
def running(folder: Path) -> Iterator[Live]:
    """Start a shop on the profile under test, and remove all traces of it afterwards."""
    if profile.PROFILE == "embedded":
        env = {"PROFILE": "embedded", "DEMO_DIR": str(folder), "EVENTING_NAMESPACE": ""}
        with (
            Embedded(data_dir=folder, env=env, arguments=["--orders=0"]) as embedded,
            closing(Live(embedded, env)) as live,
        ):
            yield live
        return
    name = "_".join(filter(None, ["wharf", profile.RUN, profile.WORKER, "live"]))
    with proxy_of("CELERY_BROKER_URL") as broker, proxy_of("REDIS_URL") as redis:
        env = {
            "CELERY_BROKER_URL": through(broker, "CELERY_BROKER_URL"),
            "REDIS_URL": through(redis, "REDIS_URL"),
            "DEBUG": "1",
            "SEED_OPTIONS": "--orders=0",
        }
        with (
            temporary_system(name, folder, env) as system,
            closing(Live(system.processes, dict(system.processes.env), broker=broker, redis=redis)) as live,
        ):
            yield live


def proxy_of(variable: str) -> Proxy:
    """A proxy before the service that this variable of the environment names."""
    url = urlsplit(os.environ[variable])
    return Proxy(url.hostname or "127.0.0.1", url.port or {"amqp": 5672, "redis": 6379}[url.scheme])


def through(proxy: Proxy, variable: str) -> str:
    """The URL of a service, with the proxy's address in place of its own."""
    url = urlsplit(os.environ[variable])
    login = f"{url.netloc.rpartition('@')[0]}@" if "@" in url.netloc else ""
    return url._replace(netloc=f"{login}127.0.0.1:{proxy.port}").geturl()
