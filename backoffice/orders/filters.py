"""What the list of orders can be narrowed to, as a form whose fields stand in the page's address."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

from django import forms

from backoffice.base import ListFilter
from orders.selectors import Criteria
from sharding import numbers, shards

LONGEST = 40  # of product and coupon codes
LONGEST_TRACKING = 100


def day_input() -> forms.DateInput:
    return forms.DateInput(format="%Y-%m-%d", attrs={"type": "date"})


def shard_choices() -> list[tuple[str, str]]:
    return [("", "All shards"), *((alias, alias) for alias in shards.aliases())]


class OrderFilter(ListFilter):
    """Days are in UTC and both included."""

    shard = forms.ChoiceField(required=False, choices=shard_choices)
    bucket = forms.IntegerField(
        required=False,
        min_value=0,
        max_value=numbers.BUCKETS - 1,
        widget=forms.NumberInput({"placeholder": f"0 to {numbers.BUCKETS - 1}"}),
    )
    since = forms.DateField(required=False, widget=day_input(), label="Placed from")
    until = forms.DateField(required=False, widget=day_input(), label="Placed until")
    sku = forms.CharField(required=False, max_length=LONGEST, label="Product (SKU)")
    coupon = forms.CharField(required=False, max_length=LONGEST)
    tracking = forms.CharField(required=False, max_length=LONGEST_TRACKING, label="Tracking number")
    part = forms.CharField(required=False, label="Part of the number")

    def clean_coupon(self) -> str:
        return str(self.cleaned_data["coupon"]).upper()

    def clean_part(self) -> str:
        part = str(self.cleaned_data["part"])
        if part:
            try:
                numbers.containing(part)
            except numbers.InvalidOrderNumber as error:
                raise forms.ValidationError(str(error).capitalize()) from None
        return part

    def criteria(self) -> Criteria:
        values = self.cleaned_data
        until = values.get("until")
        return Criteria(
            shard=values.get("shard") or None,
            bucket=values.get("bucket"),
            since=_midnight(values.get("since")),
            until=_midnight(until + timedelta(days=1)) if until and until < date.max else None,
            sku=values.get("sku") or None,
            coupon=values.get("coupon") or None,
            tracking=values.get("tracking") or None,
            part=values.get("part") or None,
        )


def _midnight(day: date | None) -> datetime | None:
    return None if day is None else datetime.combine(day, time.min, tzinfo=UTC)
