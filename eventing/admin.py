"""Dead letters for operators: what failed and why, to be sent once more or put aside."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from unfold.admin import ModelAdmin
from unfold.decorators import display

from eventing import deadletters
from eventing.html import pretty_json, stamp
from eventing.models import DeadLetter
from eventing.publishing import Publisher


@admin.register(DeadLetter)
class DeadLetterAdmin(ModelAdmin):
    """Nothing is edited here, so the page has no form; the actions ask for the permission to change."""

    list_display: tuple[str, ...] = ("failed", "event_type", "event", "subscriber", "short_error", "attempts", "state")
    list_display_links = ("failed", "event_type")
    list_filter = ("status", "subscriber", "type", "error")
    list_filter_sheet = False
    list_per_page = 50
    search_fields = ("stream_id", "type", "message")
    search_help_text = "Type or message"
    ordering = ("-failed_at", "-id")
    actions = ("redrive", "archive")
    change_form_outer_before_template = "admin/eventing/deadletter/settle.html"
    summary: tuple[str, ...] = ("state", "subscriber", "attempts", "failed_at", "settled_at")

    def get_fieldsets(self, request: HttpRequest, obj: Model | None = None) -> Any:
        event = ("event", "type", "schema_version", "recorded_at", "event_data", "event_metadata")
        return (
            (None, {"fields": self.summary}),
            ("Why it failed", {"fields": ("error", "message", "trace")}),
            ("The event", {"fields": event}),
        )

    @display(description="failed", ordering="failed_at")
    def failed(self, letter: DeadLetter) -> str | None:
        return stamp(letter.failed_at)

    @display(description="event", ordering="type")
    def event_type(self, letter: DeadLetter) -> str:
        return letter.type

    @display(description="id")
    def event(self, letter: DeadLetter) -> str:
        return format_html('<span class="bo-number">{}</span>', letter.event_id)

    @display(description="error", ordering="error")
    def short_error(self, letter: DeadLetter) -> str:
        return format_html('<span title="{}">{}</span>', letter.message, letter.error)

    @display(
        description="status",
        ordering="status",
        label={
            DeadLetter.Status.OPEN: "danger",
            DeadLetter.Status.REDRIVEN: "info",
            DeadLetter.Status.ARCHIVED: "default",
        },
    )
    def state(self, letter: DeadLetter) -> str:
        return letter.status

    @display(description="traceback")
    def trace(self, letter: DeadLetter) -> str:
        return format_html('<pre class="bo-pre">{}</pre>', letter.traceback)

    @display(description="data")
    def event_data(self, letter: DeadLetter) -> str:
        return pretty_json(letter.data)

    @display(description="metadata")
    def event_metadata(self, letter: DeadLetter) -> str:
        return pretty_json(letter.metadata)

    @admin.action(description="Redrive: send to the subscriber once more", permissions=["settle"])
    def redrive(self, request: HttpRequest, queryset: QuerySet[DeadLetter]) -> None:
        sent = 0
        with Publisher() as publisher:
            try:
                for letter in queryset.order_by("id").iterator():
                    deadletters.redrive(letter, publisher)
                    sent += 1
            except publisher.errors as error:
                messages.error(request, f"The broker does not answer: {error}")
        if sent:
            messages.success(request, f"{_letters(sent)} sent to the subscriber once more.")

    @admin.action(description="Archive: the effect is not wanted any more", permissions=["settle"])
    def archive(self, request: HttpRequest, queryset: QuerySet[DeadLetter]) -> None:
        archived = 0
        for letter in queryset.order_by("id").iterator():
            deadletters.archive(letter)
            archived += 1
        messages.success(request, f"{_letters(archived)} archived.")

    def has_settle_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("eventing.change_deadletter")

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return request.user.has_perm("eventing.view_deadletter") or self.has_settle_permission(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


def _letters(count: int) -> str:
    return "1 dead letter was" if count == 1 else f"{count} dead letters were"
