"""Bring every database up to date: `default` with the shard map first, then the contexts' databases and the shards."""

import time
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import stamina
from django.core.checks import Tags
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import DEFAULT_DB_ALIAS, OperationalError, connections, router
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations import Migration
from django.db.migrations.executor import MigrationExecutor
from psycopg import errors, sql

from eventing import schedules
from sharding import checks, installation, servers, shards
from sharding.errors import ServerUnavailable, ShardMapMissing, WrongDatabases
from sharding.servers import name_of

LOCK_NAME = "sharding.migrate_all"
LOCK_TRIES = 10


class Command(BaseCommand):
    requires_system_checks = [Tags.models, checks.TAG]
    help = (
        "Migrate all databases: `default` first, then those of the contexts and the order shards. Creates PostgreSQL "
        "databases that do not exist, and writes schedules and the shard map into a fresh installation. Safe to run "
        "again, and by several at once (they take turns). On a database in use, a migration waits only briefly for a "
        "lock, so that others do not queue up for it, and tries again."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--check", action="store_true", help="Change nothing; exit 1 if anything is unapplied.")
        parser.add_argument(
            "--database", action="append", choices=list(connections), help="Only this one; may be given several times."
        )
        parser.add_argument("--plan", action="store_true", help="Change nothing; list what would be done.")
        parser.add_argument(
            "--lock-timeout",
            type=float,
            default=2.0,
            metavar="SECONDS",
            help=f"How long a migration waits for a lock before it is tried again, {LOCK_TRIES} times (default: 2).",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            self._handle(**options)
        except (ServerUnavailable, WrongDatabases) as error:
            raise CommandError(str(error)) from error

    def _handle(self, **options: Any) -> None:
        aliases = [DEFAULT_DB_ALIAS, *(alias for alias in connections if alias != DEFAULT_DB_ALIAS)]
        if options["database"]:
            aliases = [alias for alias in aliases if alias in options["database"]]
        if options["check"] or options["plan"]:
            installation.refuse_to_migrate([alias for alias in aliases if servers.exists(connections[alias])])
            outdated = [alias for alias in aliases if not self._is_up_to_date(alias, show_plan=options["plan"])]
            if outdated and options["check"]:
                raise CommandError(f"{', '.join(outdated)}: not up to date; run `manage.py migrate_all`")
            return
        self._create_if_missing(DEFAULT_DB_ALIAS)
        with self._turn():
            installation.refuse_to_migrate(aliases)
            for alias in aliases:
                self._create_if_missing(alias)
                self._migrate(alias, options["lock_timeout"], options["verbosity"])
                if alias == DEFAULT_DB_ALIAS:
                    schedules.install()
                if alias == DEFAULT_DB_ALIAS and shards.install():
                    self._say(alias, f"shard map written: 128 buckets on {', '.join(shards.aliases())}")
                installation.mark(alias)
                connections[alias].close()

    def _is_up_to_date(self, alias: str, *, show_plan: bool) -> bool:
        connection = connections[alias]
        if not servers.exists(connection):
            self._say(alias, "does not exist; it would be created, with all migrations")
            return False
        pending = _pending(connection)
        if alias == DEFAULT_DB_ALIAS and not pending and not _has_shard_map():
            self._say(alias, "the shard map is empty; it would be written")
            return False
        self._say(alias, f"{_counted(pending)} to apply" if pending else "up to date")
        if show_plan:
            for migration in pending:
                self.stdout.write(f"  {migration}")
        connection.close()
        return not pending

    def _create_if_missing(self, alias: str) -> None:
        connection = connections[alias]
        if connection.vendor != "postgresql" or servers.exists(connection):  # SQLite makes its file by itself
            return
        _create(connection)
        self._say(alias, f"created {name_of(connection)}")

    def _migrate(self, alias: str, lock_timeout: float, verbosity: int) -> None:
        connection = connections[alias]
        started = time.monotonic()
        pending = _pending(connection)
        if not pending:
            self._say(alias, "up to date")
            return
        # All in one go, or one app after another: `migrate` takes no more than one.
        apps = [()] if alias == DEFAULT_DB_ALIAS else [(name,) for name in dict.fromkeys(m.app_label for m in pending)]
        try:
            for attempt in stamina.retry_context(
                on=_is_lock_timeout, attempts=LOCK_TRIES, timeout=None, wait_initial=0.5, wait_max=5, wait_jitter=0.5
            ):
                if attempt.num > 1:
                    self._say(alias, f"a lock was not free within {lock_timeout} s; try {attempt.num} of {LOCK_TRIES}")
                with attempt, _lock_timeout(connection, lock_timeout):
                    for app in apps:
                        call_command(
                            "migrate",
                            *app,
                            database=alias,
                            interactive=False,
                            verbosity=max(verbosity - 1, 0),
                            stdout=self.stdout,
                            stderr=self.stderr,
                        )
        except OperationalError as error:
            if not _is_lock_timeout(error):
                raise
            raise CommandError(
                f"{alias}: a lock was not free within {lock_timeout} s in {LOCK_TRIES} tries. What is committed stays;"
                " run the command again when the database is less busy (pg_stat_activity shows what holds locks)."
            ) from error
        self._say(alias, f"applied {_counted(pending)} in {time.monotonic() - started:.1f} s")

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Let one run at a time migrate; the others wait, and then find everything done."""
        connection = connections[DEFAULT_DB_ALIAS]
        if connection.vendor != "postgresql":
            yield
            return
        key = [LOCK_NAME]
        with servers.connect(connection, name_of(connection)) as session:
            if session.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", key).fetchone() != (True,):
                self._say(DEFAULT_DB_ALIAS, "waiting for another migrate_all to finish")
                session.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", key)
            yield

    def _say(self, alias: str, text: str) -> None:
        self.stdout.write(f"{alias}: {text}")
        self.stdout.flush()


def _pending(connection: BaseDatabaseWrapper) -> list[Migration]:
    executor = MigrationExecutor(connection)
    return [migration for migration, _ in executor.migration_plan(_leaves(executor))]


def _leaves(executor: MigrationExecutor) -> list[tuple[str, str]]:
    """The last migration of each app that has tables in this database, as (app, name).

    `default` takes those of all apps: it has the content types and permissions of all their models. Elsewhere the
    others would change nothing, and take nine tenths of the time.
    """
    alias = executor.connection.alias
    leaves: list[tuple[str, str]] = executor.loader.graph.leaf_nodes()
    return [leaf for leaf in leaves if alias == DEFAULT_DB_ALIAS or router.allow_migrate(alias, leaf[0])]


def _counted(pending: list[Migration]) -> str:
    return f"{len(pending)} migration{'s' if len(pending) > 1 else ''}"


def _is_lock_timeout(error: Exception) -> bool:
    return isinstance(error.__cause__, errors.LockNotAvailable)


@contextmanager
def _lock_timeout(connection: BaseDatabaseWrapper, seconds: float) -> Iterator[None]:
    if connection.vendor != "postgresql":
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('lock_timeout', %s, false)", [f"{seconds * 1000:.0f}ms"])
    try:
        yield
    finally:
        if connection.is_usable():
            with connection.cursor() as cursor:
                cursor.execute("RESET lock_timeout")


def _has_shard_map() -> bool:
    try:
        shards.refresh()
    except ShardMapMissing:
        return False
    return True


def _create(connection: BaseDatabaseWrapper) -> None:
    name = name_of(connection)
    statement = sql.SQL("CREATE DATABASE {} ENCODING 'UTF8' TEMPLATE template0").format(sql.Identifier(name))
    # The suppressed errors are another migrate_all's database: one that was there, and one that came that moment.
    with (
        servers.connect_for_maintenance(connection) as session,
        suppress(errors.DuplicateDatabase, errors.UniqueViolation),
    ):
        try:
            session.execute(statement)
        except errors.InsufficientPrivilege as error:
            raise CommandError(
                f"{connection.alias}: there is no database {name}, and {session.info.user} may not create it."
                f' An administrator has to run: CREATE DATABASE "{name}" OWNER "{session.info.user}" ENCODING UTF8'
            ) from error
