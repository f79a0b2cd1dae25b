"""The back office's pages of events: all that ever happened, one event and where it went, and what is still to go.

They are no model admins: an event's key has three columns, and the rows are spread over all databases.
"""

from __future__ import annotations

from typing import Any

from django import forms
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from django.utils.http import urlencode

from backoffice import keyset
from backoffice.base import ListFilter, order_link, render_page
from eventing import browser, registry
from eventing.browser import Key
from eventing.recorded import event_id, stream_name
from inventory.events import PRODUCT
from notifications.events import CATEGORY as MESSAGE
from sharding import numbers
from timeline.json_html import pretty_json
from values.contexts import order_streams

PAGE_SIZE = 50
OUTBOX_ROWS = 20
SUBJECTS = {PRODUCT: "inventory_product", MESSAGE: "notifications_message"}


def time_input() -> forms.DateTimeInput:
    return forms.DateTimeInput(format="%Y-%m-%dT%H:%M", attrs={"type": "datetime-local"})


def type_choices() -> list[tuple[str, str]]:
    return [("", "All types"), *((one, one) for one in sorted(one.TYPE for one in registry.event_classes()))]


class EventFilter(ListFilter):
    """Times are in UTC."""

    type = forms.ChoiceField(required=False, choices=type_choices)
    stream = forms.CharField(required=False, max_length=80, label="Stream, event or order number")
    since = forms.DateTimeField(required=False, widget=time_input(), label="Recorded from")
    until = forms.DateTimeField(required=False, widget=time_input(), label="Recorded before")

    def clean_stream(self) -> tuple[str, int, int] | None:
        text = self.cleaned_data["stream"]
        if not text:
            return None
        if (found := browser.parse(text)) is not None:
            return found
        try:
            return "", numbers.parse(text), 0
        except numbers.InvalidOrderNumber:
            raise forms.ValidationError("Neither a stream, nor an event, nor an order has such a name.") from None

    def filters(self) -> dict[str, Any]:
        values = self.cleaned_data
        category, stream_id, _ = values.get("stream") or ("", None, 0)
        chosen = {
            "type": values.get("type"),
            "category": category,
            "stream_id": stream_id,
            "recorded_at__gte": values.get("since"),
            "recorded_at__lt": values.get("until"),
        }
        return {name: value for name, value in chosen.items() if value not in ("", None)}


def sees_events(request: HttpRequest) -> bool:
    return request.user.has_perm("eventing.view_event")


def sees_outbox(request: HttpRequest) -> bool:
    return request.user.has_perm("eventing.view_outboxmessage")


def events(request: HttpRequest) -> HttpResponse:
    """The events of all databases, newest first."""
    narrow = EventFilter(request.GET)
    chosen = narrow.filters()
    stream = narrow.cleaned_data.get("stream")
    if stream and stream[2]:
        return HttpResponseRedirect(reverse("event", args=[event_id(*stream)]))
    page = browser.newest(chosen, before=_cursor(request.GET.get("before", "")), limit=PAGE_SIZE + 1)
    shown = page.items[:PAGE_SIZE]
    filters = narrow.parameters()
    context = {
        "rows": shown,
        "unavailable": page.unavailable,
        "filter": narrow,
        "filters": filters,
        "first": f"?{urlencode(filters)}" if "before" in request.GET else None,
        "older": f"?{urlencode({**filters, 'before': _written(shown[-1].key)})}"
        if len(page.items) > PAGE_SIZE
        else None,
    }
    return render_page(request, "eventing/events", "Events", context)


def event(request: HttpRequest, name: str) -> HttpResponse:
    """One event: what it says, what caused it, what it caused, and where it has gone."""
    key = browser.parse(name)
    journey = browser.journey(*key) if key else None
    if journey is None or key is None:
        raise Http404(f"There is no event {name}.")
    category, stream_id, version = key
    cause = journey.event.metadata.get("causation_id") or ""
    context = {
        "journey": journey,
        "event": journey.event,
        "stream": stream_name(category, stream_id),
        "previous": event_id(category, stream_id, version - 1) if version > 1 else None,
        "cause": cause if browser.parse(cause) else None,
        "data": pretty_json(journey.event.data),
        "metadata": pretty_json(journey.event.metadata),
        "order": order_link(stream_id)
        if category in order_streams() and request.user.has_perm("orders.view_order")
        else None,
        "subject": reverse(f"admin:{SUBJECTS[category]}_change", args=[stream_id]) if category in SUBJECTS else None,
        "bucket": numbers.bucket_of(stream_id) if category in order_streams() else None,
    }
    return render_page(request, "eventing/event", journey.event.type, context)


def outbox(request: HttpRequest) -> HttpResponse:
    """What is committed and not yet published, database by database."""
    context = {"outboxes": browser.outboxes(limit=OUTBOX_ROWS), "now": timezone.now()}
    return render_page(request, "eventing/outbox", "Outbox", context)


def _written(key: Key) -> str:
    at, stream_id, category, version = key
    return f"{keyset.written(at)}{keyset.SEPARATOR}{event_id(category, stream_id, version)}"


def _cursor(text: str) -> Key | None:
    microseconds, _, name = text.partition(keyset.SEPARATOR)
    key = browser.parse(name)
    try:
        return None if key is None else (keyset.read(microseconds), key[1], key[0], key[2])
    except (ValueError, OverflowError):
        return None
