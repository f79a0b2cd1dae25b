"""The shard map, and the moves that change it. Both are in `default`; `sharding.shards` reads the map."""

from django.db import models
from django.db.models import Q
from django.utils import timezone

from sharding.numbers import BUCKETS


class Bucket(models.Model):
    """Where the orders of one bucket are. `version` counts the moves, starting with 1.

    `moving_to` is set while the bucket is being cut over: for a moment no database may have it.
    """

    bucket = models.PositiveSmallIntegerField(primary_key=True)
    alias = models.CharField(max_length=63)
    version = models.PositiveIntegerField(default=1)
    moved_at = models.DateTimeField(default=timezone.now)
    moving_to = models.CharField(max_length=63, null=True, blank=True)  # noqa: DJ001  (None says: it stays)

    class Meta:
        ordering = ["bucket"]
        constraints = [
            models.CheckConstraint(condition=Q(bucket__lt=BUCKETS), name="sharding_bucket_exists"),
            models.CheckConstraint(condition=Q(version__gte=1), name="sharding_bucket_version_from_1"),
        ]

    def __str__(self) -> str:
        return f"bucket {self.bucket} in {self.alias}"


class BucketMove(models.Model):
    """A bucket's way from one database to another, and how far it has come (see `resharding.moving`).

    `snapshot` is the transaction id up to which the target has everything, None before the first copy is complete.
    `rows` counts what was copied, of `expected` in the beginning; `closed_ms` says how long writes had to wait.
    `give_up` requests that the running mover aborts.
    """

    class State(models.TextChoices):
        COPYING = "copying", "copying"
        CUTTING_OVER = "cutting over", "cutting over"
        SWITCHED = "switched", "moved, the source is to be cleared"
        KEPT = "kept", "moved, the source keeps its old partitions"
        DONE = "done", "moved"
        ABORTED = "aborted", "aborted"

    ACTIVE = (State.COPYING, State.CUTTING_OVER, State.SWITCHED)

    bucket = models.PositiveSmallIntegerField()
    source = models.CharField(max_length=63)
    target = models.CharField(max_length=63)
    drop_source = models.BooleanField(default=False)
    give_up = models.BooleanField(default=False)
    state = models.CharField(max_length=20, choices=State, default=State.COPYING)
    snapshot = models.CharField(max_length=20, null=True, blank=True)  # noqa: DJ001  (None says: nothing yet)
    rows = models.PositiveBigIntegerField(default=0)
    expected = models.PositiveBigIntegerField(default=0)
    progress = models.CharField(max_length=200, blank=True, default="")
    closed_ms = models.PositiveIntegerField(null=True, blank=True)
    error = models.TextField(blank=True, default="")
    by = models.CharField(max_length=150, blank=True, default="")
    started_at = models.DateTimeField(default=timezone.now)
    updated_at = models.DateTimeField(auto_now=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["bucket"],
                condition=Q(state__in=["copying", "cutting over", "switched"]),
                name="sharding_one_move_of_a_bucket",
            ),
            models.CheckConstraint(condition=~Q(source=models.F("target")), name="sharding_move_goes_elsewhere"),
        ]

    def __str__(self) -> str:
        return f"bucket {self.bucket} from {self.source} to {self.target}"
