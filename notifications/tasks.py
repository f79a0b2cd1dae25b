"""The background task of notifications. It is asked for after each batch, and periodically for what was missed."""

from celery import shared_task

from notifications import sending


@shared_task(name=sending.TASK)
def send_pending_messages() -> int:
    return sending.send_pending()
