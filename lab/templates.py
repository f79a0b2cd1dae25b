"""Migrated databases to make others from: a copy takes a twentieth of a second, all migrations take more than one.

For a server that lives no longer than the code stays as it is: nobody looks whether a template is out of date.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from lab.stack import ROOT

VARIABLE = "DATABASE_TEMPLATES"
LOCK = 4_213_009


def are_wanted(env: Mapping[str, str]) -> bool:
    """Whether the server that the environment names is one for which templates are right."""
    return env.get(VARIABLE) == "1"


def copy(server: str, name: str, shards: int) -> None:
    """Make the databases of a shop: `name`, and `name` with `_orders_0` and so on. `server`: any URL of the server."""
    with _maintenance(server) as connection:
        for template in _migrated(connection, server, shards):
            database = template.replace(_template(shards), name, 1)
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(database), sql.Identifier(template))
            )


def migrated(server: str, shards: int) -> list[str]:
    """The names of the templates of a shop with so many shards, that of `default` first; made if they are not there."""
    with _maintenance(server) as connection:
        return _migrated(connection, server, shards)


def _template(shards: int) -> str:
    return f"template_of_{shards}"


def _migrated(connection: psycopg.Connection[Any], server: str, shards: int) -> list[str]:
    name = _template(shards)
    names = [name, *(f"{name}_orders_{number}" for number in range(shards))]
    # Who comes second waits for the first to have made them.
    connection.execute("SELECT pg_advisory_lock(%s)", [LOCK])
    try:
        # The default database is marked when all are complete.
        complete = "SELECT 1 FROM pg_database WHERE datname = %s AND datistemplate"
        if connection.execute(complete, [name]).fetchone() is None:
            _migrate(urlsplit(server)._replace(path=f"/{name}").geturl(), shards)
            connection.execute(sql.SQL("ALTER DATABASE {} IS_TEMPLATE true").format(sql.Identifier(name)))
    finally:
        connection.execute("SELECT pg_advisory_unlock(%s)", [LOCK])
    return names


def _migrate(url: str, shards: int) -> None:
    env = {
        **os.environ,
        "PROFILE": "services",
        "DATABASE_URL": url,
        "ORDER_SHARDS": str(shards),
        "ORDER_SHARD_URLS": "",
        "DEBUG": "1",
    }
    command = [sys.executable, "manage.py", "migrate_all", "--verbosity=0"]
    subprocess.run(command, cwd=ROOT, env=env, check=True, stdout=subprocess.DEVNULL)


@contextmanager
def _maintenance(server: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(urlsplit(server)._replace(path="/postgres").geturl(), autocommit=True) as connection:
        yield connection
