"""Spreads the buckets of orders over databases: plans, moves while orders go on, and puts right what was cut off."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Callable
from typing import Any

import psycopg
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import DatabaseError, InterfaceError, connections

from eventing.console import LongCommand, whole_number
from resharding import moving, planning
from sharding import shards
from sharding.errors import ShardingError
from sharding.models import BucketMove
from sharding.numbers import BUCKETS

SHOWN = 10

bucket_number = whole_number(0, BUCKETS - 1, what="bucket")
number_of_databases = whole_number(1, BUCKETS, what="number of databases")


class Command(LongCommand):
    help = (
        "Spread the 128 buckets of orders over databases. Orders go on while a bucket moves: writes to it wait for "
        "less than half a second. Whatever is cut off can be resumed or aborted. PostgreSQL only."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        does = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        plan = does.add_parser("plan", help="which buckets should move, so that all databases have about as many rows")
        plan.add_argument(
            "--databases", type=number_of_databases, metavar="N", help="for orders_0 … orders_(N-1), configured or not"
        )
        plan.add_argument("--json", action="store_true", help="as JSON, for programs")
        add = does.add_parser("add-database", help="migrate a configured order database that has no buckets yet")
        add.add_argument("alias", metavar="ALIAS", help="orders_8, say")
        move = does.add_parser("move", help="move a bucket, or all that the plan names")
        what = move.add_mutually_exclusive_group(required=True)
        what.add_argument("--bucket", type=bucket_number, metavar="B")
        what.add_argument("--planned", action="store_true", help="what `plan` says for the configured databases")
        move.add_argument("--to", metavar="ALIAS", help="the database that gets the bucket")
        move.add_argument("--drop-source", action="store_true", help="drop the source's old partitions afterwards")
        does.add_parser("status", help="where the buckets are, what is on the move, and what was")
        for name, text in (
            ("resume", "go on with a move that was cut off"),
            ("abort", "cancel a move; the bucket stays where it was"),
            ("drop-source", "drop the partitions that the source of a finished move has kept"),
        ):
            ending = does.add_parser(name, help=text)
            ending.add_argument("--bucket", type=bucket_number, metavar="B", help="needed if there are several")

    def handle(self, *args: Any, action: str, **options: Any) -> None:
        if any(connections[alias].vendor != "postgresql" for alias in shards.aliases()):
            raise CommandError(
                "Orders are in SQLite files here, which have no partitions to move. Resharding needs the services "
                "profile (PROFILE=services, PostgreSQL)."
            )
        act: Callable[..., None] = getattr(self, f"_{action.replace('-', '_')}")
        try:
            act(**options)
        except ShardingError as error:
            raise CommandError(str(error)) from error
        except (DatabaseError, InterfaceError, psycopg.Error) as error:
            raise CommandError(
                f"{error}\nNothing is lost. `reshard status` says how far it is; resume or abort it."
            ) from error
        except KeyboardInterrupt:
            self.interrupted("Stopped. `reshard status` says how far it is; resume or abort it.")

    def _plan(self, *, databases: int | None, **options: Any) -> None:
        aliases = shards.aliases() if databases is None else tuple(f"orders_{number}" for number in range(databases))
        steps = planning.plan_now(aliases)
        if options["json"]:
            rows = [{"bucket": s.bucket, "source": s.source, "target": s.target, "rows": s.rows} for s in steps]
            self.stdout.write(json.dumps(rows))
            return
        if not steps:
            self.stdout.write(f"Nothing to move: {len(aliases)} databases have about as many rows each.")
            return
        for step in steps:
            self.stdout.write(
                f"reshard move --bucket {step.bucket} --to {step.target}"
                f"  # from {step.source}, about {step.rows:,} rows"
            )
        self.stdout.write(f"{len(steps)} moves, about {sum(step.rows for step in steps):,} rows.")
        if new := [alias for alias in aliases if alias not in shards.aliases()]:
            self.stdout.write(
                f"Not configured yet: {', '.join(new)}. Raise ORDER_SHARDS or extend ORDER_SHARD_URLS, run"
                " `reshard add-database` for each, and restart all processes before the first move."
            )

    def _add_database(self, *, alias: str, **options: Any) -> None:
        if alias not in shards.aliases():
            raise CommandError(
                f"{alias} is not configured; there are {', '.join(shards.aliases())}. Raise ORDER_SHARDS or extend"
                " ORDER_SHARD_URLS first."
            )
        if buckets := [bucket for bucket, owner in enumerate(shards.refresh().owners) if owner == alias]:
            raise CommandError(f"{alias} is in use already: it has {len(buckets)} buckets.")
        call_command("migrate_all", database=[alias], stdout=self.stdout, stderr=self.stderr)
        self.stdout.write(f"{alias} is ready and empty. `reshard plan` says which buckets should move there.")

    def _move(self, *, bucket: int | None, to: str | None, planned: bool, drop_source: bool, **options: Any) -> None:
        if planned:
            if to is not None:
                raise CommandError("--planned goes without --to.")
            steps = planning.plan_now()
            wanted = [(step.bucket, step.target) for step in steps]
        elif bucket is None or to is None:
            raise CommandError("Say where the bucket goes: --to ALIAS.")
        else:
            wanted = [(bucket, to)]
        for number, (one, target) in enumerate(wanted, start=1):
            if planned:
                self.report(f"{number} of {len(wanted)}")
            self._run(moving.start(one, target, by="reshard", drop_source=drop_source))
        if planned and not wanted:
            self.stdout.write("Nothing to move.")

    def _run(self, move: BucketMove) -> None:
        moving.run(move, report=self.report)
        if move.state == BucketMove.State.ABORTED:
            self.stdout.write(f"Aborted, as requested: bucket {move.bucket} is in {move.source}.")
            return
        waited = f", writes to it waited {move.closed_ms} ms at most" if move.closed_ms is not None else ""
        self.stdout.write(f"Bucket {move.bucket} is in {move.target}{waited}.")
        if move.state == BucketMove.State.KEPT:
            self.stdout.write(
                f"{move.source} keeps its old partitions: `reshard drop-source --bucket {move.bucket}`, when you are"
                " sure, drops them."
            )

    def _resume(self, *, bucket: int | None, **options: Any) -> None:
        self._run(self._only(moving.active(), bucket, "on the move"))

    def _abort(self, *, bucket: int | None, **options: Any) -> None:
        move = self._only(moving.active(), bucket, "on the move")
        if moving.is_running() and moving.request_abort(move):
            self.stdout.write("Its mover has been asked to abort. `reshard status` says when it has.")
            return
        moving.abort(move, report=self.report)
        self.stdout.write(f"Aborted: bucket {move.bucket} is in {move.source}.")

    def _drop_source(self, *, bucket: int | None, **options: Any) -> None:
        kept = list(BucketMove.objects.filter(state=BucketMove.State.KEPT).order_by("id"))
        move = self._only(kept, bucket, "kept by its source")
        moving.drop_source(move, report=self.report)
        self.stdout.write(f"{move.source} has dropped what it kept of bucket {move.bucket}.")

    def _only(self, moves: list[BucketMove], bucket: int | None, how: str) -> BucketMove:
        found = [move for move in moves if bucket in (None, move.bucket)]
        if not found:
            raise CommandError(f"No bucket is {how}." if bucket is None else f"Bucket {bucket} is not {how}.")
        if len(found) > 1:
            numbers = ", ".join(str(move.bucket) for move in found)
            raise CommandError(f"Buckets {numbers} are {how}: say --bucket.")
        return found[0]

    def _status(self, **options: Any) -> None:
        owners = shards.refresh().owners
        for alias in shards.aliases():
            owned = [bucket for bucket, owner in enumerate(owners) if owner == alias]
            try:
                sizes = planning.sizes(alias)
            except (DatabaseError, InterfaceError) as error:
                self.stdout.write(f"{alias}: {len(owned)} buckets; it does not answer: {error}")
                continue
            rows, size = (sum(getattr(one, what) for one in sizes.values()) for what in ("rows", "bytes"))
            self.stdout.write(f"{alias}: {len(owned)} buckets, about {rows:,} rows, {size / 2**20:,.0f} MiB")
        under_way = moving.active()
        running = moving.is_running()
        for move in under_way:
            how = "" if running else "; stalled: no active mover; resume or abort it"
            self.stdout.write(f"{move}: {move.get_state_display()}, {move.progress}{how}")
        ended = BucketMove.objects.exclude(pk__in=[move.pk for move in under_way])
        for move in ended[:SHOWN]:
            waited = "" if move.closed_ms is None else f", writes waited {move.closed_ms} ms"
            self.stdout.write(f"{move}: {move.get_state_display()} {move.updated_at:%Y-%m-%d %H:%M} UTC{waited}")
