"""What all tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import zeal.constants
import zeal.patch
from django.conf import settings
from xdist.scheduler import LoadScopeScheduling

from config import breakers, levels
from sharding import shards
from tests.live import Live, running

SERVICES = os.environ["TEST_PROFILE"] == "services"


def pytest_configure() -> None:
    # A good password hash is slow on purpose, and tests make many users.
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
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
    ]
    # Each of the ticked letters is locked and settled in a transaction of its own, on purpose.
    settings.ZEAL_ALLOWLIST.append({"model": "eventing.DeadLetter", "field": "get()"})
    # Tests look at what they have changed in transactions that never commit, so nobody would be told.
    settings.CATALOGUE_CACHE_SECONDS = 0
    settings.MIDDLEWARE = ["zeal.middleware.zeal_middleware", *settings.MIDDLEWARE]


class Division(LoadScopeScheduling):
    """Divides tests among processes so that nothing expensive is started twice.

    (The groups of `--dist loadgroup` do not reach the scheduler with this version of pytest.)
    """

    SHARED = {
        "tests/browser/": "browser",
        "tests/faults/test_beat": "shop",
        "tests/faults/test_degradation": "shop",
        "tests/faults/test_faults": "shop",
        "tests/faults/test_poison": "shop",
        "tests/flows/test_live": "shop",
    }

    def _split_scope(self, nodeid: str) -> str:
        return next((group for start, group in self.SHARED.items() if nodeid.startswith(start)), nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Division:
    return Division(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked `services` need PostgreSQL, RabbitMQ and Redis, and say so when they are skipped."""
    if SERVICES:
        return
    skip = pytest.mark.skip(reason="needs PostgreSQL, RabbitMQ and Redis (TEST_PROFILE=services)")
    for item in items:
        if item.get_closest_marker("services"):
            item.add_marker(skip)


@pytest.fixture(autouse=True)
def nothing_remembered() -> Iterator[None]:
    """What failed in one test is tried again in the next, and what this process remembers of the shop is forgotten."""
    yield
    breakers.reset()
    levels.drop_all()


@pytest.fixture(autouse=True)
def shard_map(request: pytest.FixtureRequest) -> None:
    """Tests with a database find the first shard map in it, also after a test that emptied all tables."""
    if request.node.get_closest_marker("django_db"):
        request.getfixturevalue("_django_db_helper")
        shards.install()


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A whole shop as processes, on the profile under test; started when the first test wants it."""
    with running(tmp_path_factory.mktemp("live")) as live:
        yield live
