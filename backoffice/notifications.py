"""Messages to customers, for operators, as they were sent."""

from __future__ import annotations

from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from unfold.decorators import display

from backoffice.base import OfCustomers, time
from notifications import sending
from notifications.models import Message


@admin.register(Message)
class MessageAdmin(OfCustomers):
    list_display = ("created", "subject", "kind", "customer", "state", "order")
    list_display_links = ("created", "subject")
    list_filter = ("channel", "status", "about")
    ordering = ("-id",)
    actions = ("send_again",)
    fieldsets = (
        (None, {"fields": ("subject", ("customer_link", "recipient"), ("kind", "state"), "order")}),
        ("As it was sent", {"fields": ("text", "mail")}),
        (
            "Sending",
            {
                "fields": (
                    ("created_at", "sent_at", "read_at"),
                    ("attempts", "next_attempt_at", "claimed_at"),
                    "last_error",
                    ("event_id", "correlation_id"),
                )
            },
        ),
    )

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Message | None:
        """With its customer, for whom the page asks several times."""
        message: Message | None = super().get_object(request, object_id, from_field)
        if message is not None:
            vars(message)["customer"] = User.objects.filter(pk=message.customer_id).first()
        return message

    created = time("created_at", "created")
    customer_link = OfCustomers.customer

    @display(description="channel", label={"Email": "primary", "Inbox": "info"})
    def kind(self, message: Message) -> str:
        return message.get_channel_display()

    @display(
        description="status", label={"Pending": "info", "Sending": "warning", "Sent": "success", "Failed": "danger"}
    )
    def state(self, message: Message) -> str:
        return message.get_status_display()

    @display(description="text")
    def text(self, message: Message) -> str:
        return format_html('<pre class="bo-pre">{}</pre>', message.body)

    @display(description="mail")
    def mail(self, message: Message) -> str | None:
        if not message.html:
            return None
        # Without any permission, the mail can neither run scripts nor look at this page.
        return format_html('<iframe class="bo-mail" sandbox srcdoc="{}" title="The mail"></iframe>', message.html)

    @admin.action(description="Send again: mails that failed", permissions=["send"])
    def send_again(self, request: HttpRequest, queryset: QuerySet[Message]) -> None:
        count = sending.send_again(queryset.values_list("id", flat=True))
        if count:
            messages.success(request, f"{count} mail{'' if count == 1 else 's'} queued again.")
        else:
            messages.warning(request, "None of these mails has failed.")

    def has_send_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("notifications.change_message")
