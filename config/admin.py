"""Users and groups under the theme of the other pages, and what links the backbone's pages to the shop's."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.http import HttpRequest
from unfold.admin import ModelAdmin
from unfold.decorators import display
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from config.backoffice import order_link
from coupons.events import REDEMPTION
from eventing.admin import DeadLetterAdmin
from eventing.models import DeadLetter
from inventory.events import RESERVATION
from orders.events import CATEGORY as ORDER
from payments.events import CATEGORY as PAYMENT

OF_ORDERS = (ORDER, RESERVATION, REDEMPTION, PAYMENT)

admin.site.index_template = "admin/config/index.html"
admin.site.index_title = "Dashboard"

for model in (User, Group, DeadLetter):
    admin.site.unregister(model)


@admin.register(User)
class UserAdmin(DjangoUserAdmin, ModelAdmin):
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("username", "email", "first_name", "last_name", "is_staff", "date_joined")
    list_filter_sheet = False
    show_full_result_count = False
    change_form_outer_before_template = "admin/config/user_orders.html"

    def get_fieldsets(self, request: HttpRequest, obj: User | None = None) -> Any:
        """Whoever may only look sees who somebody is, and nothing about the password."""
        if obj is None or self.has_change_permission(request, obj):
            return super().get_fieldsets(request, obj)
        person = ("username", "email", ("first_name", "last_name"), ("is_active", "is_staff"), "groups")
        return ((None, {"fields": (*person, ("date_joined", "last_login"))}),)

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> Any:
        fields = super().get_readonly_fields(request, obj)
        return fields if request.user.is_superuser else (*fields, "is_superuser")

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        """A superuser is only changed, and given another password, by one."""
        return super().has_change_permission(request, obj) and _may_touch(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return super().has_delete_permission(request, obj) and _may_touch(request, obj)


def _may_touch(request: HttpRequest, user: User | None) -> bool:
    return user is None or not user.is_superuser or request.user.is_superuser


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin, ModelAdmin):
    """Operators get their permissions from groups."""


@admin.register(DeadLetter)
class ShopDeadLetterAdmin(DeadLetterAdmin):
    """The streams of an order, its reservation, redemption and payments all have the order's id."""

    list_display = (*DeadLetterAdmin.list_display, "order")
    summary = (*DeadLetterAdmin.summary, "order")

    @display(description="order")
    def order(self, letter: DeadLetter) -> str | None:
        return order_link(letter.stream_id if letter.category in OF_ORDERS else None)
