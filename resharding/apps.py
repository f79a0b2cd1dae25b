"""Moves buckets between databases while orders are taken."""

from django.apps import AppConfig

from values.contexts import Page


class ReshardingConfig(AppConfig):
    name = "resharding"
    pages = (
        Page("Operations", "sharding.bucket", "Shard map", "hub", "Which database owns which bucket of orders."),
        Page(
            "Operations",
            "sharding.bucketmove",
            "Bucket moves",
            "move_down",
            "Buckets that move to another database, and those that have moved.",
        ),
    )
