"""The files around the code: compose, image, scripts, requirements, import contracts."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import grimp
import pytest
import yaml

from config.management.commands import run
from config.roles import PROCESSES, WORKERS
from eventing import topology
from lab.harness import read_dotenv, stack
from lab.harness.services import KINDS, Services
from lab.harness.stack import Processes, Stack, StackError
from tests.architecture.contracts import OnlyContract, PrivateContract

ROOT = Path(__file__).resolve().parent.parent.parent
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
OWN = {name: service for name, service in COMPOSE.items() if "build" in service}
SCRIPTS = sorted(path for path in [*(ROOT / "script").iterdir(), ROOT / ".ci" / "run"] if path.is_file())
EXAMPLE = read_dotenv(ROOT / ".env.example")


# --- docker-compose.yml --------------------------------------------------------------------------------------------


def test_compose_file_fits_the_compose_schema() -> None:
    checked = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.yml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_what_serves_no_pages_does_not_load_them() -> None:
    """A relay or a worker would take a quarter longer to start, and more memory."""
    code = "import django, sys; django.setup(); print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(ended.stdout.split())
    assert "config.celery" in loaded
    assert {"config.urls", "ninja", "pydantic", "unfold.admin"} & loaded == set()


def test_checks_of_the_back_office_see_its_pages() -> None:
    code = """
import django
django.setup()
from django.contrib import admin
from django.core import checks
checks.run_checks(tags=[checks.Tags.admin])
print(*(type(page).__name__ for page in admin.site._registry.values()))
"""
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert {"OrderAdmin", "UserAdmin"} <= set(ended.stdout.split())


def test_every_service_that_stays_has_a_health_check_and_comes_back() -> None:
    for name, service in COMPOSE.items():
        if name == "setup":
            assert service["healthcheck"] == {"disable": True}
            assert service["restart"] == "no"
        else:
            assert service["healthcheck"]["test"], name
            assert service["restart"] == "unless-stopped", name


def test_services_start_after_what_they_need_is_healthy_and_set_up() -> None:
    for name, service in OWN.items():
        needed = {other: how["condition"] for other, how in service["depends_on"].items()}
        assert needed["postgres"] == needed["rabbitmq"] == "service_healthy", name
        if name != "setup":
            assert needed["setup"] == "service_completed_successfully", name


def test_services_run_the_roles_of_the_application() -> None:
    parser = run.Command().create_parser("manage.py", "run")
    assert set(OWN) - {"setup"} == set(PROCESSES)
    for name, arguments in PROCESSES.items():
        python, manage, command, *given = shlex.split(OWN[name]["command"])
        assert (python, manage, command) == ("python", "manage.py", "run")
        assert tuple(given[: len(arguments)]) == arguments, name
        parser.parse_args(given)


def test_every_queue_has_exactly_one_worker() -> None:
    taken = [topology.qualified(name) for names in WORKERS for name in names]
    assert sorted(taken) == sorted(queue.name for queue in topology.work_queues())


def test_passwords_come_from_the_environment_and_are_required() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    for line in text.splitlines():
        if re.search(r"(PASSWORD|_PASS|SECRET_KEY)\b", line.partition("#")[0]):
            assert re.search(r"\$\{(POSTGRES_PASSWORD|RABBITMQ_PASSWORD|SECRET_KEY):\?", line), line


def test_ports_are_open_to_this_machine_only() -> None:
    published = [port for service in COMPOSE.values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_example_environment_has_all_that_is_required() -> None:
    required = set(re.findall(r"\$\{(\w+):\?", (ROOT / "docker-compose.yml").read_text()))
    assert required == {"POSTGRES_PASSWORD", "RABBITMQ_PASSWORD", "SECRET_KEY"}
    assert required <= set(EXAMPLE)


# --- The image -----------------------------------------------------------------------------------------------------


def test_image_is_multi_stage_not_root_and_has_a_health_check() -> None:
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text()
    assert len(re.findall(r"^FROM ", dockerfile, re.MULTILINE)) == 2
    final = dockerfile.rpartition("\nFROM ")[2]
    assert re.search(r"^USER [1-9]\d*$", final, re.MULTILINE)
    assert "HEALTHCHECK" in final
    assert "STOPSIGNAL SIGTERM" in final
    assert "collectstatic" in final
    assert "requirements-dev" not in dockerfile


def test_image_takes_in_no_secrets_and_no_leftovers() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert {".*", "var", "tests"} <= set(ignored)


@contextmanager
def web_server(status: int) -> Iterator[tuple[int, list[str | None]]]:
    """Answers every request with `status`, and notes the host that was asked for."""
    hosts: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hosts.append(self.headers["Host"] if self.path == "/healthz" else None)
            self.send_response(status)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port, hosts
        finally:
            server.shutdown()
            thread.join()


def healthcheck(what: str, **environment: str) -> int:
    command = [sys.executable, ROOT / "deploy" / "healthcheck", what]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, check=False).returncode


@pytest.mark.parametrize("status,code", [(200, 0), (503, 1)])
def test_health_of_the_web_server_is_what_healthz_says(status: int, code: int) -> None:
    with web_server(status) as (port, hosts):
        assert healthcheck("web", PORT=str(port), ALLOWED_HOSTS=".shop.example,other.example") == code
    assert hosts == ["shop.example"]


def test_web_server_that_does_not_answer_is_not_healthy() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        assert healthcheck("web", PORT=str(bound.getsockname()[1])) == 1


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads Linux's table of connections")
@pytest.mark.parametrize("what,variable", [("broker", "CELERY_BROKER_URL"), ("database", "DATABASE_URL")])
def test_process_is_healthy_while_it_is_connected(what: str, variable: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = {variable: f"scheme://user:password@127.0.0.1:{server.getsockname()[1]}/name"}
        assert healthcheck(what, **url) == 1
        with socket.create_connection(server.getsockname()[:2]):
            assert healthcheck(what, **url) == 0


def test_health_check_refuses_what_it_does_not_know() -> None:
    assert healthcheck("printer") == 2


# --- Running local processes ---------------------------------------------------------------------------------------

STUBBORN = "import signal, subprocess, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
STUBBORN += "child = subprocess.Popen(['sleep', '600']); print(child.pid, flush=True); child.wait()"


@dataclass(kw_only=True)
class Programs(Processes):
    """Commands in place of the roles."""

    commands: Mapping[str, Sequence[str]]

    def _start(self) -> None:
        for name in self.commands:
            self.start_service(name)

    def start_service(self, name: str) -> None:
        self._spawn(name, self.commands[name], {})


@pytest.fixture
def make_programs(tmp_path: Path) -> Iterator[Callable[..., Programs]]:
    with ExitStack() as stack:
        yield lambda **commands: stack.enter_context(Programs(commands=commands, log_dir=tmp_path))


def is_running(pid: int) -> bool:
    status = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(status.strip()) and not status.startswith("Z")


def child_of(made: Processes, name: str) -> int:
    """The process that the service said it started."""
    for _ in stack_polls():
        if text := made.tail(name).strip():
            return int(text)
    raise AssertionError("the service has said nothing")


def stack_polls(seconds: float = 10) -> Iterator[None]:
    waiting = threading.Event()
    for _ in range(int(seconds / 0.05)):
        yield
        waiting.wait(0.05)


def test_stopping_leaves_no_process_behind(
    make_programs: Callable[..., Programs], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stack, "STOP_SECONDS", 0.3)
    made = make_programs(stubborn=["python", "-c", STUBBORN])
    pids = [made.pids["stubborn"], child_of(made, "stubborn")]
    assert all(is_running(pid) for pid in pids)
    made.stop()
    assert not any(is_running(pid) for pid in pids)
    made.stop()


def test_killing_a_service_takes_its_children_and_restarting_brings_it_back(
    make_programs: Callable[..., Programs],
) -> None:
    made = make_programs(stubborn=["python", "-c", STUBBORN])
    first = made.pids["stubborn"]
    child = child_of(made, "stubborn")
    made.kill("stubborn")
    assert made.failed() == "stubborn"
    assert not is_running(child)
    made.restart("stubborn")
    assert made.failed() is None
    assert made.pids["stubborn"] != first


def test_frozen_service_can_be_stopped(make_programs: Callable[..., Programs]) -> None:
    made = make_programs(sleeper=["sleep", "600"])
    pid = made.pids["sleeper"]
    made.kill("sleeper", signal.SIGSTOP)
    made.stop_service("sleeper")
    assert not is_running(pid)


def test_set_up_runs_first_and_its_failure_shows_its_last_words(tmp_path: Path) -> None:
    made = Stack(env={"DATABASE_URL": "sqlite:nothing", "CELERY_BROKER_URL": "amqp://nowhere//"}, log_dir=tmp_path)
    with pytest.raises(StackError, match=r"setup failed with code 1:\nDATABASE_URL is "):
        made.start()
    assert made.pids == {}


def test_stack_names_what_it_does_not_know(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="no service printer"):
        Stack(env={"DATABASE_URL": "x", "CELERY_BROKER_URL": "y"}, log_dir=tmp_path, services=["printer"])


# --- Finding services ----------------------------------------------------------------------------------------------


def test_service_that_is_named_but_does_not_answer_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        for kind in KINDS:
            monkeypatch.setenv(kind.variable, f"{kind.name}://user@127.0.0.1:{bound.getsockname()[1]}/0")
        monkeypatch.setenv("CELERY_BROKER_URL", f"amqp://guest@127.0.0.1:{bound.getsockname()[1]}//")
        monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{bound.getsockname()[1]}/0")
        services = Services(tmp_path)
        found, reasons = services.find()
        assert found == {}
        assert set(reasons) == {"postgresql", "rabbitmq", "redis"}
        monkeypatch.setattr("lab.harness.services.chromium_program", lambda: Path("chromium"))
        found, reasons = services.up()
    assert found == {}
    assert set(reasons) == {"postgresql", "rabbitmq", "redis"}
    assert not (tmp_path / "state.json").exists()


def test_postgresql_is_left_to_the_tests_where_it_is_installed_and_none_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lab.harness.services.postgresql_programs", lambda: tmp_path)
    services = Services(tmp_path, for_tests=True)
    services.named = {}
    assert services.find()[0]["postgresql"].url == ""

    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        services.named = {"DATABASE_URL": f"postgres://user@127.0.0.1:{bound.getsockname()[1]}/shop"}
        assert "postgresql" in services.find()[1]


def test_private_instances_are_found_only_where_they_run(tmp_path: Path) -> None:
    found, reasons = Services(tmp_path, private=True).find()
    assert found == {}
    assert set(reasons.values()) == {"no private instance is running"}


# --- Scripts, requirements -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_script_is_valid_bash_and_stops_at_errors(script: Path) -> None:
    subprocess.run(["bash", "-n", script], check=True)
    if script.name != "bootstrap":
        text = script.read_text()
        assert text.startswith("#!/usr/bin/env bash\n")
        assert "\nset -euo pipefail\n" in text
        assert os.access(script, os.X_OK)


def test_demo_explains_itself_without_setting_anything_up(tmp_path: Path) -> None:
    copy = tmp_path / "script" / "demo"
    copy.parent.mkdir()
    copy.write_text((ROOT / "script" / "demo").read_text())
    shown = subprocess.run(["bash", copy, "--help"], capture_output=True, text=True, check=True)
    assert "DEMO_DIR" in shown.stdout
    assert not (tmp_path / ".venv").exists()


@pytest.mark.parametrize(
    "name",
    [
        "bench",
        "capacity",
        "deadlines",
        "demo",
        "faults",
        "lab",
        "latency",
        "loadtest",
        "races",
        "screenshots",
        "shards",
        "services",
        "stack",
        "test",
    ],
)
def test_every_program_explains_itself_without_settings(name: str) -> None:
    bare = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]}
    shown = subprocess.run([ROOT / "script" / name, "--help"], env=bare, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    assert f"script/{name}" in shown.stdout


# Stands for uv: makes a `.venv` with the Python that runs the tests, and writes down what it is asked to install.
UV = """#!/bin/sh
case "$1" in
venv)
    mkdir -p .venv/bin && printf '#!/bin/sh\\nexec %s "$@"\\n' '{python}' >.venv/bin/python
    chmod +x .venv/bin/python
    ;;
pip) for last; do :; done; echo "$last" >>installed ;;
esac
"""


@pytest.mark.parametrize("name", ["faults", "loadtest", "screenshots", "services", "test"])
def test_help_installs_no_development_packages_and_nothing_without_a_word(name: str, tmp_path: Path) -> None:
    for path in ROOT.iterdir():
        if path.name not in (".venv", ".git", "var"):
            (tmp_path / path.name).symlink_to(path)
    (tmp_path / "script").unlink()
    shutil.copytree(ROOT / "script", tmp_path / "script")
    uv = tmp_path / "bin" / "uv"
    uv.parent.mkdir()
    uv.write_text(UV.format(python=sys.executable))
    uv.chmod(0o755)
    bare = {"PATH": f"{uv.parent}:{os.environ['PATH']}", "HOME": os.environ["HOME"]}

    shown = subprocess.run([tmp_path / "script" / name, "--help"], env=bare, capture_output=True, text=True)

    assert shown.returncode == 0, shown.stderr
    assert f"script/{name}" in shown.stdout
    installed = tmp_path / "installed"
    if name in ("screenshots", "test"):
        assert (shown.stderr, installed.exists()) == ("", False)
    else:
        assert installed.read_text() == "requirements.txt\n"
        assert "needs the Python packages of requirements.txt" in shown.stderr.splitlines()[0]


@pytest.mark.parametrize("name", ["requirements", "requirements-dev"])
def test_every_requirement_is_pinned(name: str) -> None:
    wanted = (ROOT / f"{name}.in").read_text().splitlines()
    pinned = [line for line in (ROOT / f"{name}.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.match(r"[a-z0-9.-]+==\S+", line) for line in pinned)
    names = {line.partition("==")[0] for line in pinned}
    for line in wanted:
        if line and not line.startswith(("#", "-")):
            assert re.split(r"[\[~=<>]", line)[0].lower().replace("_", "-") in names


# --- Import contracts of our own -----------------------------------------------------------------------------------


def imports(*links: tuple[str, str]) -> grimp.ImportGraph:
    graph = grimp.ImportGraph()
    for importer, imported in links:
        graph.add_import(importer=importer, imported=imported, line_number=1, line_contents="")
    return graph


def refused(contract: type[Any], graph: grimp.ImportGraph, **options: list[str]) -> list[tuple[str, str]]:
    check = contract("name", {"root_packages": []}, options).check(graph, verbose=False)
    links = check.metadata["refused"]
    assert check.kept is not bool(links)
    return [(link.importer, link.imported) for link in links]


def test_only_contract_lets_through_what_it_lists() -> None:
    graph = imports(
        ("orders.process", "datetime"),
        ("orders.process", "orders.commands"),
        ("orders.process", "coupons.events"),
        ("orders.handlers", "django"),
    )
    assert refused(OnlyContract, graph, modules=["*.process"], may_import=[".commands", "*.events"]) == []


def test_only_contract_refuses_everything_else() -> None:
    links = [
        ("orders.domain", "coupons.events"),
        ("orders.domain", "django"),
        ("orders.domain", "orders.models"),
        ("orders.domain.rules", "orders.eventsourcing"),
    ]
    allowed = [("orders.domain", "orders.domain.rules"), ("orders.domain.rules", "orders.events")]
    graph = imports(*links, *allowed)
    assert refused(OnlyContract, graph, modules=["*.domain"], may_import=[".events", ".commands"]) == links


def test_private_contract_keeps_models_within_their_app() -> None:
    graph = imports(
        ("orders.handlers", "orders.models"),
        ("storefront.views", "orders.models"),
        ("storefront.views", "orders.handlers"),
        ("storefront.views", "storefront.models"),
        ("backoffice.orders", "orders.models"),
    )
    options = {"packages": ["orders", "coupons"], "files": ["models"], "but_for": ["backoffice -> .models"]}
    broken = refused(PrivateContract, graph, **options)
    assert broken == [("storefront.views", "orders.models")]


def test_contract_names_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    contract = PrivateContract("name", {}, {"packages": ["orders"], "files": ["models"], "but_for": []})
    check = contract.check(imports(("storefront.views", "orders.models")), verbose=False)
    contract.render_broken_contract(check)
    assert "storefront.views -> orders.models (l.1)" in capsys.readouterr().out
