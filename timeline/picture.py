"""The timeline of an order as swim lanes: who is in which lane, and what is written on each event."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from django.utils.safestring import SafeString

from orders.selectors import OrderDetail
from timeline import progress, swimlanes
from timeline import svg as swimlanes_svg
from timeline.swimlanes import Lane, Mark
from timeline.timeline import OUTSIDE, Entry, Timeline
from values.contexts import all_contexts, owners
from values.filters import duration

LONG = timedelta(seconds=5)  # a pause that is worth a word


def draw(
    timeline: Timeline,
    order: OrderDetail,
    *,
    operator: bool,
    link: Callable[[Entry], str],
    invitation: str,
    chosen: Entry | None = None,
) -> SafeString:
    """The picture. `link` is where an event leads, and `invitation` says so to those who point at it."""
    lanes = [
        Lane(
            name=name,
            title=name.capitalize(),
            subtitle=timeline.databases[name] + (f"\nbucket {timeline.bucket}" if name == "orders" else ""),
        )
        for name in all_contexts()
    ]
    lanes.append(Lane(name=OUTSIDE, title="Elsewhere", subtitle="other programs", slim=True))
    messages = Counter(message.event_id for message in timeline.messages)
    entries = []
    before: datetime | None = None
    for entry in timeline.entries:
        entries.append(
            swimlanes.Entry(
                id=entry.id,
                lane=owners()[entry.category],
                title=entry.type.rpartition(".")[2],
                lines=tuple(_lines(entry, who(entry, order, operator))),
                marks=tuple(_marks(entry, messages[entry.id])),
                cause=entry.cause_id,
                pause=_pause(before, entry.recorded_at),
                label=f"{entry.type}, {entry.id}: {invitation}",
                href=link(entry),
                kind="failed" if any(not failure.settled for failure in entry.failures) else "",
                chosen=entry is chosen,
            )
        )
        before = entry.recorded_at
    picture = swimlanes_svg.svg(
        swimlanes.draw(lanes, entries),
        title=f"The timeline of order {timeline.number} in swim lanes",
        description=(
            f"{len(entries)} events from left to right in the lanes of {', '.join(all_contexts())}. Arrows lead from"
            " each event to those that it caused. What is written below the picture says the same."
        ),
    )
    return SafeString(picture)


def who(entry: Entry, order: OrderDetail, operator: bool) -> str:
    """Operators see actors as they are written, customers in the words of their order's page."""
    return entry.actor if operator else progress.who(entry.actor, order.customer_id)


def _lines(entry: Entry, actor: str) -> Iterator[str]:
    yield f"v{entry.version} {entry.recorded_at:%H:%M:%S}.{entry.recorded_at.microsecond // 1000:03}"
    yield f"by {actor}"
    if entry.in_outbox:
        yield "in the outbox"
    elif entry.published is not None:
        yield f"published {entry.published} ms"


def _marks(entry: Entry, messages: int) -> Iterator[Mark]:
    lanes = (*all_contexts(), OUTSIDE)
    for handling in entry.handled:
        if handling.subscriber not in lanes:
            continue
        detail = ""
        if handling.attempts > 1:
            detail = f"attempt {handling.attempts}"
        elif handling.subscriber == "notifications" and messages:
            detail = "1 message" if messages == 1 else f"{messages} messages"
        yield Mark(lane=handling.subscriber, text=f"✓ {handling.milliseconds} ms", detail=detail)
    for subscriber in entry.waiting:
        if subscriber in lanes:
            yield Mark(lane=subscriber, text="waiting …", kind="waiting")
    for failure in entry.failures:
        if failure.subscriber in lanes:
            yield Mark(lane=failure.subscriber, text="✗ given up", detail=f"attempt {failure.attempts}", kind="failed")


def _pause(before: datetime | None, at: datetime) -> str:
    if before is None or at - before < LONG:
        return ""
    return f"{duration(int((at - before).total_seconds()))} later"
