"""Shards that were restored to an earlier moment: no order is cancelled there until an operator releases them."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from sharding import restores, shards


class Command(BaseCommand):
    requires_system_checks: list[str] = []  # they would load every page
    help = (
        "Without arguments: say on which shards the clock cancels nothing because they were restored to an earlier "
        "moment. `--declare` notes a restore that was not noticed, `--release` ends the waiting when `manage.py audit` "
        "was looked at."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        does = parser.add_mutually_exclusive_group()
        does.add_argument("--declare", metavar="ALIAS", help="this shard was restored")
        does.add_argument("--release", metavar="ALIAS", help="an operator has looked at this shard")

    def handle(self, *args: Any, declare: str | None, release: str | None, **options: Any) -> None:
        alias = declare or release
        if alias is not None and alias not in shards.aliases():
            raise CommandError(f"{alias} is not a shard; there are {', '.join(shards.aliases())}.")
        if declare:
            restores.declare(declare)
        if release and not restores.release(release):
            raise CommandError(f"{release} does not wait for anybody.")
        waiting = {alias: since for alias in shards.aliases() if (since := restores.waiting(alias))}
        for name, since in waiting.items():
            self.stdout.write(f"{name}: restored; the clock cancels nothing there since {since:%Y-%m-%d %H:%M:%S} UTC")
        if not waiting:
            self.stdout.write("The clock waits on no shard.")
