"""Beat that may run twice: of several schedulers only the one that holds a lock of the database fires schedules."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import structlog
from celery.beat import SchedulingError
from django.db import DEFAULT_DB_ALIAS, DatabaseError, InterfaceError
from django_celery_beat.schedulers import DatabaseScheduler

from eventing import clocks, schedules, topology
from eventing.locks import SessionLock
from eventing.schedules import Skipped

LOCK = "eventing.beat"
STANDBY_SECONDS = 1.0
STEP_SECONDS = 1.0

logger = structlog.get_logger(__name__)


class LeaderScheduler(DatabaseScheduler):
    """Fires the schedules of the database while it leads, and stands by while another one does.

    When the leader dies its lock goes with its connection, and another takes over within STANDBY_SECONDS. What was
    due while nobody led is fired once, at once. A leader that loses its connection without noticing may fire once
    more beside its successor: periodic tasks are idempotent. A row that cannot run is skipped (see
    `eventing.schedules`), and a clock that is set back makes beat read the schedules again.
    """

    Entry = schedules.Entry

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._lock = SessionLock(DEFAULT_DB_ALIAS, LOCK)
        self._leading = False
        self._ticking = False
        self._skipped: list[Skipped] = []
        self._latest = datetime.min.replace(tzinfo=UTC)
        super().__init__(*args, **kwargs)

    def setup_schedule(self) -> None:
        """The schedules are read by the first tick that leads."""

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Fire what is due, if this is the leader; returns the seconds until the next look."""
        self._ticking = True
        try:
            return self._tick(*args, **kwargs)
        finally:
            self._ticking = False

    def _tick(self, *args: Any, **kwargs: Any) -> float:
        leading = self._lock.hold()
        if leading != self._leading:
            logger.info("beat.leading" if leading else "beat.standing_by")
            self._read_again()  # the last runs are known to the last leader, and to the database
        self._leading = leading
        if not leading:
            return min(STANDBY_SECONDS, float(self.max_interval))
        self._check_clock()
        seconds: float = super().tick(*args, **kwargs)
        return seconds

    def _read_again(self) -> None:
        self._initial_read, self._heap = True, None

    def _check_clock(self) -> None:
        now = datetime.now(UTC)
        if (back := (self._latest - now).total_seconds()) > STEP_SECONDS:
            logger.warning("clock.set_back", seconds=round(back, 1))
            self._read_again()  # the next runs were computed with the old time
        self._latest = now
        clocks.note("beat")

    def all_as_schedule(self) -> dict[str, schedules.Entry]:
        """What can run. While the database is away it is what was read last, and is read again at the next look."""
        try:
            schedules.install()
            self._last_timestamp = self.Changes.last_change()
            built, skipped = schedules.entries(self.app)
        except (DatabaseError, InterfaceError) as error:
            logger.warning("beat.schedules_not_read", error=str(error))
            self._initial_read = True
            return self._schedule or {}
        for row in skipped:
            if row not in self._skipped:
                logger.error("beat.row_skipped", schedule=row.name, field=row.field, why=row.why)
        self._skipped = skipped
        return built

    def schedule_changed(self) -> bool:
        """Whether a schedule was saved, also by a program whose clock is slow."""
        before = self._last_timestamp
        changed: bool = super().schedule_changed()
        return changed or self._last_timestamp != before

    def apply_async(self, entry: schedules.Entry, producer: Any = None, advance: bool = True, **options: Any) -> Any:
        """Publish a periodic task. What the broker lacks is declared, and the task published once more."""
        entry.options = entry.send_options(datetime.now(UTC))
        entry.options["mandatory"] = True  # else a message that no queue gets would be lost silently
        try:
            return super().apply_async(entry, producer, advance, **options)
        except SchedulingError as error:
            if not isinstance(error.__context__, self.connection.channel_errors):
                raise
            logger.warning("topology.declared_again", error=str(error.__context__))
            with self.app.connection_for_write() as connection:
                topology.declare(connection)
            return super().apply_async(entry, producer, advance=False, **options)

    def close(self) -> None:
        if self._ticking:
            # Celery's signal handler calls this in the middle of whatever the tick does. If that is a statement, its
            # connection is locked, and waiting for it here would last for ever. After the handler it is called again.
            return
        super().close()
        self._lock.release()
