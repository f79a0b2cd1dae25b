"""The queues of a shop, from within it."""

from __future__ import annotations

from celery import current_app

from eventing import topology


def delete_all() -> None:
    """Remove the shop's queues and exchanges."""
    with current_app.connection_for_write() as connection:
        topology.delete(connection)
