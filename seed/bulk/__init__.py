"""Writes a great many finished orders at once, as they would stand in all databases had people made them."""


class BulkError(Exception):
    """Orders cannot be written in bulk here."""
