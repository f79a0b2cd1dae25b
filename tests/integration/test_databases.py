"""Statements that are the same for any number of rows, on both kinds of database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from eventing.databases import (
    Claim,
    Insertion,
    insert,
    insert_alone,
    insert_together,
    look_up,
    prepared,
    relation,
    time_from_db,
)
from eventing.locks import SessionLock, release_session_lock, try_session_lock

pytestmark = pytest.mark.django_db
services = pytest.mark.services

NOON = datetime(2026, 6, 1, 12, 30, 15, 123456, tzinfo=UTC)
COLUMNS = {"id": "bigint", "name": "text", "at": "timestamptz", "data": "jsonb"}
ROWS: list[tuple[Any, ...]] = [
    (2**62 + 1, 'O\'Neil "Ünü" \\ 100 %s', NOON, '{"a": [1, "\\n", null]}'),
    (-1, "", None, "{}"),
    (7, None, NOON, '"text"'),
]


@pytest.fixture
def database() -> Iterator[BaseDatabaseWrapper]:
    """With two tables of the test's own."""
    connection = connections["default"]
    with connection.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE things (id bigint PRIMARY KEY, name text, at timestamp, data text)")
        cursor.execute("CREATE TEMPORARY TABLE marks (id bigint, mark text)")
    yield connection
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE things")
        cursor.execute("DROP TABLE marks")


def things(*ids: int, then: str = "") -> Insertion:
    types = {"id": "bigint", "name": "text"}
    return Insertion(table="things", columns=types, rows=[(one, f"thing {one}") for one in ids], then=then)


def stored(database: BaseDatabaseWrapper, what: str = "id", table: str = "things") -> list[Any]:
    with database.cursor() as cursor:
        cursor.execute(f"SELECT {what} FROM {table} ORDER BY id")
        return [value for (value,) in cursor.fetchall()]


def test_rows_arrive_as_they_were_and_in_their_order(database: BaseDatabaseWrapper) -> None:
    source, parameters = relation(database, "sent", COLUMNS, ROWS)

    with prepared(database) as cursor:
        cursor.execute(f"SELECT id, name, at, data FROM {source}", parameters)
        arrived = cursor.fetchall()

    assert [(row[0], row[1]) for row in arrived] == [(row[0], row[1]) for row in ROWS]
    assert [row[2] and time_from_db(row[2]) for row in arrived] == [NOON, None, NOON]
    assert [row[3] for row in arrived] == ['{"a": [1, "\\n", null]}', "{}", '"text"']


def test_insert_returns_what_the_statement_returns(database: BaseDatabaseWrapper) -> None:
    assert insert(database, things(1, 2)) == []
    assert insert(database, things(2, 3, then="ON CONFLICT DO NOTHING RETURNING id")) == [(3,)]
    assert stored(database, "name") == ["thing 1", "thing 2", "thing 3"]


def test_inserting_together_counts_the_new_rows_of_the_first_table(database: BaseDatabaseWrapper) -> None:
    marks = Insertion(table="marks", columns={"id": "bigint", "mark": "text"}, rows=[(1, "a"), (2, "b")])
    ignoring = "ON CONFLICT DO NOTHING"
    assert insert_together(database, things(1, then=ignoring), marks) == 1
    assert insert_together(database, things(1, 2, then=ignoring), marks, marks) == 1
    assert stored(database) == [1, 2]
    assert len(stored(database, table="marks")) == 6


def test_rows_are_looked_up_by_their_keys(database: BaseDatabaseWrapper) -> None:
    insert(database, things(1, 2, 3, 4))
    order = "ORDER BY id DESC"
    assert look_up(database, "things", ["id"], ["id"], [(1,), (99,), (3,), (1,)], then=order) == [(3,), (1,)]
    wanted = [(1, "thing 1"), (2, "thing 1"), (3, "thing 3")]
    assert look_up(database, "things", ["name"], ["id", "name"], wanted, then=order) == [("thing 3",), ("thing 1",)]
    but = look_up(database, "things", ["id"], ["id"], [(1,), (3,)], then="AND name <> %s", parameters=["thing 3"])
    assert but == [(1,)]
    assert look_up(database, "things", ["id"], ["id"], []) == []


def test_a_row_that_is_inserted_alone_is_new_or_not(database: BaseDatabaseWrapper) -> None:
    ignoring = "ON CONFLICT DO NOTHING"
    assert insert_alone(database, things(1, then=ignoring), ["a"], by="id") == {1: Claim.NEW}
    assert insert_alone(database, things(2, 1, then=ignoring), ["b", "a"], by="id") == {1: Claim.TAKEN, 2: Claim.NEW}
    assert stored(database) == [1, 2]


@services
@pytest.mark.django_db(transaction=True)
def test_a_row_is_not_inserted_while_another_transaction_has_its_lock() -> None:
    rows = Insertion(
        table="inventory_category",
        columns={"slug": "text", "name": "text", "position": "integer"},
        rows=[("tea", "Tea", 1), ("cups", "Cups", 2)],
        then="ON CONFLICT DO NOTHING",
    )
    with closing(connections["default"].copy()) as other, transaction.atomic(), other.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(hashtextextended('lock of tea', 0))")
        try:
            inserted = insert_alone(connections["default"], rows, ["lock of tea", "lock of cups"], by="slug")
        finally:  # the connection goes back to the pool, and would take the lock along
            cursor.execute("SELECT pg_advisory_unlock_all()")
    assert inserted == {"tea": Claim.IN_FLIGHT, "cups": Claim.NEW}
    assert stored(connections["default"], "slug", "inventory_category") == ["cups"]


@services
def test_the_server_keeps_the_plans_of_hot_statements(database: BaseDatabaseWrapper) -> None:
    for number in range(3):
        insert(database, things(*range(number * 10, number * 10 + number + 1)))
    with database.cursor() as cursor:
        cursor.execute(
            "SELECT generic_plans + custom_plans FROM pg_prepared_statements WHERE statement LIKE 'INSERT INTO things%'"
        )
        assert cursor.fetchall() == [(3,)]


@services
@pytest.mark.django_db(transaction=True)
def test_a_connection_that_was_cut_while_it_lay_in_the_pool_is_not_given_out() -> None:
    connection = connections["default"]
    with closing(connection.copy()) as other, other.cursor() as killer:
        for _ in range(3):
            backend = backend_of(connection)
            connection.close()  # into the pool
            killer.execute("SELECT pg_terminate_backend(%s, 5000)", [backend])
            assert killer.fetchone() == (True,)


@services
@pytest.mark.django_db(transaction=True)
def test_when_all_that_lie_in_the_pool_were_cut_the_next_question_is_answered() -> None:
    connection = connections["default"].copy("wide")
    connection.settings_dict["OPTIONS"]["pool"]["max_size"] = 5
    with ExitStack() as after:
        after.callback(connection.close_pool)
        with ExitStack() as opened:
            several = [opened.enter_context(closing(connection.copy("wide"))) for _ in range(5)]
            backends = [backend_of(one) for one in several]
        with connections["default"].cursor() as killer:
            killer.execute("SELECT pg_terminate_backend(pid, 5000) FROM unnest(%s) AS pid", [backends])

        with closing(connection):
            assert backend_of(connection) not in backends


def backend_of(connection: BaseDatabaseWrapper) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        [(backend,)] = cursor.fetchall()
    return int(backend)


@services
def test_a_lock_that_is_given_back_can_be_had_at_once() -> None:
    lock, other = SessionLock("default", "tests"), connections["default"]
    for _ in range(30):
        assert lock.hold()
        assert not try_session_lock(other, "tests")
        lock.release()
        assert try_session_lock(other, "tests")
        release_session_lock(other, "tests")
