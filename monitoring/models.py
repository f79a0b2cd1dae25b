"""What monitoring writes down for operators: reports, circuits that are open, and audits that ran."""

from django.db import models

from sharding import numbers


class DailySales(models.Model):
    """The orders placed on a day (UTC) in one currency, and what had become of them at `counted_at`.

    Amounts are in minor units; `revenue` is that of orders that are paid and were not given back.
    """

    day = models.DateField()
    currency = models.CharField(max_length=3)
    orders = models.PositiveIntegerField()
    paid = models.PositiveIntegerField()
    rejected = models.PositiveIntegerField()
    cancelled = models.PositiveIntegerField()
    refunded = models.PositiveIntegerField()
    revenue = models.BigIntegerField()
    counted_at = models.DateTimeField()

    class Meta:
        ordering = ["-day", "currency"]
        verbose_name_plural = "daily sales"
        constraints = [models.UniqueConstraint(fields=["day", "currency"], name="daily_sales_of_a_currency")]

    def __str__(self) -> str:
        return f"{self.day} {self.currency}"


class StuckOrder(models.Model):
    """An order that nobody has confirmed or rejected for too long, and what it is waiting for."""

    order_id = models.BigIntegerField(primary_key=True)
    placed_at = models.DateTimeField()
    waiting_for = models.TextField()
    reported_at = models.DateTimeField()

    class Meta:
        ordering = ["placed_at"]

    def __str__(self) -> str:
        return numbers.to_text(self.order_id)


class OpenCircuit(models.Model):
    """A process leaves a service alone until `retry_at`, and then lets the next call decide."""

    pk = models.CompositePrimaryKey("name", "process")
    name = models.CharField(max_length=40)
    process = models.CharField(max_length=100)
    since = models.DateTimeField()
    retry_at = models.DateTimeField()
    error = models.CharField(max_length=200)

    def __str__(self) -> str:
        return f"{self.name} in {self.process}"


class AuditRun(models.Model):
    """One audit. `report` is that of `manage.py audit --json`, once it is finished; `was_clean` is None until then.

    Nobody (`by` is empty) is the clock. `error` says why there is no report.
    """

    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)
    by = models.CharField(max_length=150, blank=True)
    settle_seconds = models.FloatField()
    progress = models.CharField(max_length=200, blank=True)
    was_clean = models.BooleanField(null=True, blank=True)
    report = models.JSONField(null=True, blank=True)
    error = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ["-id"]
        default_permissions = ("view", "add")
        verbose_name = "audit run"

    def __str__(self) -> str:
        return f"audit of {self.started_at:%Y-%m-%d %H:%M}"


class AuditRound(models.Model):
    """One time round of the audit in portions. `state` is a `monitoring.audit.portions.Round`.

    Two are kept: the one that is under way, and the last that came to its end.
    """

    started_at = models.DateTimeField()
    portion_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)
    state = models.JSONField(default=dict)

    class Meta:
        ordering = ["-id"]
        default_permissions = ()

    def __str__(self) -> str:
        return f"audit round of {self.started_at:%Y-%m-%d %H:%M}"
