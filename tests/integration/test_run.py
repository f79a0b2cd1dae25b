"""What `manage.py run` refuses, and how it says so."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys

import pytest

from lab.harness import ROOT

pytestmark = pytest.mark.once

SERVICES = {"PROFILE": "services", "DATABASE_URL": "postgres://127.0.0.1:1/nowhere"}


def run(*arguments: str, **variables: str) -> tuple[int, str, str]:
    """The exit code, and what was written to standard output and standard error."""
    environment = {**os.environ, "SECRET_KEY": secrets.token_urlsafe(50), **variables}
    command = [sys.executable, "manage.py", "run", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


def test_a_subscriber_that_does_not_exist_is_refused_with_those_that_do() -> None:
    code, _, said = run("worker", "inventory", "printer", **SERVICES)
    assert (code, said.count("\n")) == (1, 1)
    assert said.startswith("CommandError: There is no subscriber printer; there are ")
    assert {"inventory", "coupons", "orders", "payments", "notifications", "integration", "tasks"} <= set(
        said.rpartition("there are ")[2].rstrip(".\n").split(", ")
    )


@pytest.mark.parametrize("role", ["web", "relay", "worker", "beat"])
def test_the_embedded_profile_has_one_process(role: str) -> None:
    code, _, said = run(role, PROFILE="embedded")
    assert code == 1
    assert said == (
        "CommandError: The embedded profile's broker lives inside one process: `manage.py run all` runs it.\n"
    )


def test_the_services_profile_has_a_process_for_each_role() -> None:
    code, _, said = run("all", **SERVICES)
    assert (code, said.count("\n")) == (1, 1)
    assert "this is the services profile: `script/stack` runs a process for each role" in said


def test_help_names_the_roles_and_a_role_that_does_not_exist_is_refused() -> None:
    code, said, _ = run("--help")
    assert code == 0
    roles = {"web", "relay", "worker", "beat", "all"}
    assert roles <= set(said.split())
    code, _, said = run("printer")
    assert code == 2
    assert all(f"'{role}'" in said for role in roles)
    code, said, _ = run("worker", "--help")
    assert code == 0
    assert "SUBSCRIBER" in said
