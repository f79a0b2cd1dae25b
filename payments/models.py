"""The tables of payments: an account an order, its payments, and what the sandbox gateway remembers."""

from __future__ import annotations

import uuid

from django.db import models
from django.db.models import F, Q


class Account(models.Model):
    """The money of one order. Every change locks this row first, which keeps the order's payment stream gapless.

    `closed` is a tombstone: the order came to nothing, perhaps before its first payment was seen here, and money
    that is captured from now on goes back.
    """

    order_id = models.BigIntegerField(primary_key=True)
    customer_id = models.BigIntegerField()
    version = models.PositiveIntegerField(default=0)
    closed = models.BooleanField(default=False)
    closed_reason = models.CharField(max_length=40, blank=True)
    captured_total = models.BigIntegerField(default=0)
    refunded_total = models.BigIntegerField(default=0)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(refunded_total__gte=0) & Q(refunded_total__lte=F("captured_total")),
                name="refunded_between_0_and_captured",
            ),
        ]

    def __str__(self) -> str:
        return f"account of order {self.order_id}"


class Payment(models.Model):
    """One attempt to pay an order. The amount is in minor units of the currency."""

    class Status(models.TextChoices):
        REQUESTED = "requested"
        CAPTURED = "captured"
        DECLINED = "declined"
        REFUND_REQUESTED = "refund_requested"
        REFUNDED = "refunded"

    # Random, because it is the gateway's idempotency key: a database that is restored from a backup must not reuse
    # the key of a payment that it has forgotten.
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    order_id = models.BigIntegerField()
    attempt = models.PositiveSmallIntegerField()
    amount = models.BigIntegerField()
    currency = models.CharField(max_length=3)
    token = models.CharField(max_length=100)
    status = models.CharField(max_length=20, choices=Status, default=Status.REQUESTED)
    gateway_reference = models.CharField(max_length=255, blank=True)
    refund_reference = models.CharField(max_length=255, blank=True)
    decline_reason = models.CharField(max_length=255, blank=True)
    requested_at = models.DateTimeField()
    settled_at = models.DateTimeField(null=True, blank=True)
    refunded_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["order_id"], condition=~Q(status="declined"), name="one_payment_that_was_not_declined"
            ),
            models.UniqueConstraint(fields=["order_id", "attempt"], name="payment_attempts_are_numbered"),
            models.CheckConstraint(condition=Q(amount__gte=0), name="payment_amount_not_negative"),
        ]
        indexes = [models.Index(fields=["-requested_at", "-id"], name="payment_newest_first")]

    def __str__(self) -> str:
        return f"payment {self.id}"


class SandboxCharge(models.Model):
    """What the sandbox gateway did for one idempotency key; `calls` counts how often it was asked to."""

    class Kind(models.TextChoices):
        CAPTURE = "capture"
        REFUND = "refund"

    class Result(models.TextChoices):
        OPEN = "open"
        CAPTURED = "captured"
        DECLINED = "declined"
        REFUNDED = "refunded"

    key = models.CharField(max_length=100, primary_key=True)
    kind = models.CharField(max_length=10, choices=Kind)
    token = models.CharField(max_length=100)
    amount = models.BigIntegerField()
    currency = models.CharField(max_length=3)
    reference = models.CharField(max_length=40, unique=True)
    refund_of = models.CharField(max_length=40, blank=True, db_index=True)
    result = models.CharField(max_length=10, choices=Result, default=Result.OPEN)
    reason = models.CharField(max_length=100, blank=True)
    calls = models.PositiveIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.kind} {self.reference}"
