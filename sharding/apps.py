"""Makes the shard map a Django app and registers the system checks."""

from django.apps import AppConfig

from eventing.retention import permanent


class ShardingConfig(AppConfig):
    name = "sharding"
    retention = (
        permanent("sharding.Bucket", "128 rows"),
        permanent("sharding.BucketMove", "one row for each time an operator has moved a bucket"),
    )

    def ready(self) -> None:
        from sharding import checks  # noqa: F401  (importing it registers the system checks)
