"""Messages: a batch of events for one subscriber. Each event is a JSON object with the stored JSON as it is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar

import kombu.serialization
import msgspec

from eventing import registry
from eventing.recorded import Identity, Metadata, Recorded, event_id, short_hash

E = TypeVar("E")

Hash = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """An event on its way. `data` and `metadata` are JSON: raw when sent, parsed when received."""

    stream_id: int
    category: str
    version: int
    type: str
    schema_version: int
    data: Any
    metadata: Any
    recorded_at: datetime
    hash: Hash | None = None  # messages of versions before have none

    @property
    def key(self) -> tuple[int, str, int]:
        return self.stream_id, self.category, self.version

    @property
    def identity(self) -> Identity:
        return *self.key, short_hash(self.hash) or ""

    @property
    def id(self) -> str:
        return event_id(self.category, self.stream_id, self.version)

    def open(self) -> Recorded[Any]:
        """The event itself; raises what eventing.registry.decode raises."""
        return Recorded(
            category=self.category,
            stream_id=self.stream_id,
            version=self.version,
            event=registry.decode(self.type, self.schema_version, _parsed(self.data)),
            metadata=msgspec.convert(_parsed(self.metadata), Metadata),
            recorded_at=self.recorded_at,
            hash=self.hash,
        )


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """How events are to be taken that are sent again from history.

    Unless it says `outside_effects`, nothing outside the databases happens: no mail, no money, no integration event.
    `forget` removes the inbox rows that are older than the message, in the transaction of the new effect.
    """

    outside_effects: bool = False
    forget: bool = False


class Message(msgspec.Struct, Generic[E], kw_only=True):
    """Events for one subscriber, and the arguments of the task that takes them. `attempt` counts from 1.

    A program of another version may say more, which is left out. Of what has arrived `events` may be anything.
    """

    subscriber: str
    events: Sequence[E]
    published_at: datetime
    attempt: int = 1
    replay: Replay | None = None

    def again(self, events: Sequence[E], *, attempts: int = 1) -> Message[E]:
        """A message with some of these events, after so many more attempts."""
        return msgspec.structs.replace(self, events=events, attempt=self.attempt + attempts)


registry.describe(Metadata, Envelope, Replay | None, Message[Any], Message[Envelope])


def request_ids(envelopes: Iterable[Envelope]) -> str:
    """The requests that have set these events off, for a log line: their ids, each once, in their order."""
    metadata = (_parsed(envelope.metadata) for envelope in envelopes)
    return " ".join(dict.fromkeys(found.get("correlation_id", "") for found in metadata if isinstance(found, dict)))


def _parsed(value: Any) -> Any:
    return msgspec.json.decode(value) if isinstance(value, msgspec.Raw) else value


def encode(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def register_serializer() -> None:
    """Make Celery write its messages with msgspec, several times faster than its default and with raw JSON inside."""
    kombu.serialization.register("msgspec", encode, msgspec.json.decode, "application/x-msgspec-json", "utf-8")
