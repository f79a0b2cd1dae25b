"""Databases and queues of a shop's own on the services, which are gone afterwards, and templates to make them from.

A copy of a migrated database takes a twentieth of a second, all migrations take more than one. Templates are for a
server that lives no longer than the code stays as it is: nobody looks whether a template is out of date.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from lab.harness import ROOT
from lab.harness.shell import Shell

SHARDS = 8
TEMPLATES = "DATABASE_TEMPLATES"
LOCK = 4_213_009


def production(**more: str) -> dict[str, str]:
    """The settings of a shop as in production, with no more in it than what belongs to every shop."""
    return {
        "DEBUG": "0",
        "HTTPS": "false",
        "ALLOWED_HOSTS": "127.0.0.1",
        "EMAIL_URL": "dummymail://",
        "SEED_OPTIONS": "--reference-data",
        "SECRET_KEY": secrets.token_urlsafe(50),
        **more,
    }


@contextmanager
def temporary_installation(
    name: str, log_dir: Path, env: Mapping[str, str], *, shards: int = SHARDS
) -> Iterator[dict[str, str]]:
    """The environment of a shop named `name` (letters, digits, underscores) that does not run yet.

    `env`, then the environment, names the services. The shop's databases do not exist yet and, like its queues, will be
    gone afterwards. What an earlier run of the same name has left behind is removed first.
    """
    given = {**os.environ, **env}
    server = urlsplit(given["DATABASE_URL"])
    databases = [name, *(f"{name}_orders_{number}" for number in range(max(shards, SHARDS)))]
    _drop(given["DATABASE_URL"], databases)
    if uses_templates(given):
        copy(given["DATABASE_URL"], name, shards)
    made = {
        **env,
        "PROFILE": "services",
        "DATABASE_URL": server._replace(path=f"/{name}").geturl(),
        "ORDER_SHARDS": str(shards),
        "ORDER_SHARD_URLS": "",
        "EVENTING_NAMESPACE": name,
        "DEMO_DIR": str(log_dir),
    }
    try:
        yield made
    finally:
        from lab.programs.shop import delete_queues  # needs Django, which templates do not

        try:
            with Shell(made) as shell:
                shell.call(delete_queues)
        finally:
            _drop(given["DATABASE_URL"], databases)


def _drop(server: str, databases: list[str]) -> None:
    with _maintenance(server) as connection:
        for database in databases:
            statement = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
            connection.execute(statement.format(sql.Identifier(database)))


# --- Templates -------------------------------------------------------------------------------------------------------


def uses_templates(env: Mapping[str, str]) -> bool:
    """Whether the server that the environment names is one for which templates are right."""
    return env.get(TEMPLATES) == "1"


def copy(server: str, name: str, shards: int) -> None:
    """Make the databases of a shop: `name`, and `name` with `_orders_0` and so on. `server`: any URL of the server."""
    with _maintenance(server) as connection:
        for template in _migrated(connection, server, shards):
            database = template.replace(_template(shards), name, 1)
            statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
            connection.execute(statement.format(sql.Identifier(database), sql.Identifier(template)))


def migrated(server: str, shards: int) -> list[str]:
    """The names of the templates of a shop with so many shards, that of `default` first; made if they are not there."""
    with _maintenance(server) as connection:
        return _migrated(connection, server, shards)


def _template(shards: int) -> str:
    return f"template_of_{shards}"


def _migrated(connection: psycopg.Connection[Any], server: str, shards: int) -> list[str]:
    name = _template(shards)
    # Who comes second waits for the first to have made them.
    connection.execute("SELECT pg_advisory_lock(%s)", [LOCK])
    try:
        # The default database is marked when all are complete.
        complete = "SELECT 1 FROM pg_database WHERE datname = %s AND datistemplate"
        if connection.execute(complete, [name]).fetchone() is None:
            url = urlsplit(server)._replace(path=f"/{name}").geturl()
            env = {"PROFILE": "services", "DATABASE_URL": url, "ORDER_SHARDS": str(shards), "ORDER_SHARD_URLS": ""}
            command = [sys.executable, "manage.py", "migrate_all", "--verbosity=0"]
            given = {**os.environ, **env, "DEBUG": "1"}
            subprocess.run(command, cwd=ROOT, env=given, check=True, stdout=subprocess.DEVNULL)
            connection.execute(sql.SQL("ALTER DATABASE {} IS_TEMPLATE true").format(sql.Identifier(name)))
    finally:
        connection.execute("SELECT pg_advisory_unlock(%s)", [LOCK])
    return [name, *(f"{name}_orders_{number}" for number in range(shards))]


@contextmanager
def _maintenance(server: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(urlsplit(server)._replace(path="/postgres").geturl(), autocommit=True) as connection:
        yield connection
