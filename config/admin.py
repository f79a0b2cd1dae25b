"""Users and groups under the theme of the other pages, and what links the backbone's pages to the shop's."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
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
