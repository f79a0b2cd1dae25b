"""Dead letters: events that a subscriber could not handle, kept where an operator can see, repair and redrive them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import kombu
import msgspec
from django.conf import settings
from django.db import DatabaseError, DataError, IntegrityError, InterfaceError, transaction
from django.db.models import QuerySet
from django.utils import timezone
from kombu.connection import Connection
from kombu.exceptions import ContentDisallowed, KombuError

from eventing import queues, registry, subscribers, topology
from eventing.conf import conf
from eventing.errors import EventingError, NotRedrivable
from eventing.models import DeadLetter, InboxEntry
from eventing.publishing import Publisher
from eventing.recorded import Metadata
from eventing.wire import Envelope, Message, Replay

DATABASE = "default"
UNREADABLE = "unreadable"
CONTENT = ("type", "schema_version", "data", "metadata")  # of a dead letter: what an operator may edit

Status = DeadLetter.Status


class GivenUpByBroker(EventingError):
    """The broker will not hand out the message again."""


def history_entry(by: str, did: str, note: str = "") -> dict[str, str]:
    """Who did what when, as dead letters and redrive runs keep it."""
    return {"at": timezone.now().isoformat(), "by": by, "did": did, "note": note}


# --- Written by subscribers ---------------------------------------------------------------------------------------


def park(
    envelope: Envelope,
    subscriber: str,
    error: BaseException,
    traceback: str,
    *,
    attempts: int,
    replay: Replay | None = None,
) -> None:
    """Write a dead letter, or reopen the one that the same event already has with this subscriber.

    What does not fit into the columns of a dead letter is kept as an unreadable one.
    """
    try:
        _write(envelope, subscriber, error, traceback, attempts, replay)
    except (DataError, IntegrityError, OverflowError, ValueError):
        broken = unreadable(msgspec.json.encode(envelope), envelope.type)
        _write(broken, subscriber, error, traceback, attempts, replay)


def _write(
    envelope: Envelope,
    subscriber: str,
    error: BaseException,
    traceback: str,
    attempts: int,
    replay: Replay | None,
) -> None:
    content = {
        "type": envelope.type,
        "schema_version": envelope.schema_version,
        "data": msgspec.to_builtins(envelope.data),
        "metadata": msgspec.to_builtins(envelope.metadata),
    }
    failure = {
        "error": type(error).__name__,
        "message": _text(str(error)),
        "traceback": _text(traceback),
        "replay": msgspec.to_builtins(replay),
        "status": Status.OPEN,
        "failed_at": timezone.now(),
        "settled_at": None,
    }
    with transaction.atomic(using=DATABASE):
        dead_letter = of_event(envelope, subscriber).select_for_update().order_by("-event_hash").first()
        if dead_letter is None:
            rows = DeadLetter.objects.using(DATABASE).select_for_update()
            dead_letter, created = rows.get_or_create(
                stream_id=envelope.stream_id,
                category=envelope.category,
                version=envelope.version,
                subscriber=subscriber[:40],
                event_hash=_hex(envelope),
                defaults={**content, **failure, "recorded_at": envelope.recorded_at, "attempts": attempts},
            )
            if created:
                return
        # A redrive counts on; the same failure that is reported twice does not.
        redriven = dead_letter.status in (Status.REDRIVEN, Status.HANDLED)
        failure["attempts"] = dead_letter.attempts + attempts if redriven else max(dead_letter.attempts, attempts)
        if dead_letter.original is None:
            failure |= content  # else a late copy of the event would undo what an operator has edited
        DeadLetter.objects.using(DATABASE).filter(pk=dead_letter.pk).update(**failure)


def of_event(envelope: Envelope, subscriber: str) -> QuerySet[DeadLetter]:
    """The dead letter of an event with a subscriber, if it has one; also one whose event hash is unknown."""
    dead_letters = DeadLetter.objects.using(DATABASE).filter(
        stream_id=envelope.stream_id, category=envelope.category, version=envelope.version, subscriber=subscriber[:40]
    )
    return dead_letters if envelope.hash is None else dead_letters.filter(event_hash__in=[_hex(envelope), ""])


def _hex(envelope: Envelope) -> str:
    return envelope.hash.hex() if envelope.hash else ""


def _text(text: str) -> str:
    """Text as PostgreSQL can keep it."""
    return text.replace("\x00", "\N{REPLACEMENT CHARACTER}")


def unreadable(body: bytes, event_type: str = UNREADABLE, headers: dict[str, Any] | None = None) -> Envelope:
    """An envelope around what is none, under a name made of it: what arrives twice is one dead letter."""
    return Envelope(
        stream_id=int.from_bytes(hashlib.sha256(body).digest()[:7]),
        category=UNREADABLE,
        version=1,
        type=_text(event_type)[:80],
        schema_version=0,
        data={"body": _text(body.decode(errors="replace"))},
        metadata={"correlation_id": "", "headers": {key: _text(str(value)) for key, value in (headers or {}).items()}},
        recorded_at=timezone.now(),
    )


# --- What operators do --------------------------------------------------------------------------------------------


def check(dead_letter: DeadLetter) -> None:
    """Raises NotRedrivable if sending the dead letter's event again makes no sense."""
    if dead_letter.category == UNREADABLE:
        raise NotRedrivable(
            "the message is unreadable, so there is no event to send; if one is missing, replay it from the store"
        )
    try:
        subscribers.get(dead_letter.subscriber)
    except EventingError as error:
        raise NotRedrivable(str(error)) from None


def redrive(dead_letter: DeadLetter, publisher: Publisher, *, by: str, note: str = "") -> None:
    """Send the event to its subscriber once more; if it fails again the dead letter is open again.

    Raises NotRedrivable, or one of `publisher.errors` when the broker does not take it; then nothing has changed.
    """
    check(dead_letter)
    now = timezone.now()
    try:
        # What a replay may not do it may not do by this way either.
        replay = msgspec.convert(dead_letter.replay, Replay | None)
    except msgspec.ValidationError as error:
        raise NotRedrivable(f"its replay is written in a form that this version does not know: {error}") from None
    event = _envelope(dead_letter)
    publisher.send(Message(subscriber=dead_letter.subscriber, events=[event], published_at=now, replay=replay))

    def sent(current: DeadLetter) -> dict[str, Any]:
        # A worker may be faster than this line.
        return {"status": Status.REDRIVEN, "settled_at": now} if current.failed_at == dead_letter.failed_at else {}

    _change(dead_letter, sent, history_entry(by, "redriven", note))


def archive(dead_letter: DeadLetter, *, by: str, reason: str) -> None:
    """Close a dead letter whose effect is not wanted any more."""
    now = timezone.now()
    entry = history_entry(by, "archived", reason)
    _change(dead_letter, lambda _: {"status": Status.ARCHIVED, "settled_at": now}, entry)


def decode(subscriber: str, event_type: str, schema_version: int, data: Any, metadata: Any) -> None:
    """Raises ValueError, with a message for people, if a subscriber could not read an event made of this."""
    try:
        registry.decode(event_type, schema_version, data)
        msgspec.convert(metadata, Metadata)
        wanted = subscribers.get(subscriber).wants(event_type)
    except (EventingError, msgspec.ValidationError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(str(error) or type(error).__name__) from error
    if not wanted:
        raise ValueError(f"the subscriber {subscriber} does not handle {event_type}")


def edit(dead_letter: DeadLetter, content: dict[str, Any], *, by: str) -> list[str]:
    """Change the event of an open dead letter, for this subscriber only; the event store keeps what happened.

    `content` has the fields of CONTENT. Returns the names of those that differ. Raises ValueError as `decode` does,
    when it would be another event than the one that happened (see `_refuse_forgery`), and when the dead letter has
    changed since it was read.
    """
    if dead_letter.category == UNREADABLE:
        raise ValueError("the message is unreadable, so it cannot be edited")
    decode(dead_letter.subscriber, **{"event_type" if name == "type" else name: content[name] for name in CONTENT})
    changed = [name for name in CONTENT if content[name] != getattr(dead_letter, name)]
    if not changed:
        return []
    _refuse_forgery(dead_letter, content)

    def edited(current: DeadLetter) -> dict[str, Any]:
        if any(getattr(current, name) != getattr(dead_letter, name) for name in ("failed_at", "status", *CONTENT)):
            raise ValueError("the dead letter has changed since it was opened: look at it again")
        original = current.original or {name: getattr(current, name) for name in CONTENT}
        return {**content, "original": original}

    _change(dead_letter, edited, history_entry(by, "edited", ", ".join(changed)))
    return changed


def _refuse_forgery(dead_letter: DeadLetter, content: dict[str, Any]) -> None:
    """An edit repairs what a subscriber cannot handle. It changes neither type, owner nor amount of money."""
    if content["type"] != dead_letter.type:
        raise ValueError(f"it is a {dead_letter.type}, and stays one")
    if registry.is_sealed(dead_letter.type):
        raise ValueError(f"{dead_letter.type} says what was done outside; it is sent again as it came, or archived")
    for part in ("data", "metadata"):
        was, now = getattr(dead_letter, part), content[part]
        for name in was if isinstance(was, dict) else ():
            if (name.endswith("_id") or name == "actor") and now.get(name) != was[name]:
                raise ValueError(f"{name} says whose event this is, and stays {was[name]!r}")


def _change(dead_letter: DeadLetter, changes: Callable[[DeadLetter], dict[str, Any]], entry: dict[str, str]) -> None:
    with transaction.atomic(using=DATABASE):
        current = DeadLetter.objects.using(DATABASE).select_for_update().get(pk=dead_letter.pk)
        DeadLetter.objects.using(DATABASE).filter(pk=dead_letter.pk).update(
            **changes(current), history=[*current.history, entry]
        )


def _envelope(dead_letter: DeadLetter) -> Envelope:
    return Envelope(**{name: getattr(dead_letter, name) for name in Envelope.__struct_fields__})


# --- Upkeep -------------------------------------------------------------------------------------------------------


def note_handled(limit: int = 500) -> int:
    """Mark redriven dead letters whose event has an inbox row by now; returns how many.

    Looks at the `limit` that were redriven last, in all databases that answer.
    """
    redriven = DeadLetter.objects.using(DATABASE).filter(status=Status.REDRIVEN).order_by("-settled_at")[:limit]
    dead_letters = list(redriven)
    if not dead_letters:
        return 0
    streams = {dead_letter.stream_id for dead_letter in dead_letters}
    names = {dead_letter.subscriber for dead_letter in dead_letters}

    def handled_in(alias: str) -> set[int]:
        rows = InboxEntry.objects.using(alias).filter(stream_id__in=streams, subscriber__in=names)
        entries = {(*entry.key, entry.subscriber): entry for entry in rows}
        return {
            dead_letter.pk
            for dead_letter in dead_letters
            if (entry := entries.get((*dead_letter.key, dead_letter.subscriber))) and entry.is_about(dead_letter)
        }

    handled: set[int] = set()
    for alias in settings.DATABASES:
        with suppress(DatabaseError, InterfaceError):  # read again the next time
            handled |= handled_in(alias)
    return (
        DeadLetter.objects.using(DATABASE)
        .filter(pk__in=handled, status=Status.REDRIVEN)
        .update(status=Status.HANDLED, settled_at=timezone.now())
    )


def collect(connection: Connection, limit: int) -> int:
    """Move up to `limit` messages from the broker's dead-letter queue into rows; returns how many.

    A message is acknowledged after its rows are written, so it may be collected twice, into the same rows. Raises
    BrokerUnavailable, and takes nothing from the broker while the rows cannot be written: some versions of RabbitMQ
    drop what was handed out too often.
    """
    with transaction.atomic(using=DATABASE):
        list(DeadLetter.objects.using(DATABASE).select_for_update()[:1])  # a database that is read-only refuses this
    with queues.answering(connection):
        queue = topology.dead_letter_queue()(connection.default_channel)
        for collected in range(limit):
            message = queue.get(no_ack=False)
            if message is None:
                return collected
            _collect(message)
            message.ack()
    return limit


def _collect(delivered: kombu.Message) -> None:
    death = (delivered.headers.get("x-death") or [{}])[0]
    if death.get("reason") == "expired":
        return  # a periodic task that was overtaken by its next run, while there was no worker: nothing is lost
    queue, reason = topology.unqualified(str(death.get("queue", "unknown"))), death.get("reason", "unknown")
    error = GivenUpByBroker(f"queue {queue}, reason {reason}, {_deaths(delivered.headers, reason)} redeliveries")
    try:
        message = msgspec.convert(delivered.decode()[1], Message[Any])
    except (KombuError, ContentDisallowed, msgspec.MsgspecError, LookupError, TypeError, ValueError):
        # Not a message of ours, or a broken one: keep what came.
        text = delivered.body if isinstance(delivered.body, bytes) else str(delivered.body).encode()
        task = str(delivered.headers.get("task", UNREADABLE))
        park(unreadable(text, task, delivered.headers), queue, error, "", attempts=1)
        return
    attempts = message.attempt + _deaths(delivered.headers, reason)
    for event in message.events:
        park(received(event), message.subscriber, error, "", attempts=attempts, replay=message.replay)


def received(event: Any) -> Envelope:
    """An event of a message; what has another shape is wrapped, and says why, so that it can become a dead letter."""
    try:
        return msgspec.convert(event, Envelope)
    except msgspec.ValidationError as error:
        return unreadable(msgspec.json.encode(event), headers={"why": str(error)})


def _deaths(headers: dict[str, Any], reason: str) -> int:
    """How often the broker handed the message out again: it says so itself, except in some versions at the limit."""
    known = redeliveries(headers.get("x-delivery-count"))
    return max(known, conf.EVENTING_DELIVERY_LIMIT) if reason == "delivery_limit" else known


def redeliveries(count: Any) -> int:
    """The header `x-delivery-count` of a quorum queue: failed deliveries before this one; absent at the first."""
    return count if isinstance(count, int) else 0
