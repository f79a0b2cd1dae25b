"""Moves buckets between databases while orders are taken."""

from django.apps import AppConfig


class ReshardingConfig(AppConfig):
    name = "resharding"
