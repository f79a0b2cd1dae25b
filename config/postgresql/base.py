"""Django's backend for PostgreSQL, with a pool that sees for free whether a connection was cut while it lay there.

A thread that has to wait for a connection keeps no other meanwhile. If it did, threads that have one of this database
and want one of that would wait for threads that have one of that and want one of this, until all of them give up.
"""

from __future__ import annotations

import select
from typing import Any

import psycopg
from django.db.backends.postgresql import base
from psycopg_pool import ConnectionPool

from eventing.databases import give_back_connections


class DatabaseWrapper(base.DatabaseWrapper):
    @property
    def pool(self) -> ConnectionPool[Any] | None:
        pool: ConnectionPool[Any] | None = super().pool
        if pool is not None:
            pool._check = check
        return pool

    def get_new_connection(self, conn_params: dict[str, Any]) -> psycopg.Connection[Any]:
        if self.pool is not None and not self.pool.get_stats()["pool_available"]:
            give_back_connections()
        connection: psycopg.Connection[Any] = super().get_new_connection(conn_params)
        return connection


def check(connection: psycopg.Connection[Any]) -> None:
    """Raise OperationalError if the server has closed the connection.

    An idle connection has nothing to read, until its server says goodbye or the operating system does so for it. Only
    then is the server asked, which would cost a round trip each time.
    """
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    if poll.poll(0):
        ConnectionPool.check_connection(connection)
