"""Events, the outbox and dead letters for operators: what failed and why, to be edited, redriven or archived."""

from __future__ import annotations

from time import monotonic
from typing import Any

from django.contrib import admin, messages
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.decorators import display

from backoffice.base import ReadOnlyList, guarded, order_link, render_page, time
from backoffice.eventing import events, pages
from eventing import deadletters
from eventing.databases import give_back_connections
from eventing.errors import NotRedrivable
from eventing.models import DeadLetter
from eventing.publishing import PATIENCE_SECONDS, Publisher
from timeline.json_html import pretty_json
from values.contexts import order_streams
from values.text import InvalidText, Text

ACTION_SECONDS = 10.0
NOTE = Text(longest=500)  # of an operator


urlpatterns = [
    path("eventing/event/", guarded(events.events, events.sees_events), name="events"),
    path("eventing/event/<str:name>/", guarded(events.event, events.sees_events), name="event"),
    path("eventing/outbox/", guarded(events.outbox, events.sees_outbox), name="outbox"),
]


@admin.register(DeadLetter)
class DeadLetterAdmin(ReadOnlyList):
    """The admin's own form edits nothing; the actions and the pages beside it ask for the permission to change."""

    list_display = ("failed", "event_type", "event", "subscriber", "short_error", "attempts", "state", "order")
    list_display_links = ("failed", "event_type")
    list_filter = ("status", "subscriber", "type", "error")
    list_before_template = "admin/eventing/deadletter/summary.html"
    search_fields = ("stream_id", "type", "message")
    search_help_text = "Type or message"
    ordering = ("-failed_at", "-id")
    actions = ("redrive", "archive")
    change_form_outer_before_template = "admin/eventing/deadletter/settle.html"
    summary = ("state", "subscriber", "attempts", "failed_at", "settled_at", "order")

    def get_urls(self) -> list[URLPattern]:
        return [*pages.urls(self), *super().get_urls()]

    def get_fieldsets(self, request: HttpRequest, obj: Model | None = None) -> Any:
        event = ("event", "type", "schema_version", "recorded_at", "event_data", "event_metadata")
        return (
            (None, {"fields": self.summary}),
            ("Why it failed", {"fields": ("error", "message", "trace")}),
            ("The event", {"fields": (*event, "edited") if getattr(obj, "original", None) else event}),
            ("Actions", {"fields": ("done",)}),
        )

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        deadletters.note_handled(self.list_per_page)
        return super().changelist_view(request, {**pages.summary(request), **(extra_context or {})})

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        deadletters.note_handled(self.list_per_page)
        return super().change_view(request, object_id, form_url, extra_context)

    failed = time("failed_at", "failed")

    @display(description="event")
    def event_type(self, dead_letter: DeadLetter) -> str:
        return dead_letter.type

    @display(description="id")
    def event(self, dead_letter: DeadLetter) -> str:
        if dead_letter.category == deadletters.UNREADABLE:
            return format_html('<span class="bo-number">{}</span>', dead_letter.event_id)
        url = reverse("event", args=[dead_letter.event_id])
        return format_html('<a class="bo-number" href="{}">{}</a>', url, dead_letter.event_id)

    @display(description="order")
    def order(self, dead_letter: DeadLetter) -> str | None:
        return order_link(dead_letter.stream_id if dead_letter.category in order_streams() else None)

    @display(description="error")
    def short_error(self, dead_letter: DeadLetter) -> str:
        return format_html('<span title="{}">{}</span>', dead_letter.message, dead_letter.error)

    @display(
        description="status",
        label={
            DeadLetter.Status.OPEN: "danger",
            DeadLetter.Status.REDRIVEN: "info",
            DeadLetter.Status.HANDLED: "success",
            DeadLetter.Status.ARCHIVED: "default",
        },
    )
    def state(self, dead_letter: DeadLetter) -> str:
        return dead_letter.status

    @display(description="traceback")
    def trace(self, dead_letter: DeadLetter) -> str:
        return format_html('<pre class="bo-pre">{}</pre>', dead_letter.traceback)

    @display(description="data")
    def event_data(self, dead_letter: DeadLetter) -> str:
        return pretty_json(dead_letter.data)

    @display(description="metadata")
    def event_metadata(self, dead_letter: DeadLetter) -> str:
        return pretty_json(dead_letter.metadata)

    @display(description="edited (- as it came, + as it is now)")
    def edited(self, dead_letter: DeadLetter) -> str:
        return format_html('<pre class="bo-pre">{}</pre>', pages.difference(dead_letter))

    @display(description="actions")
    def done(self, dead_letter: DeadLetter) -> SafeString | str:
        rows = [
            (entry["at"][:19].replace("T", " "), entry["by"], entry["did"], entry["note"])
            for entry in dead_letter.history
        ]
        return format_html_join(SafeString("<br>"), "{} UTC · {} · {} {}", rows) or "Nothing so far."

    @admin.action(description="Redrive: send to the subscriber again", permissions=["settle"])
    def redrive(self, request: HttpRequest, queryset: QuerySet[DeadLetter]) -> None:
        sent = []
        until = monotonic() + ACTION_SECONDS
        dead_letters = list(queryset.order_by("id"))
        with Publisher(seconds=PATIENCE_SECONDS) as publisher:
            try:
                for dead_letter in dead_letters:
                    if monotonic() > until:
                        messages.warning(request, "That took too long. The others were not sent.")
                        break
                    give_back_connections()  # whoever waits for the broker keeps none from others
                    try:
                        deadletters.redrive(dead_letter, publisher, by=request.user.get_username())
                    except NotRedrivable as error:
                        messages.warning(request, f"{dead_letter} was not sent: {error}.")
                    else:
                        sent.append(dead_letter)
            except publisher.errors as error:
                messages.error(request, f"The broker does not answer: {error}")
        for dead_letter in sent:
            self.log_change(request, dead_letter, "Redriven.")
        if sent:
            messages.success(request, f"{_letters(len(sent))} sent to the subscriber again.")

    @admin.action(description="Archive: the effect is not wanted any more", permissions=["settle"])
    def archive(self, request: HttpRequest, queryset: QuerySet[DeadLetter]) -> HttpResponse | None:
        dead_letters = list(queryset.order_by("id"))
        try:
            reason = NOTE.clean(request.POST.get("reason", ""))
        except InvalidText as error:
            if "reason" in request.POST:
                messages.error(request, f"The reason was not taken: {error}.")
            context = {"dead_letters": dead_letters, "longest": NOTE.longest}
            return render_page(request, "eventing/deadletter/archive", "Archive dead letters", context, of=self)
        for dead_letter in dead_letters:
            deadletters.archive(dead_letter, by=request.user.get_username(), reason=reason)
            self.log_change(request, dead_letter, f"Archived: {reason}")
        messages.success(request, f"{_letters(len(dead_letters))} archived.")
        return None

    def has_settle_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("eventing.change_deadletter")


def _letters(count: int) -> str:
    return "1 dead letter was" if count == 1 else f"{count} dead letters were"
