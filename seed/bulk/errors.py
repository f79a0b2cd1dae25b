"""Why orders are not written in bulk."""


class BulkError(Exception):
    """Orders cannot be written in bulk here."""
