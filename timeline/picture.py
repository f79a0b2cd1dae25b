"""The journey of an order as swim lanes: who is in which lane, and what is written on each event."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from django.utils.safestring import SafeString

from orders.selectors import OrderDetail
from timeline import progress, swimlanes
from timeline import svg as swimlanes_svg
from timeline.journey import OUTSIDE, Journey, Moment
from timeline.swimlanes import Entry, Lane, Mark
from values.contexts import all_contexts, owners
from values.filters import duration

LONG = timedelta(seconds=5)  # a pause that is worth a word


def draw(
    journey: Journey,
    order: OrderDetail,
    *,
    operator: bool,
    link: Callable[[Moment], str],
    invitation: str,
    chosen: Moment | None = None,
) -> SafeString:
    """The picture. `link` is where an event leads, and `invitation` says so to those who point at it."""
    lanes = [
        Lane(
            name=name,
            title=name.capitalize(),
            subtitle=journey.databases[name] + (f"\nbucket {journey.bucket}" if name == "orders" else ""),
        )
        for name in all_contexts()
    ]
    lanes.append(Lane(name=OUTSIDE, title="Elsewhere", subtitle="other programs", slim=True))
    told = Counter(letter.event_id for letter in journey.letters)
    entries = []
    before: datetime | None = None
    for moment in journey.moments:
        entries.append(
            Entry(
                id=moment.id,
                lane=owners()[moment.category],
                title=moment.type.rpartition(".")[2],
                lines=tuple(_lines(moment, who(moment, order, operator))),
                marks=tuple(_marks(moment, told[moment.id])),
                cause=moment.cause_id,
                pause=_pause(before, moment.recorded_at),
                label=f"{moment.type}, {moment.id}: {invitation}",
                href=link(moment),
                kind="failed" if any(not failure.settled for failure in moment.failures) else "",
                chosen=moment is chosen,
            )
        )
        before = moment.recorded_at
    picture = swimlanes_svg.svg(
        swimlanes.draw(lanes, entries),
        title=f"The journey of order {journey.number} in swim lanes",
        description=(
            f"{len(entries)} events from left to right in the lanes of {', '.join(all_contexts())}. Arrows lead from"
            " each event to those that it caused. What is written below the picture says the same."
        ),
    )
    return SafeString(picture)


def who(moment: Moment, order: OrderDetail, operator: bool) -> str:
    """Operators see actors as they are written, customers in the words of their order's page."""
    return moment.actor if operator else progress.who(moment.actor, order.customer_id)


def _lines(moment: Moment, actor: str) -> Iterator[str]:
    yield f"v{moment.version} {moment.recorded_at:%H:%M:%S}.{moment.recorded_at.microsecond // 1000:03}"
    yield f"by {actor}"
    if moment.in_outbox:
        yield "in the outbox"
    elif moment.published is not None:
        yield f"published {moment.published} ms"


def _marks(moment: Moment, letters: int) -> Iterator[Mark]:
    lanes = (*all_contexts(), OUTSIDE)
    for handling in moment.handled:
        if handling.subscriber not in lanes:
            continue
        detail = ""
        if handling.attempts > 1:
            detail = f"attempt {handling.attempts}"
        elif handling.subscriber == "notifications" and letters:
            detail = "1 message" if letters == 1 else f"{letters} messages"
        yield Mark(lane=handling.subscriber, text=f"✓ {handling.milliseconds} ms", detail=detail)
    for subscriber in moment.waiting:
        if subscriber in lanes:
            yield Mark(lane=subscriber, text="waiting …", kind="waiting")
    for failure in moment.failures:
        if failure.subscriber in lanes:
            yield Mark(lane=failure.subscriber, text="✗ given up", detail=f"attempt {failure.attempts}", kind="failed")


def _pause(before: datetime | None, at: datetime) -> str:
    if before is None or at - before < LONG:
        return ""
    return f"{duration(int((at - before).total_seconds()))} later"
