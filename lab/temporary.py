"""A shop on the services with databases and queues of its own, which are removed when it stops."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from lab import templates
from lab.stack import ROOT, Stack

SHARDS = 8
REMOVE_QUEUES = """
from celery import current_app
from eventing import topology
with current_app.connection_for_write() as connection:
    topology.delete(connection)
"""


@contextmanager
def temporary_stack(name: str, log_dir: Path, env: Mapping[str, str], *, shards: int = SHARDS) -> Iterator[Stack]:
    """Run a shop named `name` (letters, digits, underscores). `env`, then the environment, names the services."""
    with temporary_installation(name, log_dir, env, shards=shards) as env, Stack(env=env, log_dir=log_dir) as stack:
        yield stack


@contextmanager
def temporary_installation(
    name: str, log_dir: Path, env: Mapping[str, str], *, shards: int = SHARDS
) -> Iterator[dict[str, str]]:
    """The environment of a shop named `name` that does not run yet, and of which nothing is left afterwards."""
    with temporary_databases(name, log_dir, env, shards=shards) as env:
        try:
            yield env
        finally:
            subprocess.run(
                [sys.executable, "manage.py", "shell", "--no-imports", "-c", REMOVE_QUEUES],
                cwd=ROOT,
                env={**os.environ, **env},
                check=True,
            )


@contextmanager
def temporary_databases(
    name: str, log_dir: Path, env: Mapping[str, str], *, shards: int = SHARDS
) -> Iterator[dict[str, str]]:
    """The environment of a shop named `name`, whose databases do not exist yet and will be gone afterwards.

    What an earlier run of the same name has left behind is removed first.
    """
    given = {**os.environ, **env}
    server = urlsplit(given["DATABASE_URL"])
    databases = [name, *(f"{name}_orders_{number}" for number in range(max(shards, SHARDS)))]
    maintenance = server._replace(path="/postgres").geturl()
    _drop(maintenance, databases)
    if templates.are_wanted(given):
        templates.copy(given["DATABASE_URL"], name, shards)
    try:
        yield {
            **env,
            "PROFILE": "services",
            "DATABASE_URL": server._replace(path=f"/{name}").geturl(),
            "ORDER_SHARDS": str(shards),
            "ORDER_SHARD_URLS": "",
            "EVENTING_NAMESPACE": name,
            "DEMO_DIR": str(log_dir),
        }
    finally:
        _drop(maintenance, databases)


def _drop(maintenance: str, databases: list[str]) -> None:
    with psycopg.connect(maintenance, autocommit=True) as connection:
        for database in databases:
            statement = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
            connection.execute(statement.format(sql.Identifier(database)))
