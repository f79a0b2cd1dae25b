"""Recorded events: what happened, its place in its stream, and what caused it."""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Generic, Protocol, TypeVar, overload

from msgspec import UNSET, UnsetType

from eventing import crockford


class Event(Protocol):
    """A frozen dataclass with a registered name; a change of its fields raises the schema version."""

    TYPE: ClassVar[str]
    SCHEMA_VERSION: ClassVar[int]
    __dataclass_fields__: ClassVar[dict[str, Any]]


# Stream id, category, version, short hash; without a hash it is empty.
Identity = tuple[int, str, int, str]

SHORT = 7  # characters of a short hash

E = TypeVar("E")
E_co = TypeVar("E_co", covariant=True)


def stream_name(category: str, stream_id: int) -> str:
    """`order-0K4T9QXM2ZP7A`"""
    return f"{category}-{crockford.encode(stream_id)}"


def event_id(category: str, stream_id: int, version: int) -> str:
    """`order-0K4T9QXM2ZP7A@3`: readable, and the same however often the event is published."""
    return f"{stream_name(category, stream_id)}@{version}"


@overload
def short_hash(digest: bytes) -> str: ...
@overload
def short_hash(digest: bytes | memoryview | None) -> str | None: ...
def short_hash(digest: bytes | memoryview | None) -> str | None:
    """The first 42 bits in base64, which tell apart the events that a key has had; None if the hash is not known.

    There is one in each inbox row, so it is as short as can be.
    """
    return b2a_base64(digest[:6], newline=False)[:SHORT].decode() if digest else None


def is_among(short: str | None, hashes: str | None) -> bool:
    """Whether the event of a key with this short hash is one of those with these, which are divided by spaces.

    Whatever is not known is taken for the same: events that were stored or handled before they had hashes.
    """
    return short is None or hashes is None or short in hashes.split()


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """Where an event comes from. All events that one request set off share its correlation id.

    `request` is a digest of the idempotency key of the request that caused it.
    """

    correlation_id: str
    causation_id: str | None = None
    actor: str = "system"
    traceparent: str | None = None
    request: str | UnsetType = UNSET  # most events have none, which takes no room

    @classmethod
    def caused_by(cls, cause: Recorded[Any], *, actor: str) -> Metadata:
        return cls(
            correlation_id=cause.metadata.correlation_id,
            causation_id=cause.id,
            actor=actor,
            traceparent=cause.metadata.traceparent,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded(Generic[E_co]):
    """An event in its stream; versions count from 1 without gaps.

    `hash` is known of what was read from the store or arrived in a message. A database that was restored to an earlier
    moment gives versions again, and the hash tells the second event of a key from the first.
    """

    category: str
    stream_id: int
    version: int
    event: E_co
    metadata: Metadata
    recorded_at: datetime
    hash: bytes | None = field(default=None, compare=False, repr=False)

    @property
    def stream(self) -> str:
        return stream_name(self.category, self.stream_id)

    @property
    def id(self) -> str:
        return event_id(self.category, self.stream_id, self.version)

    @property
    def key(self) -> tuple[int, str, int]:
        """The primary key of the event, by which inbox and outbox refer to it."""
        return self.stream_id, self.category, self.version

    @property
    def identity(self) -> Identity:
        """What no other event has, whatever was restored."""
        return *self.key, short_hash(self.hash) or ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEvents:
    """Events for one stream that is at `expected_version` (0: it does not exist yet).

    `previous` is the hash of the event of that version; who does not give it has it looked up.
    """

    stream_id: int
    expected_version: int
    events: Sequence[Event]
    metadata: Metadata
    previous: bytes | None = None
