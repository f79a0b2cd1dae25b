"""Prepares a shop on the services: its databases, its queues, and what is in it at the start."""

from __future__ import annotations

from typing import Any

from django.core.management import call_command

from seed.management.commands import seed


class Command(seed.Command):
    help = (
        "Bring databases and broker up to date and fill a new shop: `migrate_all`, `setup_broker` and `seed` in one "
        "process, which takes the options of `seed`. Safe to repeat."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        call_command("migrate_all", skip_checks=False, stdout=self.stdout, stderr=self.stderr)
        call_command("setup_broker", stdout=self.stdout, stderr=self.stderr)
        super().handle(*args, **options)
