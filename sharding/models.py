"""The shard map: which database owns which bucket. It is in `default`; `sharding.shards` reads it."""

from django.db import models
from django.utils import timezone

from sharding.numbers import BUCKETS


class Bucket(models.Model):
    """Where the orders of one bucket are. `version` counts the moves, starting with 1."""

    bucket = models.PositiveSmallIntegerField(primary_key=True)
    alias = models.CharField(max_length=63)
    version = models.PositiveIntegerField(default=1)
    moved_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["bucket"]
        constraints = [
            models.CheckConstraint(condition=models.Q(bucket__lt=BUCKETS), name="sharding_bucket_exists"),
            models.CheckConstraint(condition=models.Q(version__gte=1), name="sharding_bucket_version_from_1"),
        ]

    def __str__(self) -> str:
        return f"bucket {self.bucket} in {self.alias}"
