"""The messages for customers, and how far their sending is."""

from __future__ import annotations

from django.db import models
from django.db.models import Q


class Message(models.Model):
    """A notification of one event on one channel. At most one exists for each (event, channel).

    `event_hash` is the short hash of the event, as a restored database gives ids of events again; empty if it is not
    known.

    A message for the inbox is sent by being stored. An e-mail goes pending → sending → sent; when the mail server
    refuses it, back to pending until it counts as failed.
    """

    class Channel(models.TextChoices):
        EMAIL = "email"
        INBOX = "inbox"

    class Status(models.TextChoices):
        PENDING = "pending"
        SENDING = "sending"
        SENT = "sent"
        FAILED = "failed"

    customer_id = models.BigIntegerField()
    channel = models.CharField(max_length=10, choices=Channel)
    about = models.CharField(max_length=40)
    event_id = models.CharField(max_length=80)
    event_hash = models.CharField(max_length=7, default="", db_default="", blank=True)
    correlation_id = models.TextField()
    order_id = models.BigIntegerField(null=True, blank=True)
    recipient = models.EmailField(blank=True)
    subject = models.CharField(max_length=200)
    body = models.TextField()
    html = models.TextField(blank=True)
    status = models.CharField(max_length=10, choices=Status, default=Status.PENDING)
    attempts = models.PositiveSmallIntegerField(default=0)
    version = models.PositiveIntegerField(default=0)
    next_attempt_at = models.DateTimeField(null=True, blank=True)
    claimed_at = models.DateTimeField(null=True, blank=True)
    last_error = models.CharField(max_length=500, blank=True)
    mailed = models.BooleanField(null=True)  # of the inbox: whether an e-mail was queued with it, if that is known
    created_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True, blank=True)
    read_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["event_id", "channel", "event_hash"], name="message_once_per_event"),
            models.CheckConstraint(condition=Q(channel="inbox") | ~Q(recipient=""), name="an_email_has_a_recipient"),
        ]
        indexes = [
            models.Index(
                fields=["customer_id", "-created_at", "-id"], condition=Q(channel="inbox"), name="message_inbox"
            ),
            models.Index(
                fields=["customer_id"], condition=Q(channel="inbox", read_at__isnull=True), name="message_unread"
            ),
            models.Index(fields=["next_attempt_at"], condition=Q(status="pending"), name="message_pending"),
        ]

    def __str__(self) -> str:
        return f"{self.about} by {self.channel}"
