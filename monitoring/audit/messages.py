"""Checks of what customers were told."""

from __future__ import annotations

from typing import Any

from eventing import subscribers
from eventing.databases import time_from_db
from eventing.recorded import Recorded, is_among, short_hash
from monitoring.audit.report import NOTHING, Finding, Scope, case_check
from monitoring.audit.rows import Case, Row
from notifications import handlers as notifications
from notifications.events import CATEGORY as MESSAGE
from notifications.events import MessageFailed, MessageSent


@case_check(
    title="Every event that notifications has handled has its messages, and every message its event.",
    counts="messages",
    hint="`manage.py replay --subscriber notifications --stream STREAM --forget` writes missing messages of the "
    "inbox again; mails are not sent anew. A message about no event was written by hand: delete it.",
)
def messages_for_events(case: Case, scope: Scope) -> Finding:
    """An inbox row of notifications is written together with the messages; what they are about never changes."""
    told = subscribers.get("notifications")
    handled = {(category, version) for _, category, version, name in case.inbox if name == told.name}
    events = {item.id: item for history in case.events.values() for item in history}
    wrong = []
    for recorded in events.values():
        if recorded.recorded_at < scope.horizon:
            continue  # a replay may have handled it just now, and its messages are pruned by the event's age
        if (recorded.category, recorded.version) in handled and told.wants(recorded.event.TYPE):
            in_shop = _message(case, recorded, "inbox")
            mailed = in_shop is not None and in_shop[7]
            if in_shop is None:
                wrong.append(f"inbox about {recorded.id}")
            if mailed and _message(case, recorded, "email") is None:
                wrong.append(f"email about {recorded.id}")
    for (name, channel, event_hash), row in case.messages.items():
        about = events.get(name)
        stored = (*row[3:7], time_from_db(row[8]))
        if about is not None and not is_among(short_hash(about.hash), event_hash or None):
            wrong.append(f"{channel} about another {name}")
        elif not (case.unreadable if about is None else stored == _as_told(about)):
            wrong.append(f"{channel} about {name}")
    return len(case.messages), wrong


def _message(case: Case, about: Recorded[Any], channel: str) -> Row | None:
    """What was told about an event; messages of versions before do not know its hash."""
    return case.messages.get((about.id, channel, about.identity[3])) or case.messages.get((about.id, channel, ""))


def _as_told(recorded: Recorded[Any]) -> tuple[Any, ...]:
    """Whom a message about the event is for, what it is about and when it happened."""
    occasion = notifications.occasion_of(recorded)
    return occasion.customer_id, occasion.about, occasion.order_id, occasion.correlation_id, occasion.at


@case_check(
    title="What became of each mail is what its events say.",
    counts="mails",
    hint="Somebody has changed or deleted a message by hand. Its events say whether it was sent.",
    at_once=True,
)
def mails_match_events(case: Case, scope: Scope) -> Finding:
    """What became of a mail is in the stream that has its number."""
    history = case.history(MESSAGE)
    if case.mail is None:
        return (
            NOTHING  # one that was lost is missed by `messages_for_events`, and a replay queues it under another number
        )
    _, version, status = case.mail
    last = type(history[-1].event) if history else None
    right = version == len(history) and (status == "sent") == (last is MessageSent)
    right = right and (status != "failed" or last is MessageFailed)
    return 1, [] if right or case.unreadable else [case.name(MESSAGE)]


CHECKS = (messages_for_events, mails_match_events)
