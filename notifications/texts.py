"""The words of messages: a text template for each occasion, whose first line is the subject."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.template.loader import render_to_string

from sharding import numbers

ORDER_PAGE = "/orders/{}/"  # of the shop, which this context does not know


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    subject: str
    body: str


def render(about: str, context: dict[str, Any]) -> Text:
    """The text of `notifications/<about>.txt`; raises TemplateDoesNotExist if nobody has written one."""
    head, _, body = render_to_string(f"notifications/{about}.txt", context).strip().partition("\n")
    # A line break in a name must not become a header of the mail.
    return Text(subject=" ".join(head.split()), body=body.strip())


def order_page(order_id: int) -> str:
    """The address of an order's page, for who is elsewhere."""
    return f"{settings.PUBLIC_URL}{ORDER_PAGE.format(numbers.to_text(order_id))}"


def with_link(body: str, link: str) -> str:
    return f"{body}\n\nSee your order: {link}" if link else body


def as_html(text: Text, link: str) -> str:
    """The same text as an HTML mail; without a link, if that is empty."""
    context = {"subject": text.subject, "body": text.body, "link": link}
    return render_to_string("notifications/message.html", context).strip()
