"""Users and groups for operators, and what operators have done."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.models import ADDITION, CHANGE, LogEntry
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, Permission, User
from django.db.models import QuerySet
from django.forms import ModelForm
from django.http import HttpRequest
from django.utils.html import format_html
from unfold.decorators import display
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
from unfold.widgets import UnfoldAdminTextInputWidget

from accounts.identity import AccountNameField
from accounts.registration import PERSON_NAME
from backoffice import rights
from backoffice.base import ReadOnlyList, time
from backoffice.editing import EditableModelAdmin
from values.fields import TextField
from values.text import Text

GROUP_NAME = Text(longest=150)

admin.site.unregister((User, Group))


class NewPersonForm(UserCreationForm):
    class Meta(UserCreationForm.Meta):
        field_classes = {"username": AccountNameField}


class PersonForm(UserChangeForm):
    class Meta(UserChangeForm.Meta):
        field_classes = {"username": AccountNameField}

    first_name = TextField(PERSON_NAME, required=False, widget=UnfoldAdminTextInputWidget)
    last_name = TextField(PERSON_NAME, required=False, widget=UnfoldAdminTextInputWidget)


@admin.register(User)
class UserAdmin(DjangoUserAdmin, EditableModelAdmin):
    form = PersonForm
    add_form = NewPersonForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("username", "email", "first_name", "last_name", "is_staff", "date_joined")
    list_filter_sheet = False
    change_form_outer_before_template = "admin/backoffice/user_orders.html"

    def get_fieldsets(self, request: HttpRequest, obj: User | None = None) -> Any:
        """Whoever may only look sees who somebody is, and nothing about the password."""
        if obj is None or self.has_change_permission(request, obj):
            return super().get_fieldsets(request, obj)
        person = ("username", "email", ("first_name", "last_name"), ("is_active", "is_staff"), "groups")
        return ((None, {"fields": (*person, ("date_joined", "last_login"))}),)

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> Any:
        # When somebody signed in is written by signing in, and would be written back as it was.
        fields = (*super().get_readonly_fields(request, obj), "last_login", "date_joined")
        return fields if request.user.is_superuser else (*fields, "is_superuser")

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        """Whoever may do more than the operator is not changed, nor given another password, by them."""
        return super().has_change_permission(request, obj) and (
            obj is None or rights.may_change_user(request.user, obj)
        )

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return super().has_delete_permission(request, obj) and (
            obj is None or rights.may_change_user(request.user, obj)
        )

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        return super().formfield_for_manytomany(db_field, request, **_givable(db_field, request), **kwargs)


def _givable(db_field: Any, request: HttpRequest | None) -> dict[str, Any]:
    """What can be chosen: the permissions and groups that the operator may hand on."""
    if request is None:
        return {}
    if db_field.name == "groups":
        return {"queryset": rights.groups_within(request.user)}
    return {"queryset": Permission.objects.filter(pk__in=rights.held_by(request.user).values("pk"))}


class GroupForm(ModelForm):
    name = TextField(GROUP_NAME, widget=UnfoldAdminTextInputWidget)


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin, EditableModelAdmin):
    """Operators get their permissions from groups."""

    form = GroupForm

    def get_queryset(self, request: HttpRequest) -> QuerySet[Group]:
        return super().get_queryset(request).prefetch_related("permissions__content_type")  # which their texts name

    def has_change_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        return super().has_change_permission(request, obj) and (
            obj is None or rights.may_change_group(request.user, obj)
        )

    def has_delete_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        return super().has_delete_permission(request, obj) and (
            obj is None or rights.may_change_group(request.user, obj)
        )

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest | None = None, **kwargs: Any) -> Any:
        return super().formfield_for_manytomany(db_field, request, **_givable(db_field, request), **kwargs)


@admin.register(LogEntry)
class LogEntryAdmin(ReadOnlyList):
    """What operators have done in the back office."""

    list_display = ("at", "operator", "action", "what", "message")
    list_display_links = ("at",)
    list_filter = ("action_flag", "content_type")
    list_select_related = ("user", "content_type")
    search_fields = ("user__username", "object_repr", "object_id")
    search_help_text = "Operator, or name or number of what was changed"
    ordering = ("-id",)
    fields = ("action_time", "operator", "action", "what", "content_type", "message")

    def get_queryset(self, request: HttpRequest) -> QuerySet[LogEntry]:
        return super().get_queryset(request).select_related("user", "content_type")

    at = time("action_time", "time")

    @display(description="operator")
    def operator(self, entry: LogEntry) -> str:
        return entry.user.get_username()

    @display(description="action", label={"added": "success", "changed": "info", "deleted": "danger"})
    def action(self, entry: LogEntry) -> str:
        return {ADDITION: "added", CHANGE: "changed"}.get(entry.action_flag, "deleted")

    @display(description="what")
    def what(self, entry: LogEntry) -> str:
        url = entry.get_admin_url()
        if url is None or entry.is_deletion():
            return entry.object_repr
        return format_html('<a class="bo-link" href="{}">{}</a>', url, entry.object_repr)

    @display(description="message")
    def message(self, entry: LogEntry) -> str:
        return str(entry.get_change_message())
