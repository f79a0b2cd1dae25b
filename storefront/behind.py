"""Behind the scenes of an order: its journey as swim lanes, and its state after any event."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any
from urllib.parse import urlencode

from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import AnonymousUser, User
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.safestring import SafeString
from django.views.decorators.http import require_GET, require_safe

from orders import selectors
from orders.domain import Order
from orders.selectors import OrderDetail
from storefront import journey, progress, swimlanes
from storefront.journey import CONTEXTS, OUTSIDE, Journey, Moment
from storefront.swimlanes import Entry, Lane, Mark
from storefront.templatetags.shop import duration, money

LANES = ("orders", "inventory", "coupons", "payments", "notifications")
LONG = timedelta(seconds=5)  # a pause that is worth a word
TIMES = "\N{MULTIPLICATION SIGN}"
NOTHING = "\N{EN DASH}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A part of the order's state, before and after an event."""

    name: str
    before: str
    after: str

    @property
    def changed(self) -> bool:
        return self.before != self.after


@require_safe
@login_required
def behind(request: HttpRequest, number: str) -> HttpResponse:
    """The whole page; `?at=` with the id of an event chooses the moment whose state is shown."""
    order = _visible_order(request, number)
    if number != order.number:
        return redirect("storefront:behind", order.number)
    return render(request, "storefront/behind.html", _context(request, order))


@require_GET
def behind_live(request: HttpRequest, number: str) -> HttpResponse:
    """The part of the page that changes, if it has changed since the page saw it."""
    if not request.user.is_authenticated:
        return HttpResponse(status=204, headers={"HX-Refresh": "true"})  # the page itself leads to signing in
    if not request.headers.get("HX-Request"):
        return redirect("storefront:behind", number)
    context = _context(request, _visible_order(request, number))
    if request.GET.get("seen") == context["seen"]:
        return HttpResponse(status=204)
    return render(request, "storefront/_behind.html", context)


def _visible_order(request: HttpRequest, number: str) -> OrderDetail:
    """Their own orders for customers, all for operators who may see orders."""
    order = selectors.by_number(number)
    if order is None or not (order.customer_id == request.user.pk or is_operator(request.user)):
        raise Http404("There is no such order among yours.")
    return order


def is_operator(user: User | AnonymousUser) -> bool:
    return user.is_staff and any(user.has_perm(f"orders.{verb}_order") for verb in ("view", "change"))


def _context(request: HttpRequest, order: OrderDetail) -> dict[str, Any]:
    operator = is_operator(request.user)
    found = journey.journey_of(order.id)
    at = request.GET.get("at")
    until = found.until(at or found.moments[-1].id)
    if until is None:
        raise Http404("There is no such event in the journey of this order.")
    position = len(until) - 1
    waiting = journey.waiting_for(found, timezone.now())
    over = journey.is_over(found)
    seen = sha256(repr((found, waiting)).encode()).hexdigest()[:16]
    return {
        "order": order,
        "status": journey.state_after(found.moments).status,
        "operator": operator,
        "journey": found,
        "rows": [(moment, _who(moment, order, operator)) for moment in found.moments],
        "picture": SafeString(_picture(found, until[-1], order, operator)),
        "chosen": until[-1],
        "who": _who(until[-1], order, operator),
        "position": position + 1,
        "previous": found.moments[position - 1].id if position else None,
        "next": found.moments[position + 1].id if position + 1 < len(found.moments) else None,
        "facts": _facts(journey.state_after(until[:-1]), journey.state_after(until)),
        "follows": at is None,
        "waiting": waiting,
        "pause": None if over else progress.SOON if journey.is_busy(found) else progress.LATER,
        "seen": seen,
        "live_query": urlencode(({"at": at} if at else {}) | {"seen": seen}),
    }


def _facts(before: Order, after: Order) -> list[Fact]:
    return [
        Fact(name=name, before=told, after=telling)
        for (name, told), (_, telling) in zip(_told(before), _told(after), strict=True)
    ]


def _told(order: Order) -> Iterator[tuple[str, str]]:
    """The state of an order, in words."""
    yield "Status", order.status.value if order.status is not None else "not placed"
    yield "Open checks", ", ".join(sorted(order.waiting_for)) or NOTHING
    yield "Lines", ", ".join(f"{line.quantity} {TIMES} {line.name}" for line in order.lines) or NOTHING
    yield "Coupon", order.coupon_code or NOTHING
    yield "Discount", money(order.discount, order.currency) if order.discount else NOTHING
    yield "Total", money(order.total, order.currency) if order.lines else NOTHING
    yield "Payment due", f"{order.payment_due_at:%Y-%m-%d %H:%M:%S}" if order.payment_due_at else NOTHING
    yield "Payment", order.payment_id or NOTHING
    yield "Tracking", order.tracking or NOTHING


# --- The picture ---------------------------------------------------------------------------------------------------


def _picture(found: Journey, chosen: Moment, order: OrderDetail, operator: bool) -> str:
    lanes = [
        Lane(
            name=name,
            title=name.capitalize(),
            subtitle=f"{found.databases[name]}, bucket {found.bucket}" if name == "orders" else found.databases[name],
        )
        for name in LANES
    ]
    told = {letter.event_id: 0 for letter in found.letters}
    for letter in found.letters:
        told[letter.event_id] += 1
    entries = []
    before: datetime | None = None
    for moment in found.moments:
        entries.append(
            Entry(
                id=moment.id,
                lane=CONTEXTS.get(moment.category, "orders"),
                title=moment.type,
                lines=tuple(_lines(moment, _who(moment, order, operator))),
                marks=tuple(_marks(moment, told.get(moment.id, 0))),
                cause=moment.cause_id,
                pause=_pause(before, moment.recorded_at),
                label=f"{moment.type}, {moment.id}: show the state of the order after this event",
                href=f"?{urlencode({'at': moment.id})}#lanes-{moment.id}",
                kind="failed" if any(not failure.settled for failure in moment.failures) else "",
                chosen=moment is chosen,
            )
        )
        before = moment.recorded_at
    return swimlanes.svg(
        swimlanes.draw(lanes, entries),
        title=f"The journey of order {found.number} in swim lanes",
        description=(
            f"{len(entries)} events from top to bottom in the lanes of {', '.join(LANES)}. Arrows lead from each event"
            " to those that it caused. The table below the picture says the same."
        ),
    )


def _lines(moment: Moment, who: str) -> Iterator[str]:
    yield f"v{moment.version} · {moment.recorded_at:%H:%M:%S}.{moment.recorded_at.microsecond // 1000:03}"
    yield f"by {who}"
    if moment.in_outbox:
        yield "in the outbox"
    elif moment.published is not None:
        yield f"published +{moment.published} ms"


def _marks(moment: Moment, letters: int) -> Iterator[Mark]:
    for handling in moment.handled:
        if handling.subscriber == OUTSIDE or handling.subscriber not in LANES:
            continue
        words = [f"✓ +{handling.milliseconds} ms"]
        if handling.attempts > 1:
            words.append(f"attempt {handling.attempts}")
        elif handling.subscriber == "notifications" and letters:
            words.append("1 message" if letters == 1 else f"{letters} messages")
        yield Mark(lane=handling.subscriber, text=" · ".join(words))
    for subscriber in moment.waiting:
        if subscriber in LANES:
            yield Mark(lane=subscriber, text="waiting …", kind="waiting")
    for failure in moment.failures:
        if failure.subscriber in LANES:
            yield Mark(lane=failure.subscriber, text=f"✗ given up, attempt {failure.attempts}", kind="failed")


def _pause(before: datetime | None, at: datetime) -> str:
    if before is None or at - before < LONG:
        return ""
    return f"{duration(int((at - before).total_seconds()))} later"


def _who(moment: Moment, order: OrderDetail, operator: bool) -> str:
    """Operators see actors as they are written, customers in the words of their order's page."""
    return moment.actor if operator else progress.who(moment.actor, order.customer_id)
