"""Which failures are worth another try, by the code that the database gave them."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path
from socket import gaierror

import django.db
import psycopg
import pytest
import redis.exceptions
from celery.exceptions import SoftTimeLimitExceeded
from django.db.transaction import TransactionManagementError
from kombu.exceptions import OperationalError as BrokerError
from psycopg_pool import PoolTimeout

from eventing.queues import BrokerUnavailable
from eventing.transient import SQLSTATES, Chance, chance, is_transient
from sharding.errors import BucketMoving

MAY_PASS = {
    "08006": "connection failure",
    "25006": "read-only transaction",
    "25P02": "in failed transaction",
    "25P03": "idle in transaction",
    "28P01": "invalid password",
    "3D000": "no such database",
    "40001": "serialization failure",
    "40P01": "deadlock",
    "53100": "disk full",
    "53200": "out of memory",
    "53300": "too many connections",
    "55006": "object in use",
    "55P03": "lock not available",
    "57014": "query cancelled",
    "57P01": "admin shutdown",
    "57P02": "crash shutdown",
    "57P03": "cannot connect now",
    "58030": "I/O error",
}
STAYS = {
    "0A000": "not supported",
    "22003": "number out of range",
    "22P02": "not a number",
    "23505": "unique violation",
    "23514": "check violation",
    "25001": "in a transaction",
    "42501": "no privilege",
    "42703": "no such column",
    "42P01": "no such table",
    "54001": "statement too complex",
    "P0001": "raised by a function",
    "XX001": "data corrupted",
}


def wrapped(cause: BaseException, wrapper: BaseException) -> BaseException:
    wrapper.__cause__ = cause
    return wrapper


@pytest.mark.parametrize("wrapper", [django.db.InternalError, django.db.OperationalError, django.db.ProgrammingError])
@pytest.mark.parametrize("sqlstate", [*MAY_PASS, *STAYS])
def test_the_sqlstate_decides_and_not_the_class(sqlstate: str, wrapper: type[django.db.Error]) -> None:
    cause = psycopg.errors.lookup(sqlstate)("said the server") if sqlstate in known() else with_state(sqlstate)
    assert is_transient(wrapped(cause, wrapper("said the server"))) is (sqlstate in MAY_PASS)
    assert is_transient(cause) is (sqlstate in MAY_PASS)


def known() -> set[str]:
    return {state for state in (*MAY_PASS, *STAYS) if state in psycopg.errors._sqlcodes}


def with_state(sqlstate: str) -> psycopg.Error:
    error = psycopg.DatabaseError("said the server")
    error.sqlstate = sqlstate
    return error


def test_every_line_of_the_table_has_a_case() -> None:
    assert [start for start in SQLSTATES if not any(state.startswith(start) for state in MAY_PASS)] == ["25P04"]


def test_the_documented_table_is_the_one_in_use() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "operations.md").read_text()
    table = text.partition("| SQLSTATE |")[2].partition("\n\n")[0].splitlines()[2:]
    documented = {
        state.strip(" `"): row.split("|")[2].strip() for row in table for state in row.split("|")[1].split(",")
    }
    names = {Chance.WHEN_BACK: "when it is back", Chance.LATER: "later"}
    assert documented == {state: names[found] for state, found in SQLSTATES.items()}


def locked(path: Path) -> None:
    with sqlite3.connect(path) as first, sqlite3.connect(path, timeout=0) as second:
        first.execute("BEGIN IMMEDIATE")
        second.execute("BEGIN IMMEDIATE")


def readonly(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA query_only = on")
        connection.execute("INSERT INTO t VALUES (1)")


def full(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA max_page_count = 2")
        connection.execute("INSERT INTO t SELECT randomblob(100000)")


def no_folder(path: Path) -> None:
    sqlite3.connect(path / "missing" / "file").execute("SELECT 1")


@pytest.mark.parametrize("fail", [locked, readonly, full, no_folder])
def test_a_file_that_cannot_be_used_now_is_tried_again(fail: Callable[[Path], None]) -> None:
    assert is_transient(wrapped(sqlite_error(fail), django.db.OperationalError("said SQLite")))


@pytest.mark.parametrize("statement", ["SELECT * FROM nowhere", "SELECT 1 1", "INSERT INTO t VALUES (NULL)"])
def test_a_wrong_statement_is_not(statement: str) -> None:
    def fail(path: Path) -> None:
        with sqlite3.connect(path) as connection:
            connection.execute(statement)

    assert not is_transient(wrapped(sqlite_error(fail), django.db.OperationalError("said SQLite")))


def sqlite_error(fail: Callable[[Path], None]) -> sqlite3.Error:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE t (value NOT NULL)")
        with pytest.raises(sqlite3.Error) as failed:
            fail(path)
    return failed.value


@pytest.mark.parametrize(
    "error",
    [
        wrapped(PoolTimeout("no connection within 3 s"), django.db.OperationalError("no connection within 3 s")),
        psycopg.OperationalError("failed to resolve host 'db': Name or service not known"),
        django.db.InterfaceError("connection already closed"),
        BucketMoving("nobody has it"),
        wrapped(django.db.IntegrityError("no partition"), BucketMoving("nobody has it")),
        wrapped(django.db.OperationalError("gone"), TransactionManagementError("the transaction is broken")),
        wrapped(django.db.OperationalError("gone"), RuntimeError("the report was not written")),
        SoftTimeLimitExceeded(),
        ConnectionResetError(),
        TimeoutError(),
        gaierror(),
        BrokerError("refused"),
        BrokerUnavailable("refused"),
        redis.exceptions.ConnectionError("refused"),
        redis.exceptions.ReadOnlyError("a replica"),
    ],
    ids=repr,
)
def test_what_did_not_answer_is_tried_again(error: BaseException) -> None:
    assert is_transient(error)


@pytest.mark.parametrize(
    "error", [ValueError("a bug"), django.db.DataError("too long"), TransactionManagementError("a bug"), OSError("?")]
)
def test_a_bug_is_not(error: BaseException) -> None:
    assert chance(error) is Chance.NONE


def test_causes_that_go_in_a_circle_come_to_an_end() -> None:
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    assert not is_transient(one)
