"""The background task of notifications. It is asked for after each batch, and periodically for what was missed."""

from eventing import clocks
from eventing.periodic import periodic
from notifications import sending
from notifications.mailbox import prune_files
from sharding.router import database_of


@periodic("Send pending messages", every=30, name=sending.TASK)
def send_pending_messages() -> int:
    """Send the mails that are due, first or again; returns how many."""
    sending.give_up_abandoned(clocks.database_time(database_of("notifications")))
    return sending.send_pending()


@periodic("Prune mail files", at=(2, 50), name="notifications.prune_mail_files")
def prune_mail_files() -> int:
    """Delete mails that were written to files instead of being sent, after a while; returns how many."""
    return prune_files(clocks.database_time())
