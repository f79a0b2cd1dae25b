"""Coupons, how often they are in use, and what became of each order that came with one."""

from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Upper

from coupons import domain
from coupons.domain import CODE, CURRENCY, WHOLE, Kind, Status

CODE_FORMAT = RegexValidator(rf"\A{CODE.pattern}\Z", "A code has up to 40 capital letters, digits and dashes.")
CURRENCY_FORMAT = RegexValidator(rf"\A{CURRENCY.pattern}\Z", "A currency is a code of three capital letters.")


class Coupon(models.Model):
    """The terms of a coupon; see `domain.Coupon` for units. `redeemed` counts the redemptions that stand.

    The row is the lock of its coupon; whoever needs several takes them in the order of their code.
    """

    code = models.CharField(max_length=40, unique=True, validators=[CODE_FORMAT])
    kind = models.CharField(max_length=10, choices=[(kind.value, kind.value) for kind in Kind])
    value = models.BigIntegerField(help_text="hundredths of a per cent (1000 = 10 %), else minor units")
    currency = models.CharField(max_length=3, validators=[CURRENCY_FORMAT])
    minimum_spend = models.BigIntegerField(default=0, help_text="minor units")
    valid_from = models.DateTimeField(null=True, blank=True)
    valid_until = models.DateTimeField(null=True, blank=True)
    total_limit = models.PositiveIntegerField(null=True, blank=True)
    per_customer_limit = models.PositiveIntegerField(null=True, blank=True)
    redeemed = models.PositiveIntegerField(default=0, editable=False)
    active = models.BooleanField(default=True)

    class Meta:
        ordering = ["code"]
        constraints = [
            models.CheckConstraint(
                condition=Q(code=Upper("code")) & ~Q(code=""),
                name="coupon_code_in_capitals",
                violation_error_message="A code is in capital letters.",
            ),
            models.CheckConstraint(
                condition=Q(kind=Kind.PERCENTAGE.value, value__range=(1, WHOLE))
                | Q(kind=Kind.FIXED.value, value__gte=1),
                name="coupon_value_within_limits",
                violation_error_message="A percentage is 0.01 to 100 per cent, an amount at least the smallest coin.",
            ),
            models.CheckConstraint(
                condition=Q(minimum_spend__gte=0),
                name="coupon_minimum_spend_not_negative",
                violation_error_message="A minimum spend is not negative.",
            ),
            models.CheckConstraint(
                condition=Q(valid_from__isnull=True) | Q(valid_until__isnull=True) | Q(valid_from__lt=F("valid_until")),
                name="coupon_begins_before_it_ends",
                violation_error_message="A coupon begins before it ends.",
            ),
            models.CheckConstraint(
                condition=(Q(total_limit__isnull=True) | Q(total_limit__gte=1))
                & (Q(per_customer_limit__isnull=True) | Q(per_customer_limit__gte=1)),
                name="coupon_limits_positive",
                violation_error_message="A limit is at least 1.",
            ),
            models.CheckConstraint(
                condition=Q(total_limit__isnull=True) | Q(redeemed__lte=F("total_limit")),
                name="coupon_redeemed_within_limit",
            ),
        ]

    def __str__(self) -> str:
        return self.code

    def clean(self) -> None:
        # Forms leave `redeemed` out, and with it the constraint that would say so.
        if self.total_limit is not None and self.total_limit < self.redeemed:
            raise ValidationError({"total_limit": f"The coupon is in use {self.redeemed} times already."})

    def terms(self) -> domain.Coupon:
        return domain.Coupon(
            code=self.code,
            kind=Kind(self.kind),
            value=self.value,
            currency=self.currency,
            minimum_spend=self.minimum_spend,
            valid_from=self.valid_from,
            valid_until=self.valid_until,
            total_limit=self.total_limit,
            per_customer_limit=self.per_customer_limit,
            active=self.active,
            redeemed=self.redeemed,
        )


class Redemption(models.Model):
    """What became of the coupon of one order; its stream has the order's id and is at `version`.

    `discount` in minor units is what the order got for it; `at` is when the status was reached.
    """

    order_id = models.BigIntegerField(primary_key=True)
    customer_id = models.BigIntegerField()
    coupon = models.ForeignKey(
        Coupon, null=True, blank=True, on_delete=models.PROTECT, related_name="redemptions", db_index=False
    )
    status = models.CharField(max_length=8, choices=[(status.value, status.value) for status in Status])
    discount = models.BigIntegerField(default=0)
    version = models.PositiveIntegerField()
    at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(order_id__gte=0), name="redemption_order_id_positive"),
            models.CheckConstraint(
                condition=Q(status__in=[status.value for status in Status]), name="redemption_status"
            ),
            models.CheckConstraint(
                condition=Q(status__in=[Status.REDEEMED.value, Status.RELEASED.value], coupon__isnull=False)
                | Q(status__in=[Status.REFUSED.value, Status.VOID.value], discount=0),
                name="redemption_has_coupon_or_no_discount",
            ),
            models.CheckConstraint(condition=Q(discount__gte=0), name="redemption_discount_not_negative"),
            models.CheckConstraint(
                condition=Q(status=Status.VOID.value, version=0) | (~Q(status=Status.VOID.value) & Q(version__gte=1)),
                name="redemption_is_void_until_its_first_event",
            ),
        ]
        indexes = [
            models.Index(fields=["coupon", "customer_id"], name="redemption_by_customer"),
            models.Index(
                fields=["-at", "-order_id"], condition=~Q(status=Status.VOID.value), name="redemption_newest_first"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.order_id} {self.status}"
