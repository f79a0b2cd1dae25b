"""JSON as it is shown on a page."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

_TOKENS = re.compile(r'("(?:\\.|[^"\\])*")(?=(\s*:)?)|\b(?:true|false|null)\b|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?')


def pretty_json(data: Any) -> SafeString:
    """JSON as an indented block, in which keys, texts and other values are told apart by their class."""
    text = json.dumps(data, indent=2, ensure_ascii=False)
    return format_html('<pre class="bo-json">{}</pre>', format_html_join("", "{}{}", _pieces(text)))


def _pieces(text: str) -> Iterator[tuple[str, SafeString]]:
    """The text in front of each token, and the token."""
    end = 0
    for token in _TOKENS.finditer(text):
        kind = ("key" if token[2] else "text") if token[1] else "value"
        yield text[end : token.start()], format_html('<span class="bo-json-{}">{}</span>', kind, token[0])
        end = token.end()
    yield text[end:], SafeString("")
