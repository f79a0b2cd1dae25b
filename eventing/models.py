"""The backbone's tables. They exist in every database: an event, its outbox row and its effect commit together."""

from __future__ import annotations

from django.db import models

from eventing.recorded import event_id, is_among, short_hash


class EventKey(models.Model):
    """The key of an event, by which other rows refer to it without a foreign key."""

    stream_id = models.BigIntegerField()
    category = models.CharField(max_length=40)
    version = models.PositiveIntegerField()

    class Meta:
        abstract = True

    @property
    def key(self) -> tuple[int, str, int]:
        return self.stream_id, self.category, self.version

    @property
    def event_id(self) -> str:
        return event_id(self.category, self.stream_id, self.version)


class Event(EventKey):
    """One fact of a stream. The key (stream, category, version) is what enforces expected versions."""

    pk = models.CompositePrimaryKey("stream_id", "category", "version")
    type = models.CharField(max_length=80)
    schema_version = models.PositiveSmallIntegerField()
    data = models.JSONField()
    metadata = models.JSONField()
    recorded_at = models.DateTimeField()
    hash = models.BinaryField(null=True)  # see eventing.chain; events of versions before have none

    class Meta:
        constraints = [
            models.CheckConstraint(condition=models.Q(version__gte=1), name="event_version_from_1"),
        ]
        indexes = [models.Index(fields=["recorded_at", "stream_id", "category", "version"], name="event_by_time")]

    def __str__(self) -> str:
        return f"{self.event_id} {self.type}"


class OutboxMessage(EventKey):
    """An event that is not published yet. Rows are removed once the broker has confirmed."""

    class Meta:
        db_table = "eventing_outbox"

    def __str__(self) -> str:
        return self.event_id


class InboxEntry(EventKey):
    """A subscriber's effect of an event has happened; it is written in the transaction of the effect.

    `hashes` has the short hash of the event, or of each of those that had this key in turn: a restored database gives
    versions again. The other columns are about the last one. Null is unknown, as in rows of older versions.
    """

    pk = models.CompositePrimaryKey("stream_id", "category", "version", "subscriber")
    subscriber = models.CharField(max_length=40)
    attempts = models.PositiveSmallIntegerField()
    published_at = models.DateTimeField()
    handled_at = models.DateTimeField()
    hashes = models.TextField(null=True)  # noqa: DJ001 - what is unknown must be unknown to SQL, too

    class Meta:
        db_table = "eventing_inbox"

    def __str__(self) -> str:
        return f"{self.subscriber}: {self.event_id}"

    def is_about(self, event: Event | DeadLetter) -> bool:
        """Whether it is this event of the key that was handled."""
        return is_among(short_hash(event.hash), self.hashes)


class DatabaseMark(models.Model):
    """What this database is: under which alias, of which installation. One row; `manage.py migrate_all` writes it.

    `restored_at` is set from when a restore to an earlier moment is noticed until an operator has looked
    (`released_at`), see `sharding.restores`.
    """

    ONLY = 1

    id = models.PositiveSmallIntegerField(primary_key=True, default=ONLY)
    installation = models.UUIDField()
    alias = models.CharField(max_length=63)
    restored_at = models.DateTimeField(null=True)
    released_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "eventing_mark"
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="mark_is_one")]

    def __str__(self) -> str:
        return f"{self.alias} of {self.installation}"


class DeadLetter(EventKey):
    """An event that a subscriber could not handle, with all that is needed to understand and redrive it.

    Written to the `default` database only. `data` is what arrived, which may be undecodable, or what an
    operator made of it: then `original` has type, schema version, data and metadata as they came. `event_hash` is that
    of the stored event in any case, in hexadecimal digits; empty if it is not known. `attempts` counts all deliveries,
    those of earlier redrives included. `history` is what operators did (see `history_entry`).
    """

    class Status(models.TextChoices):
        OPEN = "open"
        REDRIVEN = "redriven"
        HANDLED = "handled"
        ARCHIVED = "archived"

    subscriber = models.CharField(max_length=40)
    event_hash = models.CharField(max_length=64, default="", db_default="", blank=True)
    type = models.CharField(max_length=80)
    schema_version = models.PositiveSmallIntegerField()
    data = models.JSONField()
    metadata = models.JSONField()
    recorded_at = models.DateTimeField()
    error = models.CharField(max_length=200)
    message = models.TextField()
    traceback = models.TextField()
    attempts = models.PositiveSmallIntegerField()
    replay = models.JSONField(null=True, blank=True)  # how it was sent, if it came from a replay
    status = models.CharField(max_length=10, choices=Status, default=Status.OPEN)
    failed_at = models.DateTimeField()
    settled_at = models.DateTimeField(null=True, blank=True)
    original = models.JSONField(null=True, blank=True)
    history = models.JSONField(default=list, blank=True)

    class Meta:
        db_table = "eventing_dead_letter"
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["stream_id", "category", "version", "subscriber", "event_hash"],
                name="dead_letter_once_per_event",
            ),
        ]
        indexes = [models.Index(fields=["status", "subscriber", "-id"], name="dead_letter_open")]

    def __str__(self) -> str:
        return f"{self.subscriber}: {self.event_id}"

    def is_about(self, event: Event) -> bool:
        return not self.event_hash or not event.hash or self.event_hash == event.hash.hex()

    @property
    def hash(self) -> bytes | None:
        """The hash of the stored event, if it is known."""
        return bytes.fromhex(self.event_hash) or None


class RedriveRun(models.Model):
    """Dead letters that are redriven at a set rate: which ones, its progress, and who requested it.

    Written to the `default` database only. `selection` is what eventing.redrives.selected takes, `rate` is
    dead letters a second, `position` the id of the last one that was processed, `step` the number of the next step.
    """

    class State(models.TextChoices):
        RUNNING = "running"
        DONE = "done"
        CANCELLED = "cancelled"
        FAILED = "failed"

    selection = models.JSONField()
    rate = models.PositiveSmallIntegerField()
    total = models.PositiveIntegerField()
    sent = models.PositiveIntegerField(default=0)
    skipped = models.PositiveIntegerField(default=0)
    position = models.BigIntegerField(default=0)
    step = models.PositiveIntegerField(default=0)
    state = models.CharField(max_length=10, choices=State, default=State.RUNNING)
    error = models.TextField(blank=True, default="")
    history = models.JSONField(default=list)
    started_at = models.DateTimeField()
    worked_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "eventing_redrive_run"
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(condition=models.Q(rate__gte=1), name="redrive_run_rate_from_1"),
        ]

    def __str__(self) -> str:
        return f"redrive run {self.pk}"


class ReplayRun(models.Model):
    """History that is sent again to one subscriber: the selection, and the progress, so that it can be continued.

    Written to the `default` database only. `positions` holds, for each database, the key by time of the last event
    that was sent, or null when there are no more.
    """

    class State(models.TextChoices):
        RUNNING = "running"
        FINISHED = "finished"

    subscriber = models.CharField(max_length=40)
    selection = models.JSONField()
    options = models.JSONField()
    positions = models.JSONField(default=dict)
    events = models.PositiveBigIntegerField()
    sent = models.PositiveBigIntegerField(default=0)
    state = models.CharField(max_length=10, choices=State, default=State.RUNNING)
    started_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    class Meta:
        db_table = "eventing_replay_run"

    def __str__(self) -> str:
        return f"replay {self.pk} to {self.subscriber}"


class PeriodicRun(models.Model):
    """When the runs of a schedule last ended well, by the clock of the database; one row a schedule.

    Written to the `default` database only.
    """

    name = models.CharField(max_length=200, primary_key=True)
    finished_at = models.DateTimeField()
    worker = models.CharField(max_length=200)

    class Meta:
        db_table = "eventing_periodic_run"

    def __str__(self) -> str:
        return self.name


class ProcessClock(models.Model):
    """By how many seconds a process's clock was ahead of the database's when they were last compared.

    Written to the `default` database only, by `eventing.clocks.note`.
    """

    process = models.CharField(max_length=200, primary_key=True)
    seconds_ahead = models.FloatField()
    noted_at = models.DateTimeField()

    class Meta:
        db_table = "eventing_process_clock"

    def __str__(self) -> str:
        return self.process
