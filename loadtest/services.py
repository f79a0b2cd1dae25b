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
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import kombu
import psycopg
import redis
from amqp.exceptions import AMQPError

from loadtest.dotenv import read_dotenv

ROOT = Path(__file__).resolve().parent.parent
DATABASE = "wharf"
START_SECONDS = 60
STOP_SECONDS = 20
CONNECT_SECONDS = 3
REDIS_DATABASE = 9  # number 0 of a Redis that was running before is likely to hold somebody's data
MAX_CONNECTIONS = 300  # nine databases on one server, times the processes of the services profile


class Unusable(Exception):
    """The service does not answer, or cannot do what is needed; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process of ours; when it started tells it from a later one with the same number."""

    pid: int
    started: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """A private instance: its address and its processes in the order in which they were started."""

    url: str
    processes: tuple[Process, ...]
    stop_signal: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of service.

    `probe` returns the version of the server at a URL or raises Unusable; `guesses` are URLs worth a try on the usual
    port; `start` starts a private instance in a directory.
    """

    name: str
    title: str
    variable: str
    port: int
    package: str
    is_installed: Callable[[], bool]
    probe: Callable[[str], str]
    guesses: Callable[[Mapping[str, str]], list[str]]
    compose_url: Callable[[Mapping[str, str]], str]
    start: Callable[[Path], Instance]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    kind: Kind
    url: str
    version: str
    origin: str


# --- Probes: the protocol is spoken, an open port proves nothing ---------------------------------------------------


def probe_postgresql(url: str) -> str:
    """Log in to the maintenance database, as Django's test runner does; the user must be able to create databases."""
    maintenance = urlsplit(url)._replace(path="/postgres").geturl()
    try:
        with psycopg.connect(maintenance, connect_timeout=CONNECT_SECONDS) as connection:
            row = connection.execute(
                "SELECT current_setting('server_version_num')::int, rolsuper OR rolcreatedb"
                " FROM pg_roles WHERE rolname = current_user"
            ).fetchone()
    except psycopg.Error as error:
        raise Unusable(" ".join(str(error).split())) from error
    number, may_create = row or (0, False)
    version = f"{number // 10000}.{number % 10000}"
    if number < 150000:
        raise Unusable(f"it is PostgreSQL {version}; 15 or later is needed")
    if not may_create:
        raise Unusable("its user may not create databases")
    return version


def probe_rabbitmq(url: str) -> str:
    try:
        with kombu.Connection(url, connect_timeout=CONNECT_SECONDS) as connection:
            connection.connect()
            version = str(connection.connection.server_properties["version"])
    except (OSError, AMQPError) as error:
        raise Unusable(str(error) or type(error).__name__) from error
    if tuple(int(part) for part in version.split(".")[:2]) < (3, 10):
        raise Unusable(f"it is RabbitMQ {version}; 3.10 or later is needed")
    return version


def probe_redis(url: str) -> str:
    try:
        with redis.Redis.from_url(
            url, socket_connect_timeout=CONNECT_SECONDS, socket_timeout=CONNECT_SECONDS
        ) as client:
            client.ping()
            info: Any = client.info("server")
    except redis.RedisError as error:
        raise Unusable(str(error)) from error
    return str(info["redis_version"])


def guess_postgresql(variables: Mapping[str, str]) -> list[str]:
    """Users of a server on this machine: the environment's, those who need no password, and compose's."""
    users = dict.fromkeys([variables.get("PGUSER", ""), getpass.getuser(), "postgres", "root"])
    logins = [(user, variables.get("PGPASSWORD", "")) for user in users if user]
    logins += [("postgres", "postgres"), (DATABASE, variables.get("POSTGRES_PASSWORD", ""))]
    return [postgresql_url(user, password, 5432) for user, password in logins]


def guess_rabbitmq(variables: Mapping[str, str]) -> list[str]:
    logins = [("guest", "guest"), (DATABASE, variables.get("RABBITMQ_PASSWORD", ""))]
    return [rabbitmq_url(user, password, 5672) for user, password in logins]


def guess_redis(variables: Mapping[str, str]) -> list[str]:
    return [redis_url(6379)]


def postgresql_url(user: str, password: str, port: int) -> str:
    login = f"{quote(user, safe='')}:{quote(password, safe='')}" if password else quote(user, safe="")
    return f"postgres://{login}@127.0.0.1:{port}/{DATABASE}"


def rabbitmq_url(user: str, password: str, port: int) -> str:
    return f"amqp://{quote(user, safe='')}:{quote(password, safe='')}@127.0.0.1:{port}//"


def redis_url(port: int) -> str:
    return f"redis://127.0.0.1:{port}/{REDIS_DATABASE}"


# --- Private instances ---------------------------------------------------------------------------------------------


def start_postgresql(directory: Path) -> Instance:
    """PostgreSQL will not run as root, so root runs it as the user `postgres`."""
    programs = postgresql_programs()
    user = "postgres" if os.geteuid() == 0 else None
    if programs is None:
        raise Unusable("initdb is not installed")
    data = directory / "data"
    password_file = directory / "password"
    if not (data / "PG_VERSION").exists():
        _initialise_postgresql(programs / "initdb", data, password_file, user)
    port = free_port()
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        "unix_socket_directories": "",
        "max_connections": str(MAX_CONNECTIONS),
    }
    arguments = [argument for name, value in settings.items() for argument in ("-c", f"{name}={value}")]
    process = spawn(
        [str(programs / "postgres"), "-D", str(data.resolve()), *arguments], log=directory / "log", user=user
    )
    url = postgresql_url(DATABASE, password_file.read_text(), port)
    # SIGINT is PostgreSQL's fast shutdown; SIGTERM would wait for every client to leave.
    return started(Instance(url=url, processes=(process,), stop_signal=signal.SIGINT), probe_postgresql, directory)


def _initialise_postgresql(initdb: Path, data: Path, password_file: Path, user: str | None) -> None:
    password = secrets.token_urlsafe(24)
    password_file.touch(mode=0o600)
    password_file.write_text(password)
    if user is not None and not _may_enter(data.parent, user):
        # The checkout is in a home directory that is closed to other users.
        home = Path(tempfile.mkdtemp(prefix="wharf-postgresql-", dir="/var/tmp"))
        data.symlink_to(home, target_is_directory=True)
    data.mkdir(exist_ok=True)
    with tempfile.NamedTemporaryFile("w") as copy:
        copy.write(password)
        copy.flush()
        if user is not None:
            shutil.chown(copy.name, user)
            shutil.chown(data.resolve(), user)
        command = [str(initdb), "-D", str(data.resolve()), "--username", DATABASE, "--pwfile", copy.name]
        command += ["--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C"]
        run(command, user=user)


def _may_enter(directory: Path, user: str) -> bool:
    return subprocess.run(["test", "-x", directory], user=user, check=False).returncode == 0


def start_rabbitmq(directory: Path) -> Instance:
    """A node of its own name, with a port mapper (epmd) of its own, so that it meets no other node on this machine."""
    server, epmd = rabbitmq_program(), epmd_program()
    if server is None or epmd is None:
        raise Unusable("rabbitmq-server is not installed")
    port, mapper_port = free_port(), free_port()
    (directory / "rabbitmq.conf").write_text(
        f"listeners.tcp.local = 127.0.0.1:{port}\nloopback_users.guest = true\ndisk_free_limit.absolute = 50MB\n"
    )
    (directory / "enabled_plugins").write_text("[].\n")
    (directory / "rabbitmq-env.conf").touch()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("RABBITMQ_")},
        "HOME": str(directory),  # where the node keeps the secret that admits other nodes
        "ERL_EPMD_PORT": str(mapper_port),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODENAME": f"{DATABASE}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_CONF_ENV_FILE": str(directory / "rabbitmq-env.conf"),
        "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq.conf"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "enabled_plugins"),
        "RABBITMQ_MNESIA_BASE": str(directory / "mnesia"),
        "RABBITMQ_LOG_BASE": str(directory / "logs"),
        "RABBITMQ_PID_FILE": str(directory / "node.pid"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
    }
    mapper = spawn(
        [str(epmd), "-port", str(mapper_port), "-address", "127.0.0.1"], log=directory / "epmd.log", env=environment
    )
    node = spawn([str(server)], log=directory / "log", env=environment)
    return started(
        Instance(url=rabbitmq_url("guest", "guest", port), processes=(mapper, node), stop_signal=signal.SIGTERM),
        probe_rabbitmq,
        directory,
    )


def start_redis(directory: Path) -> Instance:
    server = shutil.which("redis-server")
    if server is None:
        raise Unusable("redis-server is not installed")
    port = free_port()
    process = spawn(
        [server, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"],
        log=directory / "log",
        cwd=directory,
    )
    return started(
        Instance(url=redis_url(port), processes=(process,), stop_signal=signal.SIGTERM), probe_redis, directory
    )


def started(instance: Instance, probe: Callable[[str], str], directory: Path) -> Instance:
    """The instance once it answers; one that does not is stopped again and raises Unusable."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            probe(instance.url)
            return instance
        except Unusable as error:
            if all(is_running(process) for process in instance.processes) and time.monotonic() < deadline:
                time.sleep(0.2)
                continue
            stop(instance)
            raise Unusable(f"its private instance did not start ({error}); see {directory / 'log'}") from error


def stop(instance: Instance) -> None:
    """Ask each process to end, the last one first, and end it by force when it takes too long."""
    for process in reversed(instance.processes):
        if not is_running(process):
            continue
        os.kill(process.pid, instance.stop_signal)
        deadline = time.monotonic() + STOP_SECONDS
        while is_running(process) and time.monotonic() < deadline:
            time.sleep(0.05)
        if is_running(process):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def spawn(
    command: Sequence[str],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    user: str | None = None,
    cwd: Path = ROOT,
) -> Process:
    """Start a program that outlives this one, in a session of its own."""
    with log.open("ab") as output:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=env,
            cwd="/" if user else cwd,
            start_new_session=True,
            **_as_user(user),
        )
    return Process(pid=child.pid, started=_start_of(child.pid))


def run(command: Sequence[str], *, user: str | None = None, env: Mapping[str, str] | None = None) -> None:
    """Run a program to its end; raises Unusable with its last words if it fails."""
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=env,
        cwd="/" if user else ROOT,
        check=False,
        **_as_user(user),
    )
    if done.returncode:
        raise Unusable(f"{shlex.join(command[:2])} failed: {' '.join(done.stdout.split()[-30:])}")


def _as_user(user: str | None) -> dict[str, Any]:
    return {"user": user, "group": user, "extra_groups": []} if user else {}


def is_running(process: Process) -> bool:
    with suppress(ChildProcessError):
        os.waitpid(process.pid, os.WNOHANG)  # a child of this very run must not stay behind as a zombie
    return bool(process.started) and _start_of(process.pid) == process.started


def _start_of(pid: int) -> str:
    """When the process started, in the system's own notation; empty if it is not running."""
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            # The name in brackets may hold anything; after it come the state and, as the 20th field, the start.
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return ""
        return "" if fields[0] in "ZX" else fields[19]
    found = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return found.stdout.strip()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def is_open(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=0.5):
        return True
    return False


# --- Installed programs --------------------------------------------------------------------------------------------


def postgresql_programs() -> Path | None:
    """The folder with initdb and postgres, the newest where there are several; Debian keeps them off PATH."""
    folders = [
        folder for pattern in ("usr/lib/postgresql/*/bin", "usr/pgsql-*/bin") for folder in Path("/").glob(pattern)
    ]
    folders.sort(key=lambda folder: int("".join(filter(str.isdigit, folder.parent.name)) or 0), reverse=True)
    if on_path := shutil.which("initdb"):
        folders.append(Path(on_path).resolve().parent)
    return next((folder for folder in folders if (folder / "initdb").exists() and (folder / "postgres").exists()), None)


def rabbitmq_program() -> Path | None:
    """Debian's program on PATH insists on a certain user; the one behind it does not."""
    return _first_program("rabbitmq-server", ["usr/lib/rabbitmq/bin/rabbitmq-server", "usr/sbin/rabbitmq-server"])


def epmd_program() -> Path | None:
    return _first_program("epmd", ["usr/lib/erlang/erts-*/bin/epmd", "usr/lib*/erlang/bin/epmd"])


def chromium_program() -> Path | None:
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((Path(path) for name in names if (path := shutil.which(name))), None)


def _first_program(name: str, patterns: Sequence[str]) -> Path | None:
    found = [path for pattern in patterns for path in Path("/").glob(pattern)]
    if on_path := shutil.which(name):
        found.append(Path(on_path))
    return found[0] if found else None


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


# --- Which service to take -----------------------------------------------------------------------------------------


KINDS = (
    Kind(
        name="postgresql",
        title="PostgreSQL",
        variable="DATABASE_URL",
        port=5432,
        package="postgresql",
        is_installed=lambda: postgresql_programs() is not None,
        probe=probe_postgresql,
        guesses=guess_postgresql,
        compose_url=lambda variables: postgresql_url(
            DATABASE, variables["POSTGRES_PASSWORD"], int(variables.get("POSTGRES_PORT", "5432"))
        ),
        start=start_postgresql,
    ),
    Kind(
        name="rabbitmq",
        title="RabbitMQ",
        variable="CELERY_BROKER_URL",
        port=5672,
        package="rabbitmq-server",
        is_installed=lambda: rabbitmq_program() is not None and epmd_program() is not None,
        probe=probe_rabbitmq,
        guesses=guess_rabbitmq,
        compose_url=lambda variables: rabbitmq_url(
            DATABASE, variables["RABBITMQ_PASSWORD"], int(variables.get("RABBITMQ_PORT", "5672"))
        ),
        start=start_rabbitmq,
    ),
    Kind(
        name="redis",
        title="Redis",
        variable="REDIS_URL",
        port=6379,
        package="redis-server",
        is_installed=lambda: shutil.which("redis-server") is not None,
        probe=probe_redis,
        guesses=guess_redis,
        compose_url=lambda variables: redis_url(int(variables.get("REDIS_PORT", "6379"))),
        start=start_redis,
    ),
)
COMPOSE_NAMES = {"postgresql": "postgres", "rabbitmq": "rabbitmq", "redis": "redis"}


class Services:
    """The services of this checkout; `directory` holds the private instances and what is known about them."""

    def __init__(self, directory: Path, *, private: bool = False) -> None:
        self.directory = directory
        self.private = private
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
                install(["chromium"])
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
        if known := self._state().get(kind.name):
            instance = _instance(known)
            if all(is_running(process) for process in instance.processes):
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

    def _start(self, kind: Kind) -> Found:
        directory = self.directory / kind.name
        directory.mkdir(parents=True, exist_ok=True)
        say(f"Starting a private {kind.title} …")
        instance = kind.start(directory)
        self._write({**self._state(), kind.name: asdict(instance)})
        return Found(kind=kind, url=instance.url, version=kind.probe(instance.url), origin="private instance")

    def _compose_up(self, kinds: Sequence[Kind]) -> bool:
        """Start these with docker compose; False if no engine answers or they do not come up."""
        names = [COMPOSE_NAMES[kind.name] for kind in kinds]
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


def _instance(known: Mapping[str, Any]) -> Instance:
    processes = tuple(Process(**process) for process in known["processes"])
    return Instance(url=known["url"], processes=processes, stop_signal=known["stop_signal"])


# --- Command line --------------------------------------------------------------------------------------------------


def say(text: str) -> None:
    """Tell people something; standard output is for the environment."""
    print(text, file=sys.stderr, flush=True)


def describe(found: Mapping[str, Found], reasons: Mapping[str, str]) -> None:
    for kind in KINDS:
        if service := found.get(kind.name):
            say(f"{kind.title} {service.version}: {service.origin}")
        else:
            say(f"{kind.title}: missing, {reasons[kind.name]}")
    say(f"Chromium: {chromium_program() or 'missing; the tests in a browser are skipped'}")
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
        "--directory",
        type=Path,
        default=ROOT / "var" / "services",
        help="where private instances keep their files (default: var/services)",
    )
    options = parser.parse_args(arguments)
    services = Services(options.directory.resolve(), private=options.private)
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
    for service in found.values():
        line = f"{service.kind.variable}={shlex.quote(service.url)}"
        print(f"export {line}" if options.command == "env" else line)
    return 1 if reasons else 0


if __name__ == "__main__":
    raise SystemExit(main())
