"""What a browser sends of a form that it was shown."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

from django.http import HttpResponse
from django.test import Client


class _Form(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.fields: dict[str, list[str]] = {}
        self._select = self._textarea = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        name, value = values.get("name") or "", values.get("value") or ""
        match tag:
            case "select":
                self._select = name
            case "option" if "selected" in values and self._select:
                self.fields.setdefault(self._select, []).append(value)
            case "textarea":
                self._textarea = name
                self.fields[name] = [""]
            case "input" if name:
                kind = values.get("type", "text")
                if kind in ("submit", "file") or (kind in ("checkbox", "radio") and "checked" not in values):
                    return
                self.fields.setdefault(name, []).append(value or ("on" if kind == "checkbox" else ""))

    def handle_endtag(self, tag: str) -> None:
        if tag in ("select", "textarea"):
            self._select = self._textarea = ""

    def handle_data(self, data: str) -> None:
        if self._textarea:
            self.fields[self._textarea] = [data.removeprefix("\r\n").removeprefix("\n")]


def shown(page: HttpResponse) -> dict[str, Any]:
    """The fields of all forms of a page with their values, as they are before anybody types."""
    parser = _Form()
    parser.feed(page.content.decode())
    return {name: values for name, values in parser.fields.items() if not name.startswith(("csrf", "q"))}


def opened(client: Client, path: str) -> dict[str, Any]:
    """The fields that tell with which values the form at `path` was opened."""
    return {name: values for name, values in shown(client.get(path)).items() if "initial-" in name}
