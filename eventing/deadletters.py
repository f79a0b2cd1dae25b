"""Dead letters: events that a subscriber could not handle, kept where an operator can see and redrive them."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from django.utils import timezone
from kombu.connection import Connection
from kombu.exceptions import ContentDisallowed, KombuError
from kombu.message import Message

from eventing import topology
from eventing.errors import EventingError
from eventing.models import DeadLetter
from eventing.publishing import Publisher
from eventing.wire import Envelope

DATABASE = "default"
UNREADABLE = "unreadable"


class GivenUpByBroker(EventingError):
    """The broker will not hand out the message again."""


def park(envelope: Envelope, subscriber: str, error: BaseException, traceback: str, *, attempts: int) -> None:
    """Write a dead letter, or reopen the one that the same event already has with this subscriber."""
    DeadLetter.objects.using(DATABASE).update_or_create(
        stream_id=envelope.stream_id,
        category=envelope.category,
        version=envelope.version,
        subscriber=subscriber,
        defaults={
            "type": envelope.type,
            "schema_version": envelope.schema_version,
            "data": msgspec.to_builtins(envelope.data),
            "metadata": msgspec.to_builtins(envelope.metadata),
            "recorded_at": envelope.recorded_at,
            "error": type(error).__name__,
            "message": str(error),
            "traceback": traceback,
            "attempts": attempts,
            "status": DeadLetter.Status.OPEN,
            "failed_at": timezone.now(),
            "settled_at": None,
        },
    )


def redrive(letter: DeadLetter, publisher: Publisher) -> None:
    """Send the event to its subscriber once more; if it fails again the letter is open again.

    Raises one of `publisher.errors`, and changes nothing, when the broker does not take it.
    """
    now = timezone.now()
    publisher.send(letter.subscriber, [_envelope(letter)], published_at=now)
    # Only a letter that is still as it was read: a worker may be faster than this line.
    DeadLetter.objects.using(DATABASE).filter(pk=letter.pk, failed_at=letter.failed_at).update(
        status=DeadLetter.Status.REDRIVEN, settled_at=now
    )


def archive(letter: DeadLetter) -> None:
    """Close a letter whose effect is not wanted any more."""
    DeadLetter.objects.using(DATABASE).filter(pk=letter.pk).update(
        status=DeadLetter.Status.ARCHIVED, settled_at=timezone.now()
    )


def _envelope(letter: DeadLetter) -> Envelope:
    return Envelope(
        stream_id=letter.stream_id,
        category=letter.category,
        version=letter.version,
        type=letter.type,
        schema_version=letter.schema_version,
        data=letter.data,
        metadata=letter.metadata,
        recorded_at=letter.recorded_at,
    )


def collect(connection: Connection, limit: int) -> int:
    """Move up to `limit` messages from the broker's dead-letter queue into rows; returns how many.

    A message is acknowledged after its rows are written, so it may be collected twice, into the same rows.
    """
    queue = topology.dead_letter_queue()(connection.default_channel)
    for collected in range(limit):
        message = queue.get(no_ack=False)
        if message is None:
            return collected
        _collect(message)
        message.ack()
    return limit


def _collect(message: Message) -> None:
    death = (message.headers.get("x-death") or [{}])[0]
    if death.get("reason") == "expired":
        return  # a periodic task that was overtaken by its next run, while there was no worker: nothing is lost
    error = GivenUpByBroker(f"queue {death.get('queue', 'unknown')}, reason {death.get('reason', 'unknown')}")
    try:
        body = message.decode()[1]
        subscriber, attempts = str(body["subscriber"]), int(body["attempt"])
        envelopes = msgspec.convert(body["events"], list[Envelope])
    except (KombuError, ContentDisallowed, msgspec.MsgspecError, LookupError, TypeError, ValueError):
        # Not a message of ours, or a broken one: keep what came, under a name made of it.
        subscriber, attempts, envelopes = str(death.get("queue", UNREADABLE))[:40], 1, [_unreadable(message)]
    for envelope in envelopes:
        park(envelope, subscriber, error, "", attempts=attempts)


def _unreadable(message: Message) -> Envelope:
    body = message.body if isinstance(message.body, bytes) else str(message.body).encode()
    headers: dict[str, Any] = {key: str(value) for key, value in message.headers.items()}
    return Envelope(
        stream_id=int.from_bytes(hashlib.sha256(body).digest()[:7]),
        category=UNREADABLE,
        version=1,
        type=str(message.headers.get("task", UNREADABLE))[:80],
        schema_version=0,
        data={"body": body.decode(errors="replace").replace("\x00", "\N{REPLACEMENT CHARACTER}")},
        metadata={"correlation_id": str(message.properties.get("correlation_id", "")), "headers": headers},
        recorded_at=timezone.now(),
    )
