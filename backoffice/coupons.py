"""Coupons for operators: their terms, and how much of them is used."""

from __future__ import annotations

from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html
from unfold.decorators import display
from unfold.widgets import UnfoldAdminTextInputWidget

from backoffice.base import CarefulModelAdmin, MinorUnitsField, OfCustomers, time
from coupons.domain import CouponError, Kind, Status, check_terms, normalise
from coupons.models import Coupon, Redemption
from values.filters import money


class CouponForm(forms.ModelForm):
    code = forms.CharField(max_length=40, widget=UnfoldAdminTextInputWidget, help_text="As customers type it.")
    value = MinorUnitsField(help_text=f"Per cent for a percentage, else an amount in {settings.SHOP_CURRENCY}.")
    minimum_spend = MinorUnitsField(required=False, initial=0, help_text="What the order must come to for it.")

    class Meta:
        model = Coupon
        fields = (
            "code", "kind", "value", "minimum_spend", "valid_from", "valid_until", "total_limit", "per_customer_limit",
            "active",
        )  # fmt: skip

    def clean_code(self) -> str:
        return normalise(self.cleaned_data["code"])

    def clean_minimum_spend(self) -> int:
        return self.cleaned_data["minimum_spend"] or 0

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        if not self.errors:
            self.instance.currency = self.instance.currency or settings.SHOP_CURRENCY
            for name, value in values.items():
                setattr(self.instance, name, value)
            try:
                check_terms(self.instance.terms())
            except CouponError as error:
                raise ValidationError(str(error), code=error.code) from error
        return values


@admin.register(Coupon)
class CouponAdmin(CarefulModelAdmin):
    form = CouponForm
    list_display = ("code", "discount", "minimum", "use", "per_customer_limit", "period", "state")
    list_filter = ("kind", "active")
    list_filter_sheet = False
    search_fields = ("code",)
    search_help_text = "Code"
    fieldsets = (
        (None, {"fields": ("code", ("kind", "value"), "minimum_spend", "active")}),
        ("When", {"fields": ("valid_from", "valid_until")}),
        ("How often", {"fields": (("total_limit", "per_customer_limit"), "use")}),
    )
    readonly_fields = ("use",)
    change_form_outer_before_template = "admin/backoffice/coupon_orders.html"

    def get_readonly_fields(self, request: HttpRequest, obj: Coupon | None = None) -> tuple[str, ...]:
        # Orders know a coupon by its code.
        return ("code", *self.readonly_fields) if obj else self.readonly_fields

    @display(description="discount", ordering="value")
    def discount(self, coupon: Coupon) -> str:
        return f"{coupon.value / 100:g} %" if coupon.kind == Kind.PERCENTAGE else money(coupon.value, coupon.currency)

    @display(description="minimum spend", ordering="minimum_spend")
    def minimum(self, coupon: Coupon) -> str | None:
        return money(coupon.minimum_spend, coupon.currency) if coupon.minimum_spend else None

    @display(description="in use", ordering="redeemed")
    def use(self, coupon: Coupon) -> str:
        if coupon.total_limit is None:
            return f"{coupon.redeemed} times"
        return format_html(
            '<progress class="bo-progress" max="{limit}" value="{used}"></progress> {used} of {limit}',
            limit=coupon.total_limit,
            used=coupon.redeemed,
        )

    @display(description="valid")
    def period(self, coupon: Coupon) -> str:
        begin = f"from {coupon.valid_from:%Y-%m-%d %H:%M} UTC" if coupon.valid_from else ""
        end = f"until {coupon.valid_until:%Y-%m-%d %H:%M} UTC" if coupon.valid_until else ""
        return f"{begin} {end}".strip() or "always"

    @display(
        description="state", label={"valid": "success", "not yet": "info", "expired": "default", "used up": "warning"}
    )
    def state(self, coupon: Coupon) -> str:
        now = timezone.now()
        if not coupon.active:
            return "switched off"
        if coupon.valid_from is not None and now < coupon.valid_from:
            return "not yet"
        if coupon.valid_until is not None and now >= coupon.valid_until:
            return "expired"
        return "used up" if coupon.total_limit is not None and coupon.redeemed >= coupon.total_limit else "valid"


@admin.register(Redemption)
class RedemptionAdmin(OfCustomers):
    list_display = ("redeemed", "order", "coupon", "customer", "state", "off")
    list_display_links = ("redeemed",)
    list_filter = ("status",)
    list_select_related = ("coupon",)
    ordering = ("-at", "-order_id")
    fields = ("at", "order", "coupon", "customer_id", "state", "off", "version")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Redemption]:
        # Every order leaves a row here once it ends; those that never came with a coupon say nothing.
        return super().get_queryset(request).exclude(status=Status.VOID.value)

    redeemed = time("at", "time")

    @display(
        description="status",
        label={Status.REDEEMED: "success", Status.REFUSED: "danger", Status.RELEASED: "default"},
    )
    def state(self, redemption: Redemption) -> str:
        return redemption.status

    @display(description="discount")
    def off(self, redemption: Redemption) -> str | None:
        if redemption.coupon is None or not redemption.discount:
            return None
        return money(redemption.discount, redemption.coupon.currency)
