"""Behind the scenes of an order: its timeline as swim lanes, and its state after any event."""

from __future__ import annotations

from hashlib import sha256
from typing import Any
from urllib.parse import urlencode

from django.contrib.auth.models import AnonymousUser, User
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_safe

from orders import selectors
from orders.selectors import OrderDetail
from storefront.redirects import for_customers
from timeline import picture, progress, state, timeline
from timeline.timeline import Entry


@never_cache
@require_safe
@for_customers
def behind(request: HttpRequest, number: str) -> HttpResponse:
    """The whole page; `?at=` with the id of an event chooses the entry whose state is shown."""
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
    found = timeline.timeline_of(order.id)
    at = request.GET.get("at")
    until = found.until(at or found.entries[-1].id)
    if until is None:
        raise Http404("There is no such event in the timeline of this order.")
    position = len(until) - 1
    waiting = timeline.waiting_for(found, timezone.now())
    over = timeline.is_over(found)
    seen = sha256(repr((found, waiting)).encode()).hexdigest()[:16]
    return {
        "order": order,
        "status": timeline.state_after(found.entries).status,
        "operator": operator,
        "timeline": found,
        "rows": [(entry, picture.who(entry, order, operator)) for entry in found.entries],
        "picture": picture.draw(
            found,
            order,
            operator=operator,
            link=_link,
            invitation="show the state of the order after this event",
            chosen=until[-1],
        ),
        "chosen": until[-1],
        "who": picture.who(until[-1], order, operator),
        "position": position + 1,
        "previous": found.entries[position - 1].id if position else None,
        "next": found.entries[position + 1].id if position + 1 < len(found.entries) else None,
        "facts": state.changes_between(timeline.state_after(until[:-1]), timeline.state_after(until)),
        "follows": at is None,
        "waiting": waiting,
        "pause": None if over else progress.SOON if timeline.is_busy(found) else progress.LATER,
        "seen": seen,
        "live_query": urlencode(({"at": at} if at else {}) | {"seen": seen}),
    }


def _link(entry: Entry) -> str:
    return f"?{urlencode({'at': entry.id})}#lanes-{entry.id}"
