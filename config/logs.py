"""Logging: one line an event, JSON where programs read it. All lines have a correlation id and bounded fields."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import structlog

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


SHARED_PROCESSORS: list[Any] = [
    structlog.contextvars.merge_contextvars,
    correlate,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
]
# Celery logs the end of each task as well as its arrival.
QUIET = ("django.db.backends", "django_structlog", "amqp", "celery.worker.strategy")


def configure(level: str, *, for_people: bool) -> dict[str, Any]:
    """Set structlog up, and return what Django's LOGGING is to be."""
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *SHARED_PROCESSORS,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    formatter = {
        "()": structlog.stdlib.ProcessorFormatter,
        "processors": [
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            cut,
            structlog.dev.ConsoleRenderer() if for_people else structlog.processors.JSONRenderer(),
        ],
        "foreign_pre_chain": SHARED_PROCESSORS,
    }
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"structlog": formatter},
        "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "structlog"}},
        "root": {"handlers": ["console"], "level": level},
        "loggers": {
            "django": {"handlers": []},  # its own would write each line a second time, in another form
            **{name: {"level": "WARNING"} for name in QUIET},
        },
    }
