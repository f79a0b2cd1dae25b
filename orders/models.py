"""The read model of orders, written in the transaction of their events, and the keys that make placing idempotent.

All three tables live on the order shards. `Order` and `OrderLine` can be rebuilt from the events.
"""

from django.db import models
from django.db.models import F, Q

from orders.domain import MAX_LINES, MAX_QUANTITY, Status
from sharding.numbers import to_text

OPEN = (Status.PLACED, Status.CONFIRMED)  # what the payment deadline applies to


class Order(models.Model):
    """One row an order. Amounts are in minor units of `currency`; `version` is that of the order's last event."""

    id = models.BigIntegerField(primary_key=True)
    customer_id = models.BigIntegerField()
    status = models.CharField(max_length=10, choices=[(status.value, status.value) for status in Status])
    currency = models.CharField(max_length=3)
    subtotal = models.BigIntegerField()
    discount = models.BigIntegerField()
    total = models.BigIntegerField()
    coupon_code = models.TextField(null=True, blank=True)  # noqa: DJ001  (the event says None, too)
    placed_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True, blank=True)
    version = models.PositiveIntegerField()
    reason = models.TextField(blank=True)
    tracking = models.TextField(blank=True, default="", db_default="")

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(id__gt=0), name="order_id_positive"),
            models.CheckConstraint(condition=Q(status__in=[status.value for status in Status]), name="order_status"),
            models.CheckConstraint(
                condition=Q(subtotal__gte=0, discount__gte=0, total__gte=0, total=F("subtotal") - F("discount")),
                name="order_total_is_subtotal_minus_discount",
            ),
            models.CheckConstraint(
                condition=Q(status__in=[status.value for status in OPEN], expires_at__isnull=False)
                | (~Q(status__in=[status.value for status in OPEN]) & Q(expires_at__isnull=True)),
                name="order_has_deadline_while_unpaid",
            ),
            models.CheckConstraint(condition=Q(version__gte=1), name="order_version_from_1"),
        ]
        indexes = [
            models.Index(fields=["customer_id", "id"], name="order_by_customer"),
            models.Index(fields=["-placed_at", "-id"], name="order_newest_first"),
            models.Index(fields=["status", "placed_at", "id"], name="order_by_status"),
            models.Index(
                fields=["coupon_code", "-placed_at", "-id"],
                condition=Q(coupon_code__isnull=False),
                name="order_by_coupon",
            ),
            models.Index(fields=["tracking"], condition=~Q(tracking=""), name="order_by_tracking"),
            models.Index(
                fields=["expires_at"],
                condition=Q(status__in=[status.value for status in OPEN]),
                name="order_unpaid_by_deadline",
            ),
        ]

    def __str__(self) -> str:
        return to_text(self.id)


class OrderLine(models.Model):
    """A product of an order; positions count from 1."""

    pk = models.CompositePrimaryKey("order_id", "position")
    order_id = models.BigIntegerField()
    position = models.PositiveSmallIntegerField()
    sku = models.TextField()
    name = models.TextField()
    quantity = models.PositiveIntegerField()
    unit_price = models.BigIntegerField()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(position__range=(1, MAX_LINES)), name="order_line_position"),
            models.CheckConstraint(condition=Q(quantity__range=(1, MAX_QUANTITY)), name="order_line_quantity"),
            models.CheckConstraint(condition=Q(unit_price__gte=0), name="order_line_unit_price_not_negative"),
        ]
        indexes = [models.Index(fields=["sku", "order_id"], name="order_line_by_sku")]

    def __str__(self) -> str:
        return f"{self.quantity} x {self.sku}"


class IdempotencyKey(models.Model):
    """The order that a customer's request with this key has placed. `order_id` says with which bucket the row moves."""

    pk = models.CompositePrimaryKey("customer_id", "key")
    customer_id = models.BigIntegerField()
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=128)
    order_id = models.BigIntegerField()
    created_at = models.DateTimeField()

    class Meta:
        indexes = [
            models.Index(fields=["order_id"], name="idempotency_key_by_order"),
            models.Index(fields=["created_at"], name="idempotency_key_by_age"),
        ]

    def __str__(self) -> str:
        return self.key
