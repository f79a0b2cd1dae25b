"""Runs the application as local processes and stops it without leaving one behind: `script/stack`, tests, load tests.

`Stack` is the services profile, a process for each role of `manage.py run`; `Embedded` is `manage.py run all`.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Self
from urllib.request import urlopen

from config.roles import PROCESSES
from lab.harness import ROOT, read_dotenv
from lab.harness.instances import free_port
from lab.harness.interrupts import Interrupts
from lab.harness.processes import Process, spawn

HOST = "127.0.0.1"
STOP_SECONDS = 30
POLL_SECONDS = 0.05
LOG_LINES = 25
MANAGE = (sys.executable, "manage.py")
SERVERS = {"--database-url": "DATABASE_URL", "--broker-url": "CELERY_BROKER_URL", "--redis-url": "REDIS_URL"}
REQUIRED = ("DATABASE_URL", "CELERY_BROKER_URL")


class StackError(Exception):
    """The application did not start or did not stay up; the message ends with the last lines of the log."""


@dataclass(kw_only=True)
class Processes:
    """Named local processes, each with a log file in `log_dir`. A context manager that starts and stops them.

    `env` comes before the environment of this process, and `own_env` of a service before both. With `port` 0 a free one
    is taken.
    """

    env: Mapping[str, str] = field(default_factory=dict)
    log_dir: Path = ROOT / "var" / "stack"
    port: int = 0
    ready_path: str = "/readyz"
    start_seconds: float = 180
    own_env: dict[str, Mapping[str, str]] = field(init=False, default_factory=dict)
    running: dict[str, Process] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.log_dir = Path(self.log_dir)
        self.port = self.port or free_port()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The address of the web server, without a slash at the end."""
        return f"http://{HOST}:{self.port}"

    @property
    def pids(self) -> dict[str, int]:
        """The first process of each service that is running."""
        return {name: process.pid for name, process in self.running.items() if process.is_running}

    def start(self) -> None:
        """Start everything and wait until it can be used. Raises StackError, having stopped everything again."""
        try:
            self.log_dir.mkdir(parents=True, exist_ok=True)
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        """Ask every service to end, and end by force what is still there after STOP_SECONDS. May be repeated."""
        for process in self.running.values():
            process.ask_to_end()
        deadline = time.monotonic() + STOP_SECONDS
        for process in self.running.values():
            process.end(deadline)
        self.running.clear()

    def stop_service(self, name: str) -> None:
        """Ask one service to end, as `docker compose stop` does."""
        process = self.running.pop(name)
        process.ask_to_end()
        process.end(time.monotonic() + STOP_SECONDS)

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to all processes of a service; after SIGKILL, waits until they are gone."""
        self.running[name].signal_group(number)
        if number == signal.SIGKILL:
            self.running[name].end()

    def restart(self, name: str) -> None:
        """Start a service again, whether it is running or was killed."""
        self.stop_service(name)
        self.start_service(name)

    def start_service(self, name: str) -> None:
        """Start one service that is not running."""
        raise NotImplementedError

    def failed(self) -> str | None:
        """The name of a service that has ended by itself."""
        return next((name for name, process in self.running.items() if not process.is_running), None)

    def tail(self, name: str, lines: int = LOG_LINES) -> str:
        """The last lines of a service's log."""
        log = self.log_dir / f"{name}.log"
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else ""

    def _spawn(self, name: str, arguments: Sequence[str], environment: Mapping[str, str]) -> Process:
        # The programs of the virtual environment come first, as they do in the image.
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        own = self.own_env.get(name, {})
        env = {**os.environ, "PYTHONUNBUFFERED": "1", **environment, **own, "PATH": path}
        self.running[name] = spawn(arguments, log=self.log_dir / f"{name}.log", env=env)
        return self.running[name]

    def _run_to_end(self, name: str, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        process = self._spawn(name, arguments, environment)
        while process.is_running:
            time.sleep(POLL_SECONDS)
        del self.running[name]
        if process.code:
            raise StackError(f"{name} failed with code {process.code}:\n{self.tail(name)}")

    def _wait_until_ready(self, web: str) -> None:
        """Wait for an answer to `ready_path` of the service `web` while all services live. Impaired is ready enough."""
        deadline = time.monotonic() + self.start_seconds
        while not self._is_ready():
            if name := self.failed():
                code = self.running[name].code
                raise StackError(f"{name} ended with code {code} while starting:\n{self.tail(name)}")
            if time.monotonic() > deadline:
                late = f"{self.url}{self.ready_path} was not ready within {self.start_seconds:.0f} s"
                raise StackError(f"{late}:\n{self.tail(web)}")
            time.sleep(POLL_SECONDS)

    def _is_ready(self) -> bool:
        try:
            with urlopen(f"{self.url}{self.ready_path}", timeout=5) as response:  # noqa: S310  (our own http URL)
                return bool(response.status == HTTPStatus.OK)
        except OSError:
            return False

    def _check_port(self) -> None:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, self.port))
            except OSError as error:
                raise StackError(f"port {self.port} cannot be used ({error.strerror}); choose another") from error


@dataclass(kw_only=True)
class Stack(Processes):
    """The services profile: `services` of config.roles.PROCESSES (default: all), once `manage.py setup` has ended.

    `env` must name the database and the broker. What nobody sets has the development value of `.env.example`.
    """

    services: Sequence[str] = tuple(PROCESSES)

    def __post_init__(self) -> None:
        super().__post_init__()
        if unknown := sorted(set(self.services) - set(PROCESSES)):
            raise StackError(f"there is no service {', '.join(unknown)}; there are {', '.join(PROCESSES)}")
        if missing := [name for name in REQUIRED if not self._environ().get(name)]:
            raise StackError(f"{' and '.join(missing)} must be set for the services profile")

    def _start(self) -> None:
        if "web" in self.services:
            self._check_port()
        options = self._environ().get("SEED_OPTIONS") or "--reference-data"
        self._run_to_end("setup", [*MANAGE, "setup", *shlex.split(options)], self._environ())
        for name in self.services:
            self.start_service(name)
        if "web" in self.services:
            self._wait_until_ready("web")

    def start_service(self, name: str) -> None:
        arguments, environment = [*MANAGE, "run", *PROCESSES[name]], self._environ()
        if name == "web":
            arguments += [f"--host={HOST}", f"--port={self.port}"]
            environment["PROMETHEUS_MULTIPROC_DIR"] = str(self.log_dir / "metrics")  # not left behind in /tmp by a kill
        self._spawn(name, arguments, environment)

    def _environ(self) -> dict[str, str]:
        return {
            **read_dotenv(ROOT / ".env.example"),
            **read_dotenv(ROOT / ".env"),
            **os.environ,
            "PROFILE": "services",
            **self.env,
        }


@dataclass(kw_only=True)
class Embedded(Processes):
    """The embedded profile, with its data and its log in `data_dir`; `arguments` go to `manage.py run all`."""

    data_dir: Path
    arguments: Sequence[str] = ()
    log_dir: Path = field(init=False)

    def __post_init__(self) -> None:
        self.log_dir = self.data_dir
        super().__post_init__()

    def _start(self) -> None:
        self._check_port()
        self.start_service("embedded")
        self._wait_until_ready("embedded")

    def start_service(self, name: str) -> None:
        environment = {**self.env, "PROFILE": "embedded", "DEMO_DIR": str(self.data_dir), "PORT": str(self.port)}
        self._spawn(name, [*MANAGE, "run", "all", *self.arguments], environment)


# --- Command line --------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    from config.environment import Environment, port  # names the settings module to whoever imports it

    values = Environment({**read_dotenv(ROOT / ".env"), **os.environ})
    parser = argparse.ArgumentParser(
        prog="script/stack",
        description="Migrate, then run the services profile with local processes. Ctrl-C stops them all.",
    )
    parser.add_argument(
        "--port", type=port, default=values.integer("PORT"), help="of the web server (default: $PORT, 8000)"
    )
    for option, variable in SERVERS.items():
        text = f"default: ${variable}, else what script/services finds"
        parser.add_argument(option, dest=variable, metavar="URL", help=text)
    parser.add_argument(
        "--service", action="append", metavar="NAME", help=f"only this one; may be repeated ({', '.join(PROCESSES)})"
    )
    parser.add_argument("--log-dir", type=Path, default=ROOT / "var" / "stack", help="default: var/stack")
    options = parser.parse_args(arguments)
    named = {variable: getattr(options, variable) for variable in SERVERS.values()}
    stack = None
    Interrupts().install()
    try:
        stack = Stack(
            env={name: value for name, value in named.items() if value},
            log_dir=options.log_dir,
            port=options.port,
            services=options.service or tuple(PROCESSES),
        )
        print("Migrating, and starting the processes …", flush=True)
        stack.start()
        _print_address(stack)
        while (failed := stack.failed()) is None:
            time.sleep(1)
        raise StackError(f"{failed} has ended:\n{stack.tail(failed)}")
    except StackError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    finally:
        if stack is not None:
            stack.stop()
            print("Stopped.", flush=True)


def _print_address(stack: Stack) -> None:
    print(
        f"\nWharf is open at {stack.url}/\n"
        f"  shop      {stack.url}/           demo / demo\n"
        f"  admin     {stack.url}/admin/     admin / admin\n"
        f"  API       {stack.url}/api/v1/docs\n"
        f"  logs      {stack.log_dir}\n"
        f"  services  {', '.join(stack.pids)}\n\nCtrl-C stops it.\n",
        flush=True,
    )
