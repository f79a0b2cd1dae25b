"""Beat that may run twice: of several schedulers only the one that holds a lock of the database fires anything."""

from __future__ import annotations

from typing import Any

import structlog
from celery.beat import ScheduleEntry, SchedulingError
from django.db import DEFAULT_DB_ALIAS
from django_celery_beat.schedulers import DatabaseScheduler

from eventing import topology
from eventing.databases import SessionLock

LOCK = "config.beat"
STANDBY_SECONDS = 1.0

logger = structlog.get_logger(__name__)


class LeaderScheduler(DatabaseScheduler):
    """Fires the schedules of the database while it leads, and stands by while another one does.

    When the leader dies its lock goes with its connection, and another takes over within STANDBY_SECONDS. What was
    due while nobody led is fired once, at once. A leader that loses its connection without noticing may fire once
    more beside its successor: periodic tasks are idempotent.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._lock = SessionLock(DEFAULT_DB_ALIAS, LOCK)
        self._leading = False
        self._ticking = False
        super().__init__(*args, **kwargs)

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
            # What has run when is known to the one who led until now, and stands in the database.
            self._initial_read, self._heap = True, None
        self._leading = leading
        seconds: float = super().tick(*args, **kwargs) if leading else min(STANDBY_SECONDS, self.max_interval)
        return seconds

    def apply_async(self, entry: ScheduleEntry, producer: Any = None, advance: bool = True, **options: Any) -> Any:
        """Publish a periodic task. What the broker lacks is declared, and the task published once more."""
        entry.options.setdefault("mandatory", True)  # what no queue gets would vanish without a word
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
