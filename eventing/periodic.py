"""Periodic tasks find what is to be done in the databases, so what one run cannot do is done by the next."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec

import structlog
from django.db import InterfaceError, OperationalError

P = ParamSpec("P")

logger = structlog.get_logger(__name__)


def left_to_the_next_run(work: Callable[P, int]) -> Callable[P, int]:
    """Answer 0 when a database is lost in the middle: the broker would keep the failed task as a dead letter."""

    @functools.wraps(work)
    def run(*args: P.args, **kwargs: P.kwargs) -> int:
        try:
            return work(*args, **kwargs)
        except (OperationalError, InterfaceError) as error:
            logger.warning("database.skipped", task=work.__name__, error=str(error))
            return 0

    return run
