"""Django's backend for PostgreSQL, with a pool that sees for free whether a connection was cut while it lay there.

A thread that has to wait for a connection keeps no other meanwhile. If it did, threads that have one of this database
and want one of that would wait for threads that have one of that and want one of this, until all of them give up.
"""

from __future__ import annotations

import select
import time
from typing import Any

import psycopg
from django.db.backends.postgresql import base
from psycopg_pool import ConnectionPool

from eventing.databases import give_back_connections


class DatabaseWrapper(base.DatabaseWrapper):
    def get_new_connection(self, conn_params: dict[str, Any]) -> psycopg.Connection[Any]:
        pool: ConnectionPool[Any] | None = self.pool
        connection: psycopg.Connection[Any]
        if pool is None:
            connection = super().get_new_connection(conn_params)
            return connection
        if not pool.get_stats()["pool_available"]:
            give_back_connections()
        connection = super().get_new_connection(conn_params)
        # The pool could look as well, but would pause for one second and then for two. After a restart of the server,
        # when all that it has are cut, it would give up.
        deadline = time.monotonic() + pool.timeout
        while was_cut(connection) and time.monotonic() < deadline:
            connection.close()
            pool.putconn(connection)  # it makes another one in its place
            connection = super().get_new_connection(conn_params)
        return connection


def was_cut(connection: psycopg.Connection[Any]) -> bool:
    """Whether the server has closed the connection.

    An idle connection has nothing to read, until its server says goodbye or the operating system does so for it. Only
    then is the server asked, which would cost a round trip each time.
    """
    poll = select.poll()
    try:
        poll.register(connection.fileno(), select.POLLIN)
        if poll.poll(0):
            ConnectionPool.check_connection(connection)
    except psycopg.Error:
        return True
    return False
