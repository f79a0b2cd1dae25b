"""The background task of notifications. It is asked for after each batch, and periodically for what was missed."""

from django.utils import timezone

from eventing.periodic import periodic
from notifications import sending


@periodic("Send pending messages", every=30, name=sending.TASK)
def send_pending_messages() -> int:
    """Send the mails that are due, first or again; returns how many."""
    sending.give_up_abandoned(timezone.now())
    return sending.send_pending()
