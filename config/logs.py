"""What all log lines have in common: the id under which an event's causes and effects are found, and bounded fields."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

LONGEST = 500
LONGEST_TRACEBACK = 20_000  # the cause of a failure is worth more than a path


def correlate(logger: Any, method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A processor of structlog. The events that a request sets off have its id as their correlation id."""
    if "request_id" in fields:
        fields.setdefault("correlation_id", fields["request_id"])
    return fields


def cut(logger: Any, method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A processor of structlog, the last one before a line is written: what strangers send ends up in some fields."""
    for name, value in fields.items():
        limit = LONGEST_TRACEBACK if name in ("exception", "stack") else LONGEST
        if isinstance(value, str):
            if len(value) > limit:
                fields[name] = f"{value[:limit]}… ({len(value)} characters)"
        elif not isinstance(value, bool | int | float | None) and len(text := repr(value)) > limit:
            fields[name] = f"{text[:limit]}… ({len(text)} characters)"
    return fields
