"""Queues messages for customers, and marks them as read. Sending is in `sending`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from eventing.recorded import Recorded
from notifications import sending, texts
from notifications.models import Message
from orders.events import OrderPlaced
from sharding.router import database_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Occasion:
    """Something that a customer is told about. `about` names the text, `context` is what the text needs."""

    about: str
    customer_id: int
    event_id: str
    correlation_id: str
    at: datetime
    order_id: int | None = None
    context: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Customer:
    name: str
    email: str


def occasion_of(recorded: Recorded[Any]) -> Occasion:
    """What a customer is told about an event."""
    return Occasion(
        about=recorded.event.TYPE.replace(".", "_"),
        customer_id=recorded.event.customer_id,
        event_id=recorded.id,
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


def tell(occasions: Sequence[Occasion], *, by_mail: bool = True) -> None:
    """Queue an e-mail (unless not `by_mail`) and an inbox message for each occasion, in the caller's transaction.

    The number of statements does not depend on the number of occasions. Who has no address gets no e-mail.
    """
    _queue(occasions, _customers({occasion.customer_id for occasion in occasions}), by_mail=by_mail)


def welcome(user_id: int, email: str, name: str) -> None:
    """Greet a new customer. Called in the transaction that registers them, so that no stranger is greeted."""
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


def _queue(occasions: Sequence[Occasion], customers: dict[int, Customer], *, by_mail: bool = True) -> None:
    alias = database_of("notifications")
    messages = messages_about(occasions, customers, timezone.now(), by_mail=by_mail)
    Message.objects.using(alias).bulk_create(messages, ignore_conflicts=True)
    if any(message.channel == Message.Channel.EMAIL for message in messages):
        # Robust: without a broker the mails wait for the periodic run of the same task.
        transaction.on_commit(sending.ask_to_send, using=alias, robust=True)


def messages_about(
    occasions: Sequence[Occasion], customers: dict[int, Customer], now: datetime, *, by_mail: bool = True
) -> list[Message]:
    """The messages that tell customers of these occasions."""
    messages: list[Message] = []
    for occasion in occasions:
        customer = customers.get(occasion.customer_id, Customer(name="", email=""))
        text = texts.render(occasion.about, {**occasion.context, "name": customer.name, "order_id": occasion.order_id})
        messages.append(_message(occasion, text, Message.Channel.INBOX, status=Message.Status.SENT, sent_at=now))
        if customer.email and by_mail:
            messages.append(
                _message(
                    occasion,
                    text,
                    Message.Channel.EMAIL,
                    recipient=customer.email,
                    html=texts.as_html(text),
                    next_attempt_at=now,
                )
            )
    return messages


def _message(occasion: Occasion, text: texts.Text, channel: Message.Channel, **fields: Any) -> Message:
    return Message(
        customer_id=occasion.customer_id,
        channel=channel,
        about=occasion.about,
        event_id=occasion.event_id,
        correlation_id=occasion.correlation_id,
        order_id=occasion.order_id,
        subject=text.subject[: Message._meta.get_field("subject").max_length],
        body=text.body,
        created_at=occasion.at,
        **fields,
    )
