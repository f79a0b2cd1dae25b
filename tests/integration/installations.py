"""Databases that do not exist yet, and `manage.py` in processes of its own to make them."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import environ
import psycopg
from django.conf import settings
from django.db import connections
from psycopg import sql

from lab.harness import ROOT


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """Databases that do not exist yet, for `manage.py` in a process of its own."""

    environment: dict[str, str]
    names: dict[str, str]
    directory: Path

    def manage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def tables(self, alias: str) -> set[str]:
        if self.names:
            statement = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
            with psycopg.connect(**server(), dbname=self.names[alias]) as session:
                return {name for (name,) in session.execute(statement)}
        with sqlite3.connect(self.directory / f"{alias}.sqlite3") as session:
            return {name for (name,) in session.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}

    def execute(self, alias: str, statement: str) -> None:
        if self.names:
            with psycopg.connect(**server(), dbname=self.names[alias]) as session:
                session.execute(statement)  # type: ignore[arg-type]  # the tests' own text
        else:
            with sqlite3.connect(self.directory / f"{alias}.sqlite3") as session:
                session.execute(statement)


def server() -> dict[str, Any]:
    config = connections["default"].settings_dict
    given = {"host": config["HOST"], "port": config["PORT"], "user": config["USER"], "password": config["PASSWORD"]}
    return {key: value for key, value in given.items() if value}


@contextmanager
def fresh(tmp_path: Path) -> Iterator[Installation]:
    """An installation with two shards and, on PostgreSQL, a database of its own for inventory."""
    environment = {**os.environ, "DEMO_DIR": str(tmp_path)}
    if settings.EMBEDDED:
        yield Installation(environment=environment, names={}, directory=tmp_path)
        return
    base = "_".join(filter(None, ["migrate_all", settings.TEST_RUN, os.environ.get("PYTEST_XDIST_WORKER")]))
    names = {
        "default": base,
        "orders_0": f"{base}_orders_0",
        "orders_1": f"{base}_orders_1",
        "inventory": f"{base}_inv",
    }
    url = environ.urlparse(os.environ["DATABASE_URL"])
    environment |= {
        "DATABASE_URL": url._replace(path=f"/{names['default']}").geturl(),
        "INVENTORY_DATABASE_URL": url._replace(path=f"/{names['inventory']}").geturl(),
        "ORDER_SHARDS": "2",
    }
    environment.pop("ORDER_SHARD_URLS", None)
    try:
        yield Installation(environment=environment, names=names, directory=tmp_path)
    finally:
        with psycopg.connect(**server(), dbname="postgres", autocommit=True) as session:
            for name in names.values():
                session.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
