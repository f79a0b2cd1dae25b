"""What the audit checks of messages."""

from datetime import datetime

from values.contexts import Found, Promise, rows_in, rows_of


def messages_once(alias: str, until: datetime) -> Found:
    twice = rows_of(
        alias,
        "SELECT event_id, channel FROM notifications_message GROUP BY event_id, channel"
        " HAVING count(*) > count(DISTINCT event_hash) OR count(*) > 1 AND min(event_hash) = ''"
        " ORDER BY event_id, channel",
    )
    return rows_in(alias, "notifications_message"), [f"{channel} about {event}" for event, channel in twice]


PROMISES = (
    Promise(
        name="messages_once",
        title="A customer is notified of an event once on each channel.",
        counts="messages",
        hint="The database refuses this, so somebody has dropped a constraint: delete the later one, and add it again.",
        find=messages_once,
        at_once=True,
    ),
)
