"""Reads of messages for the shop's inbox and the admin."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from django.db.models import QuerySet

from eventing.keyset import beyond
from notifications.models import Message
from sharding.router import database_of

MANY_UNREAD = 100  # and more


def inbox(customer_id: int, *, before: tuple[datetime, int] | None = None, limit: int = 20) -> list[Message]:
    """The newest messages of a customer's inbox; `before` is (created_at, id) of the last one that was seen."""
    messages = _inbox(customer_id).order_by("-created_at", "-id")
    if before is not None:
        messages = messages.filter(beyond(("created_at", "id"), before))
    return list(messages[:limit])


def unread(customer_id: int, *, limit: int = MANY_UNREAD) -> int:
    """How many messages of the inbox the customer has not read, counting `limit` of them: it is on every page."""
    return _inbox(customer_id).filter(read_at__isnull=True).order_by()[:limit].count()


def about(event_ids: Iterable[str]) -> list[Message]:
    """The messages about some events, on all channels, oldest first."""
    messages = Message.objects.using(database_of("notifications"))
    return list(messages.filter(event_id__in=list(event_ids)).order_by("id"))


def _inbox(customer_id: int) -> QuerySet[Message]:
    messages = Message.objects.using(database_of("notifications"))
    return messages.filter(customer_id=customer_id, channel=Message.Channel.INBOX)
