"""What all tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from django.conf import settings

from config import breakers
from sharding import shards
from tests.live import Live, running

SERVICES = os.environ["TEST_PROFILE"] == "services"


def pytest_configure() -> None:
    # A good password hash is slow on purpose, and tests make many users.
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked `services` need PostgreSQL, RabbitMQ and Redis, and say so when they are skipped."""
    if SERVICES:
        return
    skip = pytest.mark.skip(reason="needs PostgreSQL, RabbitMQ and Redis (TEST_PROFILE=services)")
    for item in items:
        if item.get_closest_marker("services"):
            item.add_marker(skip)


@pytest.fixture(autouse=True)
def closed_circuits() -> Iterator[None]:
    """What failed in one test is tried again in the next."""
    yield
    breakers.reset()


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
