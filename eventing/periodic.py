"""Periodic tasks find what is to be done in databases and queues, so what one run cannot do is done by the next."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec

import structlog
from django.db import InterfaceError, OperationalError

from eventing.queues import BrokerUnavailable

P = ParamSpec("P")

logger = structlog.get_logger(__name__)


def left_to_the_next_run(work: Callable[P, int]) -> Callable[P, int]:
    """Answer 0 when a database or the broker is lost in the middle: a task that fails becomes a dead letter."""

    @functools.wraps(work)
    def run(*args: P.args, **kwargs: P.kwargs) -> int:
        try:
            return work(*args, **kwargs)
        except (OperationalError, InterfaceError, BrokerUnavailable) as error:
            logger.warning("task.left_to_the_next_run", task=work.__name__, error=str(error))
            return 0

    return run
