"""Declares exchanges, queues and bindings on the broker."""

from __future__ import annotations

from typing import Any

from celery import current_app
from django.core.management.base import BaseCommand, CommandError

from eventing import topology


class Command(BaseCommand):
    requires_system_checks: list[str] = []  # they would load every page
    help = "Declare the exchanges and queues that publishers and workers rely on. Safe to repeat."

    def handle(self, *args: Any, **options: Any) -> None:
        with current_app.connection_for_write() as connection:
            try:
                connection.ensure_connection(max_retries=3, timeout=10)
                names = topology.declare(connection)
            except connection.connection_errors as error:
                raise CommandError(f"The broker at {connection.as_uri()} does not answer: {error}") from error
            except connection.channel_errors as error:
                raise CommandError(
                    f"The broker has something of the same name declared otherwise: {error}. Delete it, then try again."
                ) from error
        for name in names:
            self.stdout.write(f"queue {name}")
