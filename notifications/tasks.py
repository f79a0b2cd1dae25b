"""The background task of notifications. It is asked for after each batch, and periodically for what was missed."""

import structlog
from celery import shared_task
from django.db import InterfaceError, OperationalError
from django.utils import timezone

from notifications import sending

logger = structlog.get_logger(__name__)


@shared_task(name=sending.TASK)
def send_pending_messages() -> int:
    """Send the mails that are due, first or again; returns how many. Without its database the next run does it."""
    try:
        sending.give_up_abandoned(timezone.now())
        return sending.send_pending()
    except (OperationalError, InterfaceError) as error:
        logger.warning("database.skipped", task="send_pending_messages", error=str(error))
        return 0
