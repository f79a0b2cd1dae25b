"""Whether the databases of the aliases exist, without the pools, which would go on trying to connect."""

from pathlib import Path
from typing import Any

import psycopg
from django.db.backends.base.base import BaseDatabaseWrapper

from sharding.errors import ServerUnavailable

MAINTENANCE_DATABASE = "postgres"


def exists(connection: BaseDatabaseWrapper) -> bool:
    """Whether its database is there; raises ServerUnavailable if that is unknown, or it cannot be connected to."""
    if connection.vendor != "postgresql":
        return Path(name_of(connection)).exists()
    try:
        connect(connection, name_of(connection)).close()
    except psycopg.OperationalError as error:
        with connect_for_maintenance(connection, error) as session:
            if session.execute("SELECT FROM pg_database WHERE datname = %s", [name_of(connection)]).fetchone() is None:
                return False
        raise ServerUnavailable(f"{connection.alias}: cannot connect to {name_of(connection)}: {error}") from error
    return True


def connect_for_maintenance(
    connection: BaseDatabaseWrapper, failed: psycopg.OperationalError | None = None
) -> psycopg.Connection[Any]:
    """A session in a database that every server has; raises ServerUnavailable."""
    try:
        return connect(connection, MAINTENANCE_DATABASE)
    except psycopg.OperationalError as error:
        raise ServerUnavailable(
            f"{connection.alias}: cannot connect to the server, neither to {name_of(connection)} nor to"
            f" {MAINTENANCE_DATABASE} (from which it could be created): {failed or error}"
        ) from error


def connect(connection: BaseDatabaseWrapper, name: str) -> psycopg.Connection[Any]:
    return psycopg.connect(**{**connection.get_connection_params(), "dbname": name}, autocommit=True)


def name_of(connection: BaseDatabaseWrapper) -> str:
    return str(connection.settings_dict["NAME"])
