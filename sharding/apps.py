from django.apps import AppConfig


class ShardingConfig(AppConfig):
    name = "sharding"

    def ready(self) -> None:
        from sharding import checks  # noqa: F401  (importing it registers the system checks)
