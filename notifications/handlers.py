"""Queues messages for customers, and marks them as read. Sending is in `sending`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.contrib.auth.models import User
from django.db import connections, transaction
from django.utils import timezone

from eventing import clocks
from eventing.databases import Insertion, insert, look_up
from eventing.recorded import Recorded
from notifications import sending, texts
from notifications.models import Message
from orders.events import OrderPlaced
from sharding.router import database_of

LONGEST_SUBJECT = 200
# The columns of a new message; they are written as plain rows, because every event that customers hear of makes one.
TYPES = {
    "customer_id": "bigint",
    "channel": "text",
    "about": "text",
    "event_id": "text",
    "event_hash": "text",
    "correlation_id": "text",
    "order_id": "bigint",
    "recipient": "text",
    "subject": "text",
    "body": "text",
    "html": "text",
    "status": "text",
    "attempts": "integer",
    "version": "integer",
    "next_attempt_at": "timestamptz",
    "last_error": "text",
    "mailed": "boolean",
    "created_at": "timestamptz",
    "sent_at": "timestamptz",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Occasion:
    """Something that a customer is notified of. `about` names the text, `context` is what the text needs."""

    about: str
    customer_id: int
    event_id: str
    correlation_id: str
    at: datetime
    order_id: int | None = None
    event_hash: str = ""
    context: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Customer:
    name: str
    email: str


NOBODY = Customer(name="", email="")


def occasion_of(recorded: Recorded[Any]) -> Occasion:
    """The notification of an event."""
    return Occasion(
        about=recorded.event.TYPE.replace(".", "_"),
        customer_id=recorded.event.customer_id,
        event_id=recorded.id,
        event_hash=recorded.identity[3],
        correlation_id=recorded.metadata.correlation_id,
        at=recorded.event.at,
        order_id=recorded.stream_id,
        context={"event": recorded.event, "total": _total(recorded.event)},
    )


def _total(event: Any) -> int | None:
    """What a new order costs, in minor units."""
    if not isinstance(event, OrderPlaced):
        return None
    return sum(line.quantity * line.unit_price for line in event.lines) - event.discount


def notify(occasions: Sequence[Occasion], *, by_mail: bool = True) -> None:
    """Queue an e-mail (unless not `by_mail`) and an inbox message for each occasion, in the caller's transaction.

    The number of statements does not depend on the number of occasions. Who has no address gets no e-mail.
    """
    messages = _queue(occasions, _customers({occasion.customer_id for occasion in occasions}), by_mail=by_mail)
    if any(message["channel"] == Message.Channel.EMAIL for message in messages):
        # Robust: without a broker the mails wait for the periodic run of the same task.
        transaction.on_commit(sending.ask_to_send, using=database_of("notifications"), robust=True)


def welcome(user_id: int, email: str, name: str) -> None:
    """Greet a new customer. Called in the transaction that registers them, so that no stranger is greeted.

    They wait for a page, so the broker is not used: the periodic run sends the mail.
    """
    event_id = f"customer-{user_id}@1"
    occasion = Occasion(
        about="welcome", customer_id=user_id, event_id=event_id, correlation_id=event_id, at=timezone.now()
    )
    _queue([occasion], {user_id: Customer(name=name, email=email)})


def mark_read(customer_id: int, message_ids: Iterable[int] | None = None) -> int:
    """Mark these messages of the customer's inbox as read, or all of them; returns how many were unread."""
    unread = Message.objects.using(database_of("notifications")).filter(
        customer_id=customer_id, channel=Message.Channel.INBOX, read_at__isnull=True
    )
    if message_ids is not None:
        unread = unread.filter(id__in=list(message_ids))
    return unread.update(read_at=timezone.now())


def _customers(ids: set[int]) -> dict[int, Customer]:
    users = User.objects.filter(id__in=ids)
    return {
        user_id: Customer(name=first_name or username, email=email)
        for user_id, first_name, username, email in users.values_list("id", "first_name", "username", "email")
    }


def _queue(
    occasions: Sequence[Occasion], customers: dict[int, Customer], *, by_mail: bool = True
) -> list[dict[str, Any]]:
    alias = database_of("notifications")
    sent_before: dict[tuple[str, str], set[str]] = defaultdict(set)
    for event_id, channel, event_hash in look_up(
        connections[alias],
        "notifications_message",
        ("event_id", "channel", "event_hash"),
        ["event_id"],
        [(occasion.event_id,) for occasion in occasions],
    ):
        sent_before[event_id, channel].add(event_hash)
    messages = [
        message
        for message in messages_about(occasions, customers, clocks.database_time(alias), by_mail=by_mail)
        if not _is_sent(message["event_hash"], sent_before[message["event_id"], message["channel"]])
    ]
    rows = [tuple(message[column] for column in TYPES) for message in messages]
    then = "ON CONFLICT DO NOTHING"
    insert(connections[alias], Insertion(table="notifications_message", columns=TYPES, rows=rows, then=then))
    return messages


def _is_sent(event_hash: str, hashes: set[str]) -> bool:
    """Whether one of an id's events with these hashes is this one; an empty hash may be any."""
    return bool(hashes) and (not event_hash or "" in hashes or event_hash in hashes)


def messages_about(
    occasions: Sequence[Occasion], customers: dict[int, Customer], now: datetime, *, by_mail: bool = True
) -> list[dict[str, Any]]:
    """The messages about these occasions, as the columns of `TYPES`."""
    messages: list[dict[str, Any]] = []
    for occasion in occasions:
        customer = customers.get(occasion.customer_id, NOBODY)
        mailed = bool(customer.email and by_mail)
        text = texts.render(occasion.about, {**occasion.context, "name": customer.name, "order_id": occasion.order_id})
        inbox = {
            "customer_id": occasion.customer_id,
            "channel": Message.Channel.INBOX.value,
            "about": occasion.about,
            "event_id": occasion.event_id,
            "event_hash": occasion.event_hash,
            "correlation_id": occasion.correlation_id,
            "order_id": occasion.order_id,
            "recipient": "",
            "subject": text.subject[:LONGEST_SUBJECT],
            "body": text.body,
            "html": "",
            "status": Message.Status.SENT.value,
            "attempts": 0,
            "version": 0,
            "next_attempt_at": None,
            "last_error": "",
            "mailed": mailed,
            "created_at": occasion.at,
            "sent_at": now,
        }
        messages.append(inbox)
        if mailed:
            link = texts.order_page(occasion.order_id) if occasion.order_id else ""
            email = {
                "body": texts.with_link(text.body, link),
                "channel": Message.Channel.EMAIL.value,
                "recipient": customer.email,
                "html": texts.as_html(text, link),
                "status": Message.Status.PENDING.value,
                "mailed": None,
                "next_attempt_at": now,
                "sent_at": None,
            }
            messages.append(inbox | email)
    return messages
