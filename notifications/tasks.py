"""The background task of notifications. It is asked for after each batch, and periodically for what was missed."""

from celery import shared_task
from django.utils import timezone

from eventing.periodic import left_to_the_next_run
from notifications import sending


@shared_task(name=sending.TASK)
@left_to_the_next_run
def send_pending_messages() -> int:
    """Send the mails that are due, first or again; returns how many."""
    sending.give_up_abandoned(timezone.now())
    return sending.send_pending()
