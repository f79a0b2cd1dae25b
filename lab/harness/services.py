"""PostgreSQL, RabbitMQ and Redis for tests and local runs: takes what is there, else starts what is installed.

In this order: what the environment (or `.env`) names; private instances that an earlier run started; what answers on
the usual local ports; `docker compose`; private instances from installed programs, which are installed with apt where
that is possible. Private instances live in `var/services` and are ended by `script/services down`.
"""

from __future__ import annotations

import argparse
import fcntl
import getpass
import json
import os
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lab.harness import ROOT, read_dotenv, say
from lab.harness.instances import (
    CHROMIUMS,
    DATABASE,
    Instance,
    Unusable,
    chromium_program,
    faketime_library,
    find_program,
    is_open,
    postgresql_programs,
    postgresql_url,
    probe_postgresql,
    probe_rabbitmq,
    probe_redis,
    rabbitmq_url,
    redis_url,
    run,
    start_postgresql,
    start_rabbitmq,
    start_redis,
    stop,
)
from lab.harness.processes import Process


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of service.

    `url` makes an address of user, password and port, `probe` returns the version of the server there or raises
    Unusable; `logins` are worth a try on the usual port; `start` starts a private instance in a directory. In the
    compose file its service is called `composed`, its port and password stand in `COMPOSED_PORT`, `COMPOSED_PASSWORD`.
    """

    name: str
    title: str
    variable: str
    port: int
    package: str
    composed: str
    is_installed: Callable[[], bool]
    url: Callable[[str, str, int], str]
    probe: Callable[[str], str]
    logins: Callable[[Mapping[str, str]], list[tuple[str, str]]]
    start: Callable[[Path], Instance]

    def compose_url(self, variables: Mapping[str, str]) -> str:
        """Ends the program with one line if the port is none."""
        from config.environment import Environment  # loads Celery, which few of this module's users want

        name = self.composed.upper()
        port = Environment(variables).integer(f"{name}_PORT")
        return self.url(DATABASE, variables.get(f"{name}_PASSWORD", ""), port)

    def guesses(self, variables: Mapping[str, str]) -> list[str]:
        logins = [*self.logins(variables), (DATABASE, variables.get(f"{self.composed.upper()}_PASSWORD", ""))]
        return [self.url(user, password, self.port) for user, password in logins]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    kind: Kind
    url: str
    version: str
    origin: str


def install(packages: Sequence[str]) -> None:
    """Install with apt where that is possible. What counts is whether the programs are there afterwards: a package
    whose service cannot be started in a container reports a failure although it is installed.
    """
    if not packages or os.geteuid() != 0 or shutil.which("apt-get") is None:
        return
    say(f"Installing {', '.join(packages)} with apt …")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update", "-q"], ["install", "-q", "-y", "--no-install-recommends", *packages]):
        try:
            run(["apt-get", *command], env=environment)
        except Unusable as error:
            say(f"  {error}")


def install_tools() -> None:
    """Install what some faults need besides the services."""
    if find_program("nginx") is None:
        install(["nginx-light"])
    if faketime_library() is None:
        install(["faketime"])


# --- Which service to take -----------------------------------------------------------------------------------------


def _postgresql_logins(variables: Mapping[str, str]) -> list[tuple[str, str]]:
    """Users of a server on this machine: the environment's, those who need no password, and compose's."""
    users = dict.fromkeys([variables.get("PGUSER", ""), getpass.getuser(), "postgres", "root"])
    return [*((user, variables.get("PGPASSWORD", "")) for user in users if user), ("postgres", "postgres")]


KINDS = (
    Kind(
        name="postgresql",
        title="PostgreSQL",
        variable="DATABASE_URL",
        port=5432,
        package="postgresql",
        composed="postgres",
        is_installed=lambda: postgresql_programs() is not None,
        url=postgresql_url,
        probe=probe_postgresql,
        logins=_postgresql_logins,
        start=start_postgresql,
    ),
    Kind(
        name="rabbitmq",
        title="RabbitMQ",
        variable="CELERY_BROKER_URL",
        port=5672,
        package="rabbitmq-server",
        composed="rabbitmq",
        is_installed=lambda: bool(find_program("rabbitmq-server") and find_program("epmd")),
        url=rabbitmq_url,
        probe=probe_rabbitmq,
        logins=lambda variables: [("guest", "guest")],
        start=start_rabbitmq,
    ),
    Kind(
        name="redis",
        title="Redis",
        variable="REDIS_URL",
        port=6379,
        package="redis-server",
        composed="redis",
        is_installed=lambda: find_program("redis-server") is not None,
        url=lambda user, password, port: redis_url(port),
        probe=probe_redis,
        logins=lambda variables: [],
        start=start_redis,
    ),
)


class Services:
    """The services of this checkout; `directory` holds the private instances and what is known about them.

    With `for_tests` PostgreSQL is left to the tests (tests/profile.py) where it is installed and nobody names a server.
    """

    def __init__(self, directory: Path, *, private: bool = False, for_tests: bool = False) -> None:
        self.directory = directory
        self.private = private
        self.for_tests = for_tests
        self.variables = {**read_dotenv(ROOT / ".env.example"), **read_dotenv(ROOT / ".env"), **os.environ}
        self.named = {**read_dotenv(ROOT / ".env"), **os.environ}
        self._state_file = directory / "state.json"

    def find(self) -> tuple[dict[str, Found], dict[str, str]]:
        """What can be used without starting anything, and for each kind that cannot, why."""
        found: dict[str, Found] = {}
        reasons: dict[str, str] = {}
        for kind in KINDS:
            try:
                found[kind.name] = self._find(kind)
            except Unusable as error:
                reasons[kind.name] = str(error)
        return found, reasons

    def up(self) -> tuple[dict[str, Found], dict[str, str]]:
        """Find the services and start those that are missing; safe to repeat."""
        with self._alone():
            found, reasons = self.find()
            startable = [kind for kind in KINDS if kind.name in reasons and self._named_url(kind) is None]
            if startable and not self.private and self._compose_up(startable):
                found, reasons = self.find()
                startable = [kind for kind in startable if kind.name in reasons]
            install([kind.package for kind in startable if not kind.is_installed()])
            for kind in startable:
                try:
                    found[kind.name] = self._start(kind)
                    del reasons[kind.name]
                except Unusable as error:
                    reasons[kind.name] = str(error)
            if chromium_program() is None:
                install([CHROMIUMS[0]])
            if self.for_tests:
                install_tools()
        return {kind.name: found[kind.name] for kind in KINDS if kind.name in found}, reasons

    def down(self) -> list[str]:
        """End the private instances and the compose services that `up` started; returns their names."""
        with self._alone():
            state = self._state()
            stopped = []
            for name in [name for name in state if name != "compose"]:
                stop(_instance(state.pop(name)))
                self._write(state)
                stopped.append(name)
            if composed := state.pop("compose", []):
                run([*self._compose(), "stop", *composed])
                self._write(state)
                stopped += composed
        return stopped

    def _find(self, kind: Kind) -> Found:
        if url := self._named_url(kind):
            return Found(kind=kind, url=url, version=kind.probe(url), origin=f"named by {kind.variable}")
        if self._is_left_to_tests(kind):
            return _left_to_tests(kind)
        if known := self._state().get(kind.name):
            instance = _instance(known)
            if all(process.is_running for process in instance.processes):
                return Found(kind=kind, url=instance.url, version=kind.probe(instance.url), origin="private instance")
        if self.private:
            raise Unusable("no private instance is running")
        return self._find_local(kind)

    def _find_local(self, kind: Kind) -> Found:
        urls = kind.guesses(self.variables)
        if kind.name in self._state().get("compose", []):
            urls.insert(0, kind.compose_url(self.variables))
        reason = f"nothing answers on port {kind.port}"
        for url in urls:
            if not is_open(urlsplit(url).port or kind.port):
                continue
            try:
                return Found(kind=kind, url=url, version=kind.probe(url), origin="on this machine")
            except Unusable as error:
                reason = f"no usual login works on port {kind.port} ({error})"
        raise Unusable(reason)

    def _named_url(self, kind: Kind) -> str | None:
        return None if self.private else self.named.get(kind.variable) or None

    def _is_left_to_tests(self, kind: Kind) -> bool:
        return self.for_tests and kind.name == "postgresql" and kind.is_installed()

    def _start(self, kind: Kind) -> Found:
        if self._is_left_to_tests(kind):  # it has just been installed
            return _left_to_tests(kind)
        directory = self.directory / kind.name
        directory.mkdir(parents=True, exist_ok=True)
        say(f"Starting a private {kind.title} …")
        instance = kind.start(directory)
        processes = [{"pid": process.pid, "started": process.started} for process in instance.processes]
        known = {"url": instance.url, "processes": processes, "stop_signal": instance.stop_signal}
        self._write({**self._state(), kind.name: known})
        return Found(kind=kind, url=instance.url, version=kind.probe(instance.url), origin="private instance")

    def _compose_up(self, kinds: Sequence[Kind]) -> bool:
        """Start these with docker compose; False if no engine answers or they do not come up."""
        names = [kind.composed for kind in kinds]
        try:
            run(["docker", "info"])
            run(["docker", "compose", "version"])
            say(f"Starting {', '.join(names)} with docker compose …")
            run([*self._compose(), "up", "--detach", "--wait", *names])
        except FileNotFoundError:
            return False
        except Unusable as error:
            say(f"docker compose cannot be used: {error}")
            return False
        state = self._state()
        self._write({**state, "compose": sorted({*state.get("compose", []), *names})})
        return True

    def _compose(self) -> list[str]:
        env_file = ROOT / ".env" if (ROOT / ".env").exists() else ROOT / ".env.example"
        return ["docker", "compose", "--project-directory", str(ROOT), "--env-file", str(env_file)]

    def _state(self) -> dict[str, Any]:
        try:
            state: dict[str, Any] = json.loads(self._state_file.read_text())
        except FileNotFoundError:
            return {}
        return state

    def _write(self, state: Mapping[str, Any]) -> None:
        self._state_file.touch(mode=0o600)  # it holds a password
        self._state_file.write_text(json.dumps(state, indent=2) + "\n")

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One run at a time may start and stop instances; the others wait."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _left_to_tests(kind: Kind) -> Found:
    return Found(kind=kind, url="", version="", origin="the tests start one of their own")


def _instance(known: Mapping[str, Any]) -> Instance:
    processes = tuple(Process(**process) for process in known["processes"])
    return Instance(url=known["url"], processes=processes, stop_signal=known["stop_signal"])


# --- Command line --------------------------------------------------------------------------------------------------


def describe(found: Mapping[str, Found], reasons: Mapping[str, str]) -> None:
    for kind in KINDS:
        if service := found.get(kind.name):
            say(f"{kind.title} {service.version}".rstrip() + f": {service.origin}")
        else:
            say(f"{kind.title}: missing, {reasons[kind.name]}")
    say(f"Chromium: {chromium_program() or 'missing; the tests in a browser are skipped'}")
    say(f"nginx: {find_program('nginx') or 'missing; the tests of the proxy are skipped'}")
    say(f"faketime: {faketime_library() or 'missing; the faults of clocks are skipped'}")
    if reasons:
        say("Tests that need what is missing are skipped. To have them run, install it or name it in the environment:")
        say("  " + " ".join(f"{kind.variable}=…" for kind in KINDS if kind.name in reasons))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="script/services", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "command",
        choices=["up", "down", "status", "env"],
        help="up: find or start the services and print their addresses · down: end what up started · "
        "status: what can be used now · env: the same, as lines for a shell's eval",
    )
    parser.add_argument(
        "--private",
        action="store_true",
        default=os.environ.get("SERVICES_PRIVATE", "") not in ("", "0"),
        help="use private instances even where others can be used (also: SERVICES_PRIVATE=1)",
    )
    parser.add_argument(
        "--for-tests",
        action="store_true",
        help="leave PostgreSQL to the tests if it is installed and DATABASE_URL names none",
    )
    parser.add_argument(
        "--directory",
        type=Path,
        default=ROOT / "var" / "services",
        help="where private instances keep their files (default: var/services)",
    )
    options = parser.parse_args(arguments)
    services = Services(options.directory.resolve(), private=options.private, for_tests=options.for_tests)
    match options.command:
        case "down":
            stopped = services.down()
            say(f"Stopped: {', '.join(stopped)}" if stopped else "Nothing to stop: nothing was started here.")
            return 0
        case "up":
            found, reasons = services.up()
        case _:
            found, reasons = services.find()
    if options.command != "env":
        describe(found, reasons)
    for service in (service for service in found.values() if service.url):
        line = f"{service.kind.variable}={shlex.quote(service.url)}"
        print(f"export {line}" if options.command == "env" else line)
    return 1 if reasons else 0
