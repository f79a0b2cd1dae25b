"""The hash chain of a stream: each stored event carries a digest of its content and of its predecessor's hash.

PostgreSQL does not keep the text of JSON, only its meaning. So what is hashed is the event's row as one JSON array with
all keys sorted, which comes out the same from what is written and from what is read back of either database. Events
have no floating-point numbers, whose texts differ between the two. Upcasters play no part: the stored version counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import msgspec

from eventing.databases import time_from_db

MIGRATION = "0006_event_hash"  # of this app: since it was applied to a database, every event has a hash

START = bytes(32)  # what stands in for the predecessor's hash of a chain's first event

# An event's row but for its hash: stream_id, category, version, type, schema_version, data, metadata, recorded_at.
Content = tuple[int, str, int, str, int, Any, Any, datetime]

_encoder = msgspec.json.Encoder(order="sorted")


def canonical(value: Any) -> str:
    """JSON with sorted keys."""
    return _encoder.encode(value).decode()


def text_of(content: Content) -> bytes:
    """What is hashed of an event, besides its predecessor's hash. `data` and `metadata` are canonical JSON."""
    *key_and_type, data, metadata, recorded_at = content
    return _encoder.encode((*key_and_type, msgspec.Raw(data), msgspec.Raw(metadata), recorded_at.astimezone(UTC)))


def digest(previous: bytes | None, content: Content) -> bytes:
    """The hash of an event whose predecessor has the hash `previous`, if it has one."""
    return sha256((previous or START) + text_of(content)).digest()


def first_broken(rows: Iterable[tuple[Any, ...]], since: datetime) -> tuple[Any, ...] | None:
    """The first of a stream's stored rows, oldest first, that is not what was written; None if the chain holds.

    An event without a hash was written by a version without hashes: before `since`, and before any that has one.
    """
    previous: bytes | None = None
    for row in rows:
        *key_and_type, data, metadata, recorded_at, stored = row
        at = time_from_db(recorded_at)
        if stored is None:
            if previous is not None or at >= since:
                return row
            continue
        try:
            text = _encoder.encode((*key_and_type, _parsed(data), _parsed(metadata), at.astimezone(UTC)))
        except msgspec.MsgspecError:
            return row
        if sha256((previous or START) + text).digest() != bytes(stored):
            return row
        previous = bytes(stored)
    return None


def _parsed(value: Any) -> Any:
    return msgspec.json.decode(value) if isinstance(value, str | bytes) else value
