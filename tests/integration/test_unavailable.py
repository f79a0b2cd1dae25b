"""What people see while a database is away: a plain page that says so, and when to try again."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.db import OperationalError, connections
from django.test import Client
from psycopg_pool import ConnectionPool, PoolTimeout

from sharding import numbers, shards
from tests.factories import CustomerFactory
from tests.integration.shop_api import Api, assert_problem

pytestmark = pytest.mark.django_db(databases="__all__")


@pytest.fixture
def shopper(db: None, client: Client) -> User:
    user = CustomerFactory.create(username="ann")
    client.force_login(user)
    return user


def away(*args: Any) -> Any:
    raise OperationalError("connection refused")


def assert_sorry(response: Any) -> None:
    assert response.status_code == 503
    assert response.headers["Retry-After"] == "5"
    assert response.headers["Content-Type"].startswith("text/html")
    assert "<html" in response.content.decode()


def test_a_shopper_whose_shard_is_away_sees_a_plain_page_and_the_shop_goes_on(client: Client, shopper: User) -> None:
    shard = shards.alias_of_bucket(numbers.bucket_of_customer(shopper.pk))
    with connections[shard].execute_wrapper(away):
        assert_sorry(client.get("/orders/"))
        assert client.get("/").status_code == 200


@pytest.mark.parametrize("path", ["/", "/orders/", "/inbox/", "/admin/"])
def test_a_signed_in_shopper_sees_a_plain_page_while_the_default_database_is_away(
    client: Client, shopper: User, path: str
) -> None:
    with connections["default"].execute_wrapper(away):
        assert_sorry(client.get(path))


@pytest.mark.services
@pytest.mark.django_db(databases="__all__", transaction=True)
def test_a_pool_without_a_free_connection_is_unavailability_too(monkeypatch: pytest.MonkeyPatch) -> None:
    api = Api.of("ann")
    assert api.token  # which asks the database for the account

    def exhausted(self: ConnectionPool, timeout: float | None = None) -> Any:
        raise PoolTimeout("couldn't get a connection after 3.00 sec")

    connections["default"].close()
    monkeypatch.setattr(ConnectionPool, "getconn", exhausted)
    assert_problem(api.get("/orders"), 503, "unavailable")


@pytest.mark.services
@pytest.mark.django_db(databases="__all__", transaction=True)
def test_threads_that_need_connections_of_two_databases_do_not_wait_for_each_other_in_a_circle() -> None:
    """Half of them come from the one database and half from the other, and together they have all that there are."""
    one, other = "default", shards.aliases()[0]
    everybody = threading.Barrier(2 * settings.DATABASE_POOL_SIZE)

    def ask(first: str, second: str) -> list[int]:
        try:
            answers = []
            for alias in (first, second):
                with connections[alias].cursor() as cursor:
                    cursor.execute("SELECT 1")
                    answers += [answer for (answer,) in cursor.fetchall()]
                if alias == first:
                    everybody.wait(timeout=10)
            return answers
        finally:
            connections.close_all()

    connections.close_all()
    ways = [(one, other), (other, one)] * settings.DATABASE_POOL_SIZE
    with ThreadPoolExecutor(len(ways)) as pool:
        asking = [pool.submit(ask, *way) for way in ways]
    assert [one.result() for one in asking] == [[1, 1]] * len(ways)
