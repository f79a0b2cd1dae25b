"""Which failures may pass: the one place that decides whether it helps to try again later.

An error of a database is judged by what the server said (SQLSTATE, SQLite's result code) and not by its class: the
driver and Django put a database that has become read-only among "internal errors", and a missing table of SQLite's
among "operational" ones. Without a code there was no answer, and then the class has to do.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from enum import IntEnum
from socket import gaierror

import django.db
import psycopg
import redis.exceptions
from celery.exceptions import SoftTimeLimitExceeded
from django.db.transaction import TransactionManagementError
from kombu.exceptions import OperationalError as BrokerError

from eventing.errors import Transient

RETRY_SECONDS = 5  # when a refused client may try again


class Chance(IntEnum):
    """What another try may bring."""

    NONE = 0  # it would fail again: the statement or its data is wrong
    LATER = 1  # it met others, or took too long; the next statement may succeed
    WHEN_BACK = 2  # every statement on this database fails until it is back


# What a SQLSTATE begins with; the longest that fits counts. docs/reference/operations.md shows the same table.
SQLSTATES = {
    "08": Chance.WHEN_BACK,  # connection exception
    "25006": Chance.WHEN_BACK,  # read-only transaction: a standby, or a server that protects itself
    "25P02": Chance.LATER,  # an earlier statement of the transaction has failed
    "25P03": Chance.LATER,  # time-out of an idle transaction
    "25P04": Chance.LATER,  # time-out of a transaction
    "28": Chance.WHEN_BACK,  # invalid authorization: a password is being changed
    "3D000": Chance.WHEN_BACK,  # no such database: it is being restored
    "40": Chance.LATER,  # transaction rollback: deadlock, serialization failure
    "53": Chance.WHEN_BACK,  # insufficient resources: disk, memory, connections
    "55006": Chance.LATER,  # object in use
    "55P03": Chance.LATER,  # lock not available
    "57": Chance.WHEN_BACK,  # operator intervention: shutdown, crash, not accepting connections
    "57014": Chance.LATER,  # query cancelled, by a time-out or an operator
    "58": Chance.WHEN_BACK,  # system error: input and output
}
SQLITE_CODES = {
    sqlite3.SQLITE_BUSY: Chance.LATER,
    sqlite3.SQLITE_LOCKED: Chance.LATER,
    sqlite3.SQLITE_INTERRUPT: Chance.LATER,
    sqlite3.SQLITE_PROTOCOL: Chance.LATER,
    sqlite3.SQLITE_NOMEM: Chance.WHEN_BACK,
    sqlite3.SQLITE_READONLY: Chance.WHEN_BACK,
    sqlite3.SQLITE_IOERR: Chance.WHEN_BACK,
    sqlite3.SQLITE_FULL: Chance.WHEN_BACK,
    sqlite3.SQLITE_CANTOPEN: Chance.WHEN_BACK,
}
UNANSWERED = (
    django.db.OperationalError,
    django.db.InterfaceError,
    psycopg.OperationalError,
    psycopg.InterfaceError,
)
OTHERS = (
    Transient,
    SoftTimeLimitExceeded,
    ConnectionError,
    TimeoutError,
    gaierror,
    BrokerError,
    redis.exceptions.ConnectionError,
    redis.exceptions.TimeoutError,
    redis.exceptions.ReadOnlyError,
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.TryAgainError,
)


def chance(error: BaseException) -> Chance:
    """What another try may bring, judged by the error or, if it says nothing, by what has caused it."""
    return next((found for one in _causes(error) if (found := _judge(one)) is not None), Chance.NONE)


def is_transient(error: BaseException) -> bool:
    """Whether trying again later may help."""
    return chance(error) is not Chance.NONE


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__


def _judge(error: BaseException) -> Chance | None:
    """None if something else has to say it: a wrapper's cause."""
    if isinstance(error, psycopg.Error) and error.sqlstate:
        fits = [start for start in SQLSTATES if error.sqlstate.startswith(start)]
        return SQLSTATES[max(fits, key=len)] if fits else Chance.NONE
    if isinstance(error, sqlite3.Error) and (code := getattr(error, "sqlite_errorcode", None)) is not None:
        return SQLITE_CODES.get(code & 0xFF, Chance.NONE)  # the low byte is the primary code
    if isinstance(error, TransactionManagementError) or isinstance(error.__cause__, psycopg.Error | sqlite3.Error):
        return None
    if isinstance(error, django.db.Error | psycopg.Error | sqlite3.Error):
        return Chance.LATER if isinstance(error, UNANSWERED) else Chance.NONE
    return Chance.LATER if isinstance(error, OTHERS) else None
