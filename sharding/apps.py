"""Makes the shard map a Django app and registers the system checks."""

from django.apps import AppConfig


class ShardingConfig(AppConfig):
    name = "sharding"

    def ready(self) -> None:
        from sharding import checks  # noqa: F401  (importing it registers the system checks)
