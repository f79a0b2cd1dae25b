"""Runs actions in threads that start together, each on a database connection of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from django.conf import settings
from django.db import connections

CONNECTIONS = 16
JOIN_SECONDS = 120


def at_once(actions: Sequence[Callable[[], object]], *, using: str) -> list[BaseException]:
    """Run the actions at the same time; returns what they raised.

    The pool of a process is kept small for the sake of the server; here it must not be what keeps the threads apart.
    Nor may a thread give up because the others need long: on a busy machine they wait for a row one after another.
    """
    barrier = threading.Barrier(len(actions))
    errors: list[BaseException] = []

    def run(action: Callable[[], object]) -> None:
        try:
            barrier.wait(timeout=30)
            action()
        except Exception as error:
            errors.append(error)
        finally:
            connections.close_all()

    pools = [pool for alias in connections if (pool := getattr(connections[alias], "pool", None)) is not None]
    waiting = [(pool, pool.timeout) for pool in pools]
    wide = getattr(connections[using], "pool", None)
    for pool, _ in waiting:
        pool.timeout = JOIN_SECONDS
    if wide is not None:
        wide.resize(0, CONNECTIONS)
    try:
        threads = [threading.Thread(target=run, args=(action,)) for action in actions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=JOIN_SECONDS)
            assert not thread.is_alive()
    finally:
        for pool, seconds in waiting:
            pool.timeout = seconds
        if wide is not None:
            configured = settings.DATABASES[using]["OPTIONS"]["pool"]
            wide.resize(configured["min_size"], configured["max_size"])
    return errors
