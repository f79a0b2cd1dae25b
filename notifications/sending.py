"""Sends the pending e-mails, each at most once.

A mail server cannot take part in a transaction, so a mail is claimed first: `sending` is committed, then the mail
server is asked, then `sent` is written. A process that dies in between leaves `sending`. Nobody can tell whether such
a mail went out, and to a customer a mail that comes twice is worse than one that is missing from their mailbox but
there in their inbox, so it is not sent again by itself: it is given up, and operators may call `send_again`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from datetime import datetime, timedelta

import structlog
from django.core import mail
from django.core.mail.backends.base import BaseEmailBackend
from django.db import transaction

from eventing import clocks
from eventing.publishing import request_task
from eventing.recorded import Event, Metadata, NewEvents
from eventing.store import append
from notifications.events import CATEGORY, MessageFailed, MessageSent
from notifications.models import Message
from sharding.router import database_of

logger = structlog.get_logger(__name__)

TASK = "notifications.send_pending"
BATCH = 200
MAX_ATTEMPTS = 8
FIRST_PAUSE = timedelta(seconds=30)
LONGEST_PAUSE = timedelta(hours=1)
# A claim that is older belongs to a process that died: no mail server takes this long.
ABANDONED_AFTER = timedelta(minutes=10)

_ADDRESS = re.compile(r"[^\s<>()'\",:;]+@[^\s<>()'\",:;]+")


def ask_to_send() -> None:
    """Have a worker send what is pending, soon. Raises BrokerUnavailable."""
    request_task(TASK)


def send_pending(limit: int = BATCH) -> int:
    """Send up to `limit` mails that are due, and return how many were sent. Several processes may do so at once."""
    sent = 0
    connection: BaseEmailBackend = mail.get_connection()
    try:
        for _ in range(limit):
            message = _claim()
            if message is None:
                break
            try:
                connection.open()
            except Exception as error:
                # The others would only wait for the same server.
                _failed(message, error)
                break
            try:
                _as_mail(message, connection).send()
            except Exception as error:
                connection.close()
                _failed(message, error)
            else:
                _sent(message)
                sent += 1
    finally:
        connection.close()
    return sent


def _now() -> datetime:
    """By the database's clock: what a worker whose clock is ahead has put off would wait until then."""
    return clocks.database_time(database_of("notifications"))


def give_up_abandoned(now: datetime) -> int:
    """Mark mails whose sending was cut off as failed, for operators to see and decide; returns how many."""
    alias = database_of("notifications")
    abandoned = Message.objects.using(alias).filter(status=Message.Status.SENDING, claimed_at__lt=now - ABANDONED_AFTER)
    given_up = 0
    while given_up < BATCH:
        with transaction.atomic(using=alias):
            message = abandoned.select_for_update(skip_locked=True).first()
            if message is None:
                break
            message.last_error = "Its sending was cut off: it may have gone out."
            _give_up(message, now)
        given_up += 1
    return given_up


def send_again(message_ids: Iterable[int]) -> int:
    """Queue mails that were given up as if new; returns how many.

    For operators: a mail whose sending was cut off may have reached its customer already.
    """
    messages = Message.objects.using(database_of("notifications"))
    return messages.filter(status=Message.Status.FAILED, id__in=list(message_ids)).update(
        status=Message.Status.PENDING, attempts=0, next_attempt_at=_now(), last_error=""
    )


def pause_after(attempts: int) -> timedelta:
    """The pause after so many failed attempts: 30 s, doubling up to an hour, give or take half."""
    return min(FIRST_PAUSE * 2 ** (attempts - 1), LONGEST_PAUSE) * random.uniform(0.5, 1.5)


def _claim() -> Message | None:
    """The mail that is due for longest, committed as being sent; None if there is none.

    `durable`: inside another transaction the claim would not be committed before the mail goes out.
    """
    alias = database_of("notifications")
    now = _now()
    with transaction.atomic(using=alias, durable=True):
        due = Message.objects.using(alias).filter(status=Message.Status.PENDING, next_attempt_at__lte=now)
        message = due.order_by("next_attempt_at").select_for_update(skip_locked=True).first()
        if message is not None:
            message.status = Message.Status.SENDING
            message.claimed_at = now
            message.attempts += 1
            message.save(using=alias, update_fields=["status", "claimed_at", "attempts"])
    return message


def _as_mail(message: Message, connection: BaseEmailBackend) -> mail.EmailMultiAlternatives:
    email = mail.EmailMultiAlternatives(
        subject=message.subject,
        body=message.body,
        to=[message.recipient],
        connection=connection,
        headers={"Auto-Submitted": "auto-generated"},  # RFC 3834: no holiday replies to the shop, please
    )
    if message.html:
        email.attach_alternative(message.html, "text/html")
    return email


def _sent(message: Message) -> None:
    now = _now()
    message.status = Message.Status.SENT
    message.sent_at = now
    message.last_error = ""
    event = MessageSent(customer_id=message.customer_id, channel=message.channel, about=message.about, at=now)
    _finish(message, event)


def _failed(message: Message, error: Exception) -> None:
    """Back to the queue with a pause, or given up after the last attempt."""
    now = _now()
    # Mail servers repeat the address in what they say, and it must not get into events and logs.
    message.last_error = _ADDRESS.sub("<address>", f"{type(error).__name__}: {error}")[:500]
    logger.warning(
        "notifications.not_sent", message_id=message.id, attempts=message.attempts, error=type(error).__name__
    )
    if message.attempts < MAX_ATTEMPTS:
        message.status = Message.Status.PENDING
        message.next_attempt_at = now + pause_after(message.attempts)
        _finish(message, None)
        return
    _give_up(message, now)


def _give_up(message: Message, now: datetime) -> None:
    message.status = Message.Status.FAILED
    failed = MessageFailed(
        customer_id=message.customer_id,
        channel=message.channel,
        about=message.about,
        error=message.last_error,
        at=now,
    )
    _finish(message, failed)


def _finish(message: Message, event: Event | None) -> None:
    """Write down what became of a claimed mail."""
    alias = database_of("notifications")
    with transaction.atomic(using=alias):
        if event is not None:
            metadata = Metadata(
                correlation_id=message.correlation_id, causation_id=message.event_id, actor="notifications"
            )
            write = NewEvents(stream_id=message.id, expected_version=message.version, events=[event], metadata=metadata)
            append(CATEGORY, [write], using=alias)
            message.version += 1
        message.save(using=alias, update_fields=["status", "sent_at", "next_attempt_at", "last_error", "version"])
