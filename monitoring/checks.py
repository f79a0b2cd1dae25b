"""What readiness looks at: which part does not work, and what works all the same.

A further check is a function without parameters and a line in `checks`. An app that is not always installed calls
`health.register` when it is loaded.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from functools import partial
from uuid import uuid4

from django.conf import settings
from django.core.cache import cache
from django.db import DEFAULT_DB_ALIAS, OperationalError, connections, transaction

from eventing import queues
from eventing.databases import is_postgresql
from eventing.models import DatabaseMark
from eventing.outbox import is_led, oldest_seconds
from monitoring import schedules
from monitoring.health import Check, Impaired
from monitoring.selectors import ask_databases
from sharding import shards
from sharding.installation import misplaced, unknown_shards

BROKER_SECONDS = 1.0
FILE_BYTES = 64 * 1024
LATER = "orders are accepted and go on later"
READING = "what is stored can be read"
STATE = "SELECT pg_is_in_recovery(), current_setting('transaction_read_only')::boolean"
# More rows than fit into the least memory there is are written to a temporary file. That needs free space, as a table
# that grows does, and leaves nothing behind.
SPILL = "SELECT count(*) FROM generate_series(1, 10000)"


def checks() -> Iterator[Check]:
    """Databases first, in the order of the settings."""
    for alias in settings.DATABASES:
        yield Check(
            name=alias,
            ask=partial(database, alias),
            still_works=_without_database(alias),
            needed=alias == DEFAULT_DB_ALIAS,
        )
    yield Check(name="installation", ask=installation, still_works="the customers of the other databases")
    yield Check(name="relay", ask=relay, still_works=LATER)
    yield Check(name="broker", ask=broker, still_works=LATER)
    yield Check(name="topology", ask=topology, still_works=LATER)
    yield Check(name="cache", ask=cache_keeps, still_works="everything, slower")
    yield Check(name="schedules", ask=periodic_tasks, still_works="everything but what these do")
    yield Check(name="clocks", ask=clocks, still_works="everything, up to five minutes of difference")
    if settings.EMBEDDED:
        yield Check(name="data", ask=data_folder, still_works=READING)


def _without_database(alias: str) -> str:
    if alias in shards.aliases():
        return "the catalogue, and the customers of the other databases"
    return f"what does not ask for {alias}: {LATER}"


def database(alias: str) -> str:
    """It answers, takes what is written, and has room."""
    started = time.perf_counter()
    connection = connections[alias]
    try:
        if is_postgresql(connection):
            _postgresql_takes_writes(alias)
        else:
            _sqlite_takes_writes(alias)
    except OperationalError as error:
        if getattr(error.__cause__, "sqlstate", None) == "53100" or "is full" in str(error):
            raise Impaired("its disk is full", still_works=READING) from error
        raise
    return _answered(started)


def _postgresql_takes_writes(alias: str) -> None:
    with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
        cursor.execute(STATE)
        in_recovery, read_only = cursor.fetchone()
        if in_recovery or read_only:
            why = "a standby" if in_recovery else "its settings say so"
            raise Impaired(f"read-only: {why}", still_works=READING)
        cursor.execute("SET LOCAL work_mem = '64kB'")
        cursor.execute(SPILL)


def _sqlite_takes_writes(alias: str) -> None:
    with connections[alias].cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout = 0")
        try:
            cursor.execute("BEGIN IMMEDIATE")
            cursor.execute("ROLLBACK")
        except OperationalError as error:
            if "readonly" in str(error):
                raise Impaired("read-only", still_works=READING) from error
            if "locked" not in str(error):  # locked: somebody is writing, so it can be written to
                raise


def installation() -> str:
    """Each database that answers is the one that the settings mean, and as it was left."""
    answers = ask_databases(lambda alias: DatabaseMark.objects.using(alias).first())
    wrong = list(misplaced({alias: answer.value for alias, answer in answers.items()}).values())
    if not answers[DEFAULT_DB_ALIAS].error:
        wrong += unknown_shards()
    wrong += [
        f"{alias} was restored to an earlier moment; the clock cancels nothing there until an operator has looked."
        for alias, answer in answers.items()
        if answer.value is not None and answer.value.restored_at is not None
    ]
    if wrong:
        raise Impaired(" ".join(wrong))
    return "every database that answers is the right one"


def relay() -> str:
    """Somebody publishes the events of each database, and is not too far behind. One that is away has its own line."""
    led = ask_databases(is_led)
    if alone := [alias for alias, answer in led.items() if answer.value is False]:
        raise Impaired(f"nobody publishes the events of {', '.join(alone)}")
    limit = settings.EVENTING_MAX_LAG_SECONDS
    ages = ask_databases(oldest_seconds) if limit else {}
    if late := [alias for alias, answer in ages.items() if answer.value is not None and answer.value > limit]:
        raise Impaired(
            f"events of {', '.join(late)} have waited for more than {limit:g} s",
            still_works="orders of the other databases; these are refused until the relay has caught up",
        )
    return "at work on every database that answers"


def broker() -> str:
    started = time.perf_counter()
    try:
        queues.publish_nowhere(seconds=BROKER_SECONDS)
    except queues.BrokerBlocked as error:
        raise Impaired(str(error)) from error
    except queues.BrokerUnavailable as error:
        raise Impaired(f"no answer: {error}") from error
    return _answered(started)


def topology() -> str:
    """The broker has every exchange and queue; while it does not answer, its own line says so."""
    try:
        missing = queues.missing_topology(seconds=BROKER_SECONDS)
    except queues.BrokerUnavailable:
        return "not known while the broker does not answer"
    if missing:
        raise Impaired(f"the broker has no {', no '.join(missing)}")
    return "complete"


def cache_keeps() -> str:
    """Write and read something: the cache hides its failures, so that nobody needs to care."""
    started = time.perf_counter()
    key, value = "monitoring:readiness", uuid4().hex
    cache.set(key, value, timeout=10)
    if cache.get(key) != value:
        raise Impaired("no answer: what was written is not there")
    return _answered(started)


def periodic_tasks() -> str:
    """Each has run lately, none is paused, and beat can run all rows."""
    if problems := schedules.problems():
        raise Impaired("; ".join(map(str, problems)))
    return "every periodic task runs"


def clocks() -> str:
    """Those of relays, beat and workers, as they noted them last, and that of this process."""
    if off := schedules.clocks_off():
        raise Impaired("; ".join(off))
    return "all agree"


def data_folder() -> str:
    """A file can be written where the databases of the embedded profile are."""
    try:
        with tempfile.TemporaryFile(dir=settings.DATA_DIR) as file:
            file.write(bytes(FILE_BYTES))
    except OSError as error:
        raise Impaired(f"nothing can be written: {error.strerror}") from error
    return "takes files"


def _answered(started: float) -> str:
    return f"answers in {(time.perf_counter() - started) * 1000:.1f} ms"
