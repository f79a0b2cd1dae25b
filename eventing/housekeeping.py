"""Forgets what the backbone need not know any more."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import connections

from eventing.conf import conf
from eventing.databases import time_to_db


def prune_inbox(now: datetime, using: str, limit: int) -> int:
    """Delete up to `limit` inbox rows of a database that are too old for their event to come again; returns how many.

    The broker keeps no message for so long, and a replay that goes further back meets effects that are idempotent by
    their own keys.
    """
    before = now - timedelta(days=conf.EVENTING_INBOX_RETENTION_DAYS)
    connection = connections[using]
    key = "stream_id, category, version, subscriber"
    with connection.cursor() as cursor:
        cursor.execute(
            f"DELETE FROM eventing_inbox WHERE ({key}) IN"
            f" (SELECT {key} FROM eventing_inbox WHERE handled_at < %s LIMIT %s)",
            [time_to_db(connection, before), limit],
        )
        return int(cursor.rowcount)
