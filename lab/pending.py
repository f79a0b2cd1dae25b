"""What of a shop's events is still on its way: a shop is judged when that is nothing."""

from __future__ import annotations

from lab.shell import Shell

PENDING = """
from collections import Counter
from django.conf import settings
from django.db.models import Count
from eventing import queues, subscribers
from eventing.models import DeadLetter, Event, InboxEntry, OutboxMessage
outbox, wanted, done = 0, Counter(), Counter()
for alias in settings.DATABASES:
    outbox += OutboxMessage.objects.using(alias).count()
    for row in Event.objects.using(alias).values("type").annotate(number=Count("*")):
        for subscriber in subscribers.all_subscribers():
            if subscriber.wants(row["type"]):
                wanted[subscriber.name] += row["number"]
    for row in InboxEntry.objects.using(alias).values("subscriber").annotate(number=Count("*")):
        done[row["subscriber"]] += row["number"]
dead = DeadLetter.objects.filter(status="open").count()
ready = sum(depth.messages or 0 for depth in queues.depths(seconds=5))
answer = {"outbox": outbox, "deliveries": sum((wanted - done).values()), "messages": ready, "dead": dead}
"""


def pending(shell: Shell) -> dict[str, int]:
    """Outbox rows, deliveries without an effect, messages in the queues, open dead letters.

    Raises ShellError while a service is away.
    """
    found: dict[str, int] = shell.run(PENDING)
    return found


def unpublished(shell: Shell) -> dict[str, int]:
    """What of `pending` a shop can be asked whose orders are from the past: who has handled those is long forgotten."""
    found = pending(shell)
    del found["deliveries"]
    return found
