"""The event store: append to streams with an expected version, and read them.

Appending writes the outbox rows too, so that nothing can be committed without being published. It is the hot path
of every handler, so it is two plain multi-row statements rather than model instances.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from django.db import connections
from django.utils import timezone

from eventing import chain, registry
from eventing.databases import Insertion, insert_together, look_up, time_from_db
from eventing.errors import TransactionRequired, WrongExpectedVersion
from eventing.recorded import Event, Metadata, NewEvents, Recorded, stream_name

KEY_TYPES = {"stream_id": "bigint", "category": "text", "version": "integer"}
CONTENT_TYPES = KEY_TYPES | {
    "type": "text",
    "schema_version": "integer",
    "data": "jsonb",
    "metadata": "jsonb",
    "recorded_at": "timestamptz",
}
TYPES = CONTENT_TYPES | {"hash": "bytea"}
COLUMNS = ", ".join(TYPES)


def append(
    category: str,
    writes: Sequence[NewEvents],
    *,
    using: str,
    along: Callable[[list[Recorded[Any]]], Sequence[Insertion]] = lambda recorded: (),
) -> list[Recorded[Any]]:
    """Append events to one or more streams of a category, in the caller's transaction.

    What `along` makes of them (rows of a read model, say) is written in the same statement.

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
    known = {(write.stream_id, category): write.previous for write in reversed(writes) if write.previous is not None}
    rows = rows_of(recorded, known, using=using)
    new = insert_together(
        connection,
        # A conflict leaves the transaction usable for the question that explains it.
        Insertion(table="eventing_event", columns=TYPES, rows=rows, then="ON CONFLICT DO NOTHING"),
        Insertion(table="eventing_outbox", columns=KEY_TYPES, rows=[item.key for item in recorded]),
        *along(recorded),
    )
    if new != len(recorded):
        raise _conflict(category, writes, recorded, using)
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
    return WrongExpectedVersion(f"a stream of {category} was appended to by another writer")


def load(category: str, stream_id: int, *, using: str) -> list[Recorded[Any]]:
    """The events of a stream, oldest first; empty if there is no such stream."""
    return load_many(category, [stream_id], using=using)[stream_id]


def load_many(category: str, stream_ids: Iterable[int], *, using: str) -> dict[int, list[Recorded[Any]]]:
    """The events of several streams in one query; a stream that does not exist is an empty list."""
    streams: dict[int, list[Recorded[Any]]] = defaultdict(list)
    ids = list(dict.fromkeys(stream_ids))
    if not ids:
        return streams
    rows = look_up(
        connections[using],
        "eventing_event",
        tuple(TYPES),
        ["stream_id"],
        [(stream_id,) for stream_id in ids],
        then="AND category = %s ORDER BY stream_id, version",
        parameters=[category],
    )
    for row in rows:
        streams[row[0]].append(recorded_from_row(row))
    return streams


def content_of(recorded: Recorded[Any]) -> chain.Content:
    """The event as a row of `COLUMNS`, without its hash."""
    event: Event = recorded.event
    metadata = chain.canonical(recorded.metadata)
    return *recorded.key, event.TYPE, event.SCHEMA_VERSION, registry.encode(event), metadata, recorded.recorded_at


def rows_of(
    events: Sequence[Recorded[Any]], known: Mapping[tuple[int, str], bytes | None], *, using: str
) -> list[tuple[Any, ...]]:
    """New events as rows of `COLUMNS`, each stream's in the order of their versions, each with its hash.

    The hashes of the streams' last stored events, by stream id and category, are looked up unless they are `known`.
    """
    heads = {(item.stream_id, item.category): None for item in events if item.version == 1} | dict(known)
    wanted: dict[tuple[int, str], int] = {}
    for item in events:
        stream = item.stream_id, item.category
        if stream not in heads:
            wanted.setdefault(stream, item.version - 1)
    keys = [(*stream, version) for stream, version in wanted.items()]
    for stream_id, category, head in look_up(
        connections[using], "eventing_event", ("stream_id", "category", "hash"), tuple(KEY_TYPES), keys
    ):
        heads[stream_id, category] = head
    rows = []
    for item in events:
        content = content_of(item)
        stream = item.stream_id, item.category
        heads[stream] = head = chain.digest(heads.get(stream), content)
        rows.append((*content, head))
    return rows


def recorded_from_row(row: tuple[Any, ...]) -> Recorded[Any]:
    """A row of `COLUMNS` as an event."""
    stream_id, category, version, event_type, schema_version, data, metadata, recorded_at, digest = row
    return Recorded(
        category=category,
        stream_id=stream_id,
        version=version,
        event=registry.decode(event_type, schema_version, data),
        metadata=msgspec.json.decode(metadata, type=Metadata),
        recorded_at=time_from_db(recorded_at),
        hash=digest,
    )
