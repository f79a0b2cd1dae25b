"""Sample data: a catalogue, customers and orders for trying the shop out, and histories in bulk."""

from django.apps import AppConfig

from eventing.retention import permanent


class SeedConfig(AppConfig):
    name = "seed"
    retention = (permanent("seed.BulkBatch", "one row for each ten thousand orders of the seed"),)
