"""Chooses the profile under test before Django reads its settings; loaded by pytest as a plugin.

`TEST_PROFILE` is `services` (PostgreSQL, RabbitMQ, Redis) or `embedded` (SQLite, everything in one process; the
default). `TEST_RUN` gives the databases and queues of a run names of their own.

Where `DATABASE_URL` names no server and PostgreSQL is installed, the run has a server of its own: one that need not
keep anything for longer than the run, and has connections for several shops at once, which that of the machine has not.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest

from lab.harness import installations
from lab.harness.instances import Instance, Unusable, postgresql_programs, start_postgresql, stop

PROFILE = os.environ.setdefault("TEST_PROFILE", "embedded")
RUN = os.environ.setdefault("TEST_RUN", "run")
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")
OPTIONS = {
    "max_connections": "600",  # a shop may hold a hundred
    "autovacuum": "off",  # what is estimated, and how fast something is, would depend on when it has come by
    "full_page_writes": "off",
    "jit": "off",  # it takes longer to compile a query than any of these queries takes
}

os.environ["PROFILE"] = PROFILE
os.environ["DEMO_DIR"] = str(Path(__file__).resolve().parent.parent / "var" / "test" / RUN)
os.environ.setdefault("SECRET_KEY", secrets.token_urlsafe(50))
os.environ["EVENTING_NAMESPACE"] = "_".join(filter(None, ["test", RUN, WORKER]))
os.environ["SANDBOX_SLOW_SECONDS"] = "0.1"
os.environ["EVENTING_POLL_SECONDS"] = "0.1"  # a shop that has nothing to do leaves the machine to the others
os.environ["HTTPS"] = "false"  # the tests' clients speak plain HTTP
if PROFILE == "services":
    # The live shop of the flow tests has all eight shards.
    os.environ.setdefault("ORDER_SHARDS", "4")
    os.environ.setdefault("CELERY_BROKER_URL", "amqp://guest:guest@127.0.0.1:5672//")
    os.environ.setdefault("REDIS_URL", "redis://127.0.0.1:6379/9")


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None]:
    """Comes before Django's settings. The processes that share the tests inherit the server of the first one."""
    if PROFILE == "services" and "DATABASE_URL" not in os.environ:
        if postgresql_programs() is None:
            os.environ["DATABASE_URL"] = "postgres://root@127.0.0.1:5432/wharf"
        elif not early_config.option.collectonly:
            _start_server(early_config)
    return (yield)


def _start_server(config: pytest.Config) -> None:
    folder = Path(tempfile.mkdtemp(prefix="wharf-tests-"))
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    try:
        server = start_postgresql(folder, fsync=False, options=OPTIONS)
    except Unusable as error:
        raise pytest.UsageError(f"The tests' own PostgreSQL: {error}. DATABASE_URL may name another.") from error
    config.add_cleanup(lambda: _stop_server(server, folder))
    os.environ["DATABASE_URL"] = server.url
    os.environ[installations.TEMPLATES] = "1"


def _stop_server(server: Instance, folder: Path) -> None:
    stop(server)
    shutil.rmtree((folder / "data").resolve(), ignore_errors=True)  # elsewhere if root has started it
