"""Dead letters for operators: what failed and why, to be repaired, sent once more or put aside."""

from __future__ import annotations

import time
from typing import Any

from django.contrib import admin, messages
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.decorators import display

from backoffice.deadletters import pages
from eventing import deadletters
from eventing.databases import give_back_connections
from eventing.errors import NotRedrivable
from eventing.models import DeadLetter
from eventing.publishing import PATIENCE_SECONDS, Publisher
from timeline.json_html import pretty_json
from values.filters import stamp
from values.text import InvalidText, Text

ACTION_SECONDS = 10.0
NOTE = Text(longest=500)  # of an operator


@admin.register(DeadLetter)
class DeadLetterAdmin(ModelAdmin):
    """The admin's own form edits nothing; the actions and the pages beside it ask for the permission to change."""

    list_display: tuple[str, ...] = ("failed", "event_type", "event", "subscriber", "short_error", "attempts", "state")
    list_display_links = ("failed", "event_type")
    list_filter = ("status", "subscriber", "type", "error")
    list_filter_sheet = False
    list_per_page = 50
    list_before_template = "admin/eventing/deadletter/summary.html"
    search_fields = ("stream_id", "type", "message")
    search_help_text = "Type or message"
    ordering = ("-failed_at", "-id")
    actions = ("redrive", "archive")
    change_form_outer_before_template = "admin/eventing/deadletter/settle.html"
    summary: tuple[str, ...] = ("state", "subscriber", "attempts", "failed_at", "settled_at")

    def get_urls(self) -> list[URLPattern]:
        return [*pages.urls(self), *super().get_urls()]

    def get_fieldsets(self, request: HttpRequest, obj: Model | None = None) -> Any:
        event = ("event", "type", "schema_version", "recorded_at", "event_data", "event_metadata")
        return (
            (None, {"fields": self.summary}),
            ("Why it failed", {"fields": ("error", "message", "trace")}),
            ("The event", {"fields": (*event, "edited") if getattr(obj, "original", None) else event}),
            ("What was done about it", {"fields": ("done",)}),
        )

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        deadletters.note_handled(self.list_per_page)
        return super().changelist_view(request, {**pages.summary(request), **(extra_context or {})})

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        deadletters.note_handled(self.list_per_page)
        return super().change_view(request, object_id, form_url, extra_context)

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
            DeadLetter.Status.HANDLED: "success",
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

    @display(description="edited (- as it came, + as it is now)")
    def edited(self, letter: DeadLetter) -> str:
        return format_html('<pre class="bo-pre">{}</pre>', pages.difference(letter))

    @display(description="actions")
    def done(self, letter: DeadLetter) -> SafeString | str:
        rows = [
            (entry["at"][:19].replace("T", " "), entry["by"], entry["did"], entry["note"]) for entry in letter.history
        ]
        return format_html_join(SafeString("<br>"), "{} UTC · {} · {} {}", rows) or "Nothing so far."

    @admin.action(description="Redrive: send to the subscriber once more", permissions=["settle"])
    def redrive(self, request: HttpRequest, queryset: QuerySet[DeadLetter]) -> None:
        sent = []
        until = time.monotonic() + ACTION_SECONDS
        letters = list(queryset.order_by("id"))
        with Publisher(seconds=PATIENCE_SECONDS) as publisher:
            try:
                for letter in letters:
                    if time.monotonic() > until:
                        messages.warning(request, "That took too long for a page. The others are as they were.")
                        break
                    give_back_connections()  # whoever waits for the broker keeps none from others
                    try:
                        deadletters.redrive(letter, publisher, by=request.user.get_username())
                    except NotRedrivable as error:
                        messages.warning(request, f"{letter} was not sent: {error}.")
                    else:
                        sent.append(letter)
            except publisher.errors as error:
                messages.error(request, f"The broker does not answer: {error}")
        for letter in sent:
            self.log_change(request, letter, "Redriven.")
        if sent:
            messages.success(request, f"{_letters(len(sent))} sent to the subscriber once more.")

    @admin.action(description="Archive: the effect is not wanted any more", permissions=["settle"])
    def archive(self, request: HttpRequest, queryset: QuerySet[DeadLetter]) -> HttpResponse | None:
        letters = list(queryset.order_by("id"))
        try:
            reason = NOTE.clean(request.POST.get("reason", ""))
        except InvalidText as error:
            if "reason" in request.POST:
                messages.error(request, f"The reason was not taken: {error}.")
            return TemplateResponse(request, "admin/eventing/deadletter/archive.html", self._asking(request, letters))
        for letter in letters:
            deadletters.archive(letter, by=request.user.get_username(), reason=reason)
            self.log_change(request, letter, f"Archived: {reason}")
        messages.success(request, f"{_letters(len(letters))} archived.")
        return None

    def _asking(self, request: HttpRequest, letters: list[DeadLetter]) -> dict[str, Any]:
        context: dict[str, Any] = self.admin_site.each_context(request)
        return {
            **context,
            "opts": self.opts,
            "title": "Archive dead letters",
            "letters": letters,
            "longest": NOTE.longest,
        }

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
