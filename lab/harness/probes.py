"""Whether a PostgreSQL, RabbitMQ or Redis can be used. The protocol is spoken: an open port proves nothing."""

from __future__ import annotations

import socket
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import quote, urlsplit

import kombu
import psycopg
import redis
from amqp.exceptions import AMQPError

DATABASE = "wharf"
CONNECT_SECONDS = 3
REDIS_DATABASE = 9  # number 0 of a Redis that was running before is likely to hold somebody's data


class Unusable(Exception):
    """The service does not answer, or cannot do what is needed; the message says why."""


def probe_postgresql(url: str) -> str:
    """Log in to the maintenance database, as Django's test runner does; the user must be able to create databases."""
    maintenance = urlsplit(url)._replace(path="/postgres").geturl()
    try:
        with psycopg.connect(maintenance, connect_timeout=CONNECT_SECONDS) as connection:
            row = connection.execute(
                "SELECT current_setting('server_version_num')::int, rolsuper OR rolcreatedb"
                " FROM pg_roles WHERE rolname = current_user"
            ).fetchone()
    except psycopg.Error as error:
        raise Unusable(" ".join(str(error).split())) from error
    number, may_create = row or (0, False)
    version = f"{number // 10000}.{number % 10000}"
    if number < 150000:
        raise Unusable(f"it is PostgreSQL {version}; 15 or later is needed")
    if not may_create:
        raise Unusable("its user may not create databases")
    return version


def probe_rabbitmq(url: str) -> str:
    try:
        with kombu.Connection(url, connect_timeout=CONNECT_SECONDS) as connection:
            connection.connect()
            version = str(connection.connection.server_properties["version"])
    except (OSError, AMQPError) as error:
        raise Unusable(str(error) or type(error).__name__) from error
    if tuple(int(part) for part in version.split(".")[:2]) < (3, 10):
        raise Unusable(f"it is RabbitMQ {version}; 3.10 or later is needed")
    return version


def probe_redis(url: str) -> str:
    try:
        with redis.Redis.from_url(
            url, socket_connect_timeout=CONNECT_SECONDS, socket_timeout=CONNECT_SECONDS
        ) as client:
            client.ping()
            info: Any = client.info("server")
    except redis.RedisError as error:
        raise Unusable(str(error)) from error
    return str(info["redis_version"])


def probe_nginx(url: str) -> str:
    """Any answer will do: the web server behind it may be away."""
    connection = HTTPConnection(urlsplit(url).netloc, timeout=CONNECT_SECONDS)
    with closing(connection):
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().headers["Server"] or ""
        except (OSError, HTTPException) as error:
            raise Unusable(str(error)) from error


def postgresql_url(user: str, password: str, port: int) -> str:
    login = f"{quote(user, safe='')}:{quote(password, safe='')}" if password else quote(user, safe="")
    return f"postgres://{login}@127.0.0.1:{port}/{DATABASE}"


def rabbitmq_url(user: str, password: str, port: int) -> str:
    return f"amqp://{quote(user, safe='')}:{quote(password, safe='')}@127.0.0.1:{port}//"


def redis_url(port: int) -> str:
    return f"redis://127.0.0.1:{port}/{REDIS_DATABASE}"


def is_open(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=0.5):
        return True
    return False
