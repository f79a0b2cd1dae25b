"""What all tests share."""

from __future__ import annotations

import gc
import os
from collections.abc import Generator, Iterator
from importlib import import_module
from typing import Any

import pytest
import zeal.constants
import zeal.patch
from django.conf import settings
from django.db import connections

from caching import breakers, two_level
from eventing.databases import is_postgresql
from lab.harness import installations
from sharding import installation, shards
from tests import emptying
from tests.groups import Division, close_shared, place_of, scope_of, share
from tests.live import Live, running

SERVICES = os.environ["TEST_PROFILE"] == "services"


def pytest_configure() -> None:
    # Every page that a test asks for runs with zeal, which raises where rows are fetched one by one (N+1).
    zeal.constants.initialize_app_registry()
    zeal.patch.patch()
    settings.ZEAL_RAISE = True
    # What libraries fetch twice in one request; zeal takes it for one place, that of our first middleware.
    settings.ZEAL_ALLOWLIST = [
        {"model": "sessions.Session", "field": "get()"},  # Django: loaded, and loaded again to be ended
        {"model": "auth.User", "field": "get()"},  # Django: who is signed in, and whose page of the admin this is
        {"model": "django_celery_beat.PeriodicTasks", "field": "get()"},  # noted at a save, once by each of its signals
        {"model": "django_celery_beat.PeriodicTask", "field": "get()"},  # unique names are looked up at a save
        {"model": "inventory.Category", "field": "get()"},  # Django: each row of a list whose rows can be changed
    ]
    # Each of the ticked letters is locked and settled in a transaction of its own, on purpose.
    settings.ZEAL_ALLOWLIST.append({"model": "eventing.DeadLetter", "field": "get()"})
    # Tests look at what they have changed in transactions that never commit, so nobody would be told.
    settings.CATALOGUE_CACHE_SECONDS = 0
    settings.PROBE_CACHE_SECONDS = 0
    # Each test reads the shard map at its start; to read it again would be one query too many for those that count.
    settings.SHARD_MAP_SECONDS = 600
    settings.MIDDLEWARE = ["zeal.middleware.zeal_middleware", *settings.MIDDLEWARE]
    # Static files are looked for when somebody wants one: each test client would read all of them.
    settings.WHITENOISE_AUTOREFRESH = True
    emptying.install()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Division:
    return Division(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked `services` need PostgreSQL, RabbitMQ and Redis, and say so when they are skipped."""
    items.sort(key=lambda item: place_of(item.nodeid))
    if SERVICES:
        return
    skip = pytest.mark.skip(reason="needs PostgreSQL, RabbitMQ and Redis (TEST_PROFILE=services)")
    for item in items:
        if item.get_closest_marker("services"):
            item.add_marker(skip)


def pytest_collection_finish() -> None:
    """What is there now stays to the end: the garbage collector need not look through it again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings_parallel_suffix: None) -> None:
    """On a server of the tests' own, their databases are copies of migrated ones."""
    if SERVICES and installations.uses_templates(os.environ):
        names = installations.migrated(os.environ["DATABASE_URL"], shards=len(settings.DATABASES) - 1)
        for known, template in zip(settings.DATABASES.values(), names, strict=True):
            known["TEST"] |= {"TEMPLATE": template, "MIGRATE": False}


@pytest.fixture(autouse=True)
def nothing_remembered() -> Iterator[None]:
    """What failed in one test is tried again in the next, and what this process remembers of the shop is forgotten."""
    yield
    from api import tokens  # needs the applications to be loaded

    breakers.reset()
    two_level.clear_memory()
    tokens.forget()
    for connection in connections.all(initialized_only=True):
        if is_postgresql(connection) and connection.connection is not None and connection.connection.closed:
            connection.close()  # it was cut: this test fails, not all that come after it
        # A pool that could not connect waits longer each time before it tries again. (To ask for `pool` makes one.)
        pool = connection._connection_pools.get(connection.alias) if is_postgresql(connection) else None
        if pool is not None and pool.pop_stats().get("connections_errors"):
            connection.close()
            connection.close_pool()


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> None:
    """Tests find the first shard map in their databases (and leave it there: tests/emptying.py).

    The pages of the back office are loaded with the addresses, whichever test comes first.
    """
    import_module("config.urls")
    with django_db_blocker.unblock():
        shards.install()
        for alias in settings.DATABASES:
            installation.mark(alias)


@pytest.fixture(autouse=True)
def shard_map(request: pytest.FixtureRequest) -> None:
    """This process knows the shard map as it is in the databases, whatever the last test has made it believe."""
    if request.node.get_closest_marker("django_db"):
        request.getfixturevalue("_django_db_helper")
        shards.refresh()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None]:
    yield
    if nextitem is None or scope_of(nextitem.nodeid) != scope_of(item.nodeid):
        close_shared()


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Live:
    """A whole shop as processes, on the profile under test, from when a test wants it to the end of its group."""
    return share(running(tmp_path_factory.mktemp("live")))
