"""PostgreSQL, RabbitMQ and Redis: whether one can be used, and private instances from installed programs.

A probe speaks the service's protocol: an open port proves nothing. Private instances are ended by process id.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import kombu
import psycopg
import redis
from amqp.exceptions import AMQPError

from lab.harness import ROOT
from lab.harness.processes import Process, as_user, spawn

DATABASE = "wharf"
CONNECT_SECONDS = 3
REDIS_DATABASE = 9  # number 0 of a Redis that was running before is likely to hold somebody's data
START_SECONDS = 60
STOP_SECONDS = 20
ENVIRONMENT = "environment.json"  # of a broker's node, for who wants to talk to it later
# Debian's programs of RabbitMQ on PATH insist on a certain user; those behind them do not.
PLACES = {
    "epmd": ("usr/lib/erlang/erts-*/bin/epmd", "usr/lib*/erlang/bin/epmd"),
    "nginx": ("usr/sbin/nginx",),
    "rabbitmq-server": ("usr/lib/rabbitmq/bin/rabbitmq-server", "usr/sbin/rabbitmq-server"),
    "rabbitmqctl": ("usr/lib/rabbitmq/bin/rabbitmqctl", "usr/sbin/rabbitmqctl"),
}
_given: set[int] = set()  # ports of this run, whose servers may be stopped just now
MAX_CONNECTIONS = 300  # nine databases on one server, times the processes of the services profile


class Unusable(Exception):
    """The service does not answer, or cannot do what is needed; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """A private instance: its address and its processes in the order in which they were started."""

    url: str
    processes: tuple[Process, ...]
    stop_signal: int


def start_postgresql(
    directory: Path, *, port: int | None = None, fsync: bool = True, options: Mapping[str, str] | None = None
) -> Instance:
    """Start PostgreSQL with its data in a directory; on the `port` of an earlier start, it is that server again.

    Without `fsync` it is faster and survives its own death, but not that of the machine; `options` are more settings of
    the server. PostgreSQL will not run as root, so root runs it as the user `postgres`.
    """
    programs = postgresql_programs()
    user = "postgres" if os.geteuid() == 0 else None
    if programs is None:
        raise Unusable("initdb is not installed")
    data = directory / "data"
    password_file = directory / "password"
    if not (data / "PG_VERSION").exists():
        _initialise_postgresql(programs / "initdb", data, password_file, user)
    port = port or free_port()
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        "unix_socket_directories": "",
        "max_connections": str(MAX_CONNECTIONS),
        "fsync": "on" if fsync else "off",
        **(options or {}),
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


def start_rabbitmq(directory: Path, *, port: int | None = None) -> Instance:
    """A node of its own name, with a port mapper (epmd) of its own, so that it meets no other node on this machine.

    On the `port` of an earlier start in this directory, it is that node again, with its queues.
    """
    server, epmd = program("rabbitmq-server"), program("epmd")
    port, mapper_port = port or free_port(), free_port()
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
    (directory / ENVIRONMENT).write_text(json.dumps(environment))
    mapper = spawn(
        [epmd, "-port", str(mapper_port), "-address", "127.0.0.1"], log=directory / "epmd.log", env=environment
    )
    node = spawn([server], log=directory / "log", env=environment)
    return started(
        Instance(url=rabbitmq_url("guest", "guest", port), processes=(mapper, node), stop_signal=signal.SIGTERM),
        probe_rabbitmq,
        directory,
    )


def rabbitmqctl(directory: Path, *arguments: str) -> None:
    """Ask the running node of this directory for something; raises Unusable if it refuses."""
    run([program("rabbitmqctl"), *arguments], env=json.loads((directory / ENVIRONMENT).read_text()))


def set_memory_alarm(directory: Path, *, on: bool) -> None:
    """Let the node of this directory find that it uses too much memory: it takes no messages then."""
    rabbitmqctl(directory, "set_vm_memory_high_watermark", "0.00001" if on else "0.4")


def start_redis(directory: Path, *, port: int | None = None) -> Instance:
    port = port or free_port()
    process = spawn(
        [program("redis-server"), "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"],
        log=directory / "log",
        cwd=directory,
    )
    return started(
        Instance(url=redis_url(port), processes=(process,), stop_signal=signal.SIGTERM), probe_redis, directory
    )


def start_nginx(directory: Path, *, upstream: str) -> Instance:
    """The proxy of docker-compose.yml before a web server `host:port` of this machine."""
    nginx, port = program("nginx"), free_port()
    text = (ROOT / "deploy" / "nginx.conf").read_text()
    for there, here in (
        ("server web:8000;", f"server {upstream};"),
        ("listen 8080;", f"listen 127.0.0.1:{port};"),
        ("/tmp/", f"{directory.resolve()}/"),  # noqa: S108 (in the container)
        ("worker_processes auto;", "worker_processes 1;"),
    ):
        if there not in text:
            raise Unusable(f"deploy/nginx.conf has no {there!r}")
        text = text.replace(there, here)
    configuration = directory / "nginx.conf"
    configuration.write_text(text)
    directory.chmod(0o755)  # root's nginx works as another user
    process = spawn([nginx, "-c", str(configuration.resolve()), "-g", "daemon off;"], log=directory / "log")
    instance = Instance(url=f"http://127.0.0.1:{port}", processes=(process,), stop_signal=signal.SIGTERM)
    return started(instance, probe_nginx, directory)


def started(instance: Instance, probe: Callable[[str], str], directory: Path) -> Instance:
    """The instance once it answers; one that does not is stopped again and raises Unusable."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            probe(instance.url)
            return instance
        except Unusable as error:
            if all(process.is_running for process in instance.processes) and time.monotonic() < deadline:
                time.sleep(0.2)
                continue
            stop(instance)
            raise Unusable(f"its private instance did not start ({error}); see {directory / 'log'}") from error


def stop(instance: Instance) -> None:
    """Ask each process to end, the last one first, and end it by force when it takes too long."""
    for process in reversed(instance.processes):
        process.ask_to_end(instance.stop_signal)
        process.end(time.monotonic() + STOP_SECONDS)


def kill(instance: Instance) -> None:
    """End all its processes at once, without giving them a chance to tidy up."""
    for process in instance.processes:
        process.end()


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
        **as_user(user),
    )
    if done.returncode:
        raise Unusable(f"{shlex.join(command[:2])} failed: {' '.join(done.stdout.split()[-30:])}")


def free_port() -> int:
    """Below the ports that the system gives to clients: one of these could take the port of a stopped server."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            if port not in _given:
                _given.add(port)
                return port


def postgresql_programs() -> Path | None:
    """The folder with initdb and postgres, the newest where there are several; Debian keeps them off PATH."""
    folders = [
        folder for pattern in ("usr/lib/postgresql/*/bin", "usr/pgsql-*/bin") for folder in Path("/").glob(pattern)
    ]
    folders.sort(key=lambda folder: int("".join(filter(str.isdigit, folder.parent.name)) or 0), reverse=True)
    if on_path := shutil.which("initdb"):
        folders.append(Path(on_path).resolve().parent)
    return next((folder for folder in folders if (folder / "initdb").exists() and (folder / "postgres").exists()), None)


def find_program(name: str) -> Path | None:
    """Where Debian and others keep it, else what is on PATH."""
    found = [path for pattern in PLACES.get(name, ()) for path in Path("/").glob(pattern)]
    if on_path := shutil.which(name):
        found.append(Path(on_path))
    return found[0] if found else None


def program(name: str) -> str:
    """Raises Unusable if it is not installed."""
    found = find_program(name)
    if found is None:
        raise Unusable(f"{name} is not installed")
    return str(found)


def faketime_library() -> Path | None:
    """What shows a program another time when it is preloaded."""
    return next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)


# The first one has no windows to draw, which saves most of what the others compute.
CHROMIUMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome-stable", "google-chrome")


def chromium_program() -> Path | None:
    """The browser that CHROMIUM names, or the first of CHROMIUMS that is installed."""
    names = (os.environ.get("CHROMIUM", ""), *CHROMIUMS)
    return next((Path(path) for name in names if (path := shutil.which(name))), None)


# --- Probes: the version of what answers there, or Unusable -----------------------------------------------------------


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


def probe_nginx(url: str) -> str:
    """Any answer will do: the web server behind it may be away."""
    connection = HTTPConnection(urlsplit(url).netloc, timeout=CONNECT_SECONDS)
    with closing(connection):
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().headers["Server"] or ""
        except (OSError, HTTPException) as error:
            raise Unusable(str(error)) from error


def postgresql_url(user: str, password: str, port: int) -> str:
    login = f"{quote(user, safe='')}:{quote(password, safe='')}" if password else quote(user, safe="")
    return f"postgres://{login}@127.0.0.1:{port}/{DATABASE}"


def rabbitmq_url(user: str, password: str, port: int) -> str:
    return f"amqp://{quote(user, safe='')}:{quote(password, safe='')}@127.0.0.1:{port}//"


def redis_url(port: int) -> str:
    return f"redis://127.0.0.1:{port}/{REDIS_DATABASE}"


def is_open(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=0.5):
        return True
    return False
