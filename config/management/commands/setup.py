"""Prepares a shop on the services: its databases, its queues, and what is in it at the start."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.apps import apps
from django.core.management import call_command
from django.core.management.base import BaseCommand

from seed.options import add_options


class Command(BaseCommand):
    requires_system_checks: list[str] = []  # they load every page of the shop
    help = (
        "Bring databases and broker up to date and fill a new shop: `migrate_all`, `setup_broker` and `seed` in one "
        "process, which takes the options of `seed`. Safe to repeat."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_options(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        output = {"stdout": self.stdout, "stderr": self.stderr}
        call_command("migrate_all", skip_checks=False, **output)
        call_command("setup_broker", **output)
        if apps.is_installed("seed"):
            call_command("seed", **options | output)
