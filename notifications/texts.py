"""The words of messages: a text template for each occasion, whose first line is the subject."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.template.loader import render_to_string


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    subject: str
    body: str


def render(about: str, context: dict[str, Any]) -> Text:
    """The text of `notifications/<about>.txt`; raises TemplateDoesNotExist if nobody has written one."""
    head, _, body = render_to_string(f"notifications/{about}.txt", context).strip().partition("\n")
    # A line break in a name must not become a header of the mail.
    return Text(subject=" ".join(head.split()), body=body.strip())


def as_html(text: Text) -> str:
    """The same text as an HTML mail."""
    return render_to_string("notifications/message.html", {"subject": text.subject, "body": text.body}).strip()
