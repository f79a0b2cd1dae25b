"""The event store: append to streams with an expected version, and read them.

Appending writes the outbox rows too, so that nothing can be committed without being published. It is the hot path
of every handler, so it is two plain multi-row statements rather than model instances.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec
from django.db import connections
from django.utils import timezone

from eventing import registry
from eventing.databases import placeholders, time_from_db, time_to_db
from eventing.errors import TransactionRequired, WrongExpectedVersion
from eventing.recorded import Event, Metadata, NewEvents, Recorded, stream_name

COLUMNS = "stream_id, category, version, type, schema_version, data, metadata, recorded_at"


def append(category: str, writes: Sequence[NewEvents], *, using: str) -> list[Recorded[Any]]:
    """Append events to one or more streams of a category, in the caller's transaction.

    Raises WrongExpectedVersion if one of the streams is not where its writer thinks (the transaction must then be
    rolled back), TransactionRequired outside a transaction.
    """
    connection = connections[using]
    if not connection.in_atomic_block:
        raise TransactionRequired(f"append to {category} streams outside transaction.atomic(using={using!r})")
    recorded_at = timezone.now()
    recorded = [
        Recorded(
            category=category,
            stream_id=write.stream_id,
            version=version,
            event=event,
            metadata=write.metadata,
            recorded_at=recorded_at,
        )
        for write in writes
        for version, event in enumerate(write.events, start=write.expected_version + 1)
    ]
    if not recorded:
        return []
    time = time_to_db(connection, recorded_at)
    rows: list[Any] = []
    for item in recorded:
        rows += [*row_of(item)[:-1], time]
    with connection.cursor() as cursor:
        values = placeholders(8, len(recorded))
        # A conflict leaves the transaction usable for the question that explains it.
        cursor.execute(f"INSERT INTO eventing_event ({COLUMNS}) VALUES {values} ON CONFLICT DO NOTHING", rows)
        if cursor.rowcount != len(recorded):
            raise _conflict(category, writes, recorded, using)
        values = placeholders(3, len(recorded))
        keys = [part for item in recorded for part in item.key]
        cursor.execute(f"INSERT INTO eventing_outbox (stream_id, category, version) VALUES {values}", keys)
    return recorded


def _conflict(
    category: str, writes: Sequence[NewEvents], recorded: Sequence[Recorded[Any]], using: str
) -> WrongExpectedVersion:
    """Name the streams that have an event of another writer where one of ours should be."""
    stored = load_many(category, {write.stream_id for write in writes}, using=using)
    ours = {item.key: (item.event, item.metadata) for item in recorded}
    for write in writes:
        events = stored[write.stream_id]
        at = max((item.version for item in events if ours.get(item.key) != (item.event, item.metadata)), default=0)
        if at > write.expected_version:
            stream = stream_name(category, write.stream_id)
            return WrongExpectedVersion(f"expected version {write.expected_version}, stream {stream} is at {at}")
    return WrongExpectedVersion(f"a stream of {category} was appended to by somebody else")


def load(category: str, stream_id: int, *, using: str) -> list[Recorded[Any]]:
    """The events of a stream, oldest first; empty if there is no such stream."""
    return load_many(category, [stream_id], using=using)[stream_id]


def load_many(category: str, stream_ids: Iterable[int], *, using: str) -> dict[int, list[Recorded[Any]]]:
    """The events of several streams in one query; a stream that does not exist is an empty list."""
    streams: dict[int, list[Recorded[Any]]] = defaultdict(list)
    ids = list(dict.fromkeys(stream_ids))
    if not ids:
        return streams
    with connections[using].cursor() as cursor:
        cursor.execute(
            f"SELECT {COLUMNS} FROM eventing_event WHERE stream_id IN {placeholders(len(ids), 1)} AND category = %s"
            " ORDER BY stream_id, version",
            [*ids, category],
        )
        for row in cursor.fetchall():
            streams[row[0]].append(recorded_from_row(row))
    return streams


def row_of(recorded: Recorded[Any]) -> tuple[int, str, int, str, int, str, str, datetime]:
    """The event as a row of `COLUMNS`."""
    event: Event = recorded.event
    metadata = msgspec.json.encode(recorded.metadata).decode()
    return *recorded.key, event.TYPE, event.SCHEMA_VERSION, registry.encode(event), metadata, recorded.recorded_at


def recorded_from_row(row: tuple[int, str, int, str, int, str, str, datetime | str]) -> Recorded[Any]:
    """A row of `COLUMNS` as an event."""
    stream_id, category, version, event_type, schema_version, data, metadata, recorded_at = row
    return Recorded(
        category=category,
        stream_id=stream_id,
        version=version,
        event=registry.decode(event_type, schema_version, data),
        metadata=msgspec.json.decode(metadata, type=Metadata),
        recorded_at=time_from_db(recorded_at),
    )
