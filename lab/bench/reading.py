"""How fast orders are read when there are many: a customer's history, and the back office's list and search.

It asks the databases that the environment names, and leaves them as they are: whom it signs in is signed out at the
end, and so is the operator that it makes if there is none. A request is what the application does from the address to
the last byte of the page, without a web server around it.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from functools import partial
from statistics import median, quantiles
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import close_old_connections
from django.test import Client

from backoffice import keyset
from backoffice import orders as admin
from lab import command
from lab.figures import Figure, at_most, figure, missed, write
from lab.programs import shop
from lab.programs.questions import rows_of_shards
from orders import selectors
from orders.selectors import OrderRow, all_orders
from sharding import numbers
from storefront.views import PAGE_OF_ORDERS

ORDERS = 1_000_000  # what the figures are asked for
ROUNDS = 110  # the first tenth of them warms up, and is not counted
FAR = 1_000  # the page that must be as fast as the first
CHUNK = 1_000  # orders that are passed at a time on the way there
LIST = "/admin/orders/order/"


class TooFewOrders(Exception):
    """There is too little to read: fast pages of a few orders prove nothing."""


class BadPage(Exception):
    """A page was not what it should be, so how long it took says nothing."""


class Visitor(Client):
    """Somebody who is signed in."""

    def page(self, address: str) -> None:
        """Fetch a page to its end, and those that it leads to; raises BadPage."""
        response = self.get(address, secure=settings.HTTPS, follow=True)
        page = response.getvalue()
        close_old_connections()  # as at the end of each request, which Django's client leaves out
        if response.status_code != 200 or b"did not answer" in page:
            raise BadPage(f"{address}: {response.status_code}, or a database did not answer")


def measure(*, rounds: int = ROUNDS, at_least: int = ORDERS) -> list[Figure]:
    """Read orders at random, in so many rounds, and say how long it took; raises TooFewOrders, BadPage."""
    found = sum(number for (number,) in rows_of_shards("SELECT count(*) FROM orders_order"))
    if found < max(at_least, 1):
        raise TooFewOrders(f"there are {found:,} orders in these databases; the figures are asked for {at_least:,}")
    figures: list[Figure] = []
    some = some_orders(rounds)
    fewest = max(2, rounds // 5)
    customers = User.objects.in_bulk({order.customer_id for order in some})
    known = [order for order in some if order.customer_id in customers]
    with ExitStack() as signed_in:
        shoppers = {pk: signed_in.enter_context(visitor(user)) for pk, user in customers.items()}
        operator = signed_in.enter_context(visitor(signed_in.enter_context(somebody_of_the_office())))
        figures += spread(
            "history of a customer, in the database",
            [partial(selectors.orders_of, one.customer_id, limit=PAGE_OF_ORDERS + 1) for one in some],
            asked=5,
        )
        figures += spread(
            "history of a customer, whole request",
            [partial(shoppers[one.customer_id].page, "/orders/") for one in known],
            asked=25,
            fewest=fewest,
        )
        first = [partial(operator.page, LIST)] * len(some)
        figures += spread("back office: first page", first, asked=150)
        place = place_of_page(FAR, admin.PAGE_SIZE)
        if place is not None:
            far = partial(operator.page, f"{LIST}?{urlencode({'before': place})}")
            # In turns, because a machine is not equally fast all the time.
            times = timed([page for near in first for page in (near, far)])
            figures += figures_of(f"back office: page {FAR:,}", times[1::2], asked=None)
            ratio = median(times[1::2]) / median(times[::2])
            figures.append(figure(f"page {FAR:,} against page 1, p50", ratio, "times", at_most(1.3)))
        for what, looked_for in searches(some, [customers[one.customer_id] for one in known]).items():
            pages = [partial(operator.page, f"{LIST}?{urlencode(one)}") for one in looked_for]
            figures += spread(what, pages, fewest=fewest)
    return figures


def searches(some: Sequence[OrderRow], customers: Sequence[User]) -> dict[str, list[dict[str, Any]]]:
    """What operators look for: parameters of the list, taken from orders that there are."""
    days = [{"since": one.placed_at.date(), "until": one.placed_at.date()} for one in some]
    products = [order.lines[0].sku for one in some if (order := selectors.get(one.id)) is not None]
    return {
        "search by number": [{"q": one.number} for one in some],
        "search by e-mail": [{"q": one.email} for one in customers if one.email],
        "orders of a customer": [{"customer": one.pk} for one in customers],
        "orders of a status": [{"status": one.status} for one in some],
        "orders of a day": days,
        "orders of a status and a day": [{"status": one.status, **day} for one, day in zip(some, days, strict=True)],
        "orders with a coupon": [{"coupon": one.coupon_code} for one in some if one.coupon_code],
        "orders of a product": [{"sku": sku} for sku in products],
        "orders of a bucket": [{"bucket": numbers.bucket_of(one.id)} for one in some],
    }


# --- What is there --------------------------------------------------------------------------------------------------


def some_orders(number: int) -> list[OrderRow]:
    """The orders placed before random moments, so that what is read lies anywhere."""
    [newest] = all_orders(limit=1).items
    [oldest] = all_orders(after=(numbers.EPOCH, 0), limit=1).items
    age = newest.placed_at - oldest.placed_at
    moments = [oldest.placed_at + random.random() * age for _ in range(number)]
    return [order for moment in moments for order in all_orders(before=(moment, numbers.HIGHEST), limit=1).items]


def place_of_page(number: int, size: int) -> str | None:
    """Where a page of the list begins, as its address says it; None if the list ends before."""
    before: tuple[datetime, int] | None = None
    passed = 0
    while passed < (number - 1) * size:
        limit = min(CHUNK, (number - 1) * size - passed)
        items = all_orders(before=before, limit=limit).items
        if len(items) < limit:
            return None
        before = items[-1].placed_at, items[-1].id
        passed += limit
    return None if before is None else f"{keyset.written(before[0])}{keyset.SEPARATOR}{numbers.to_text(before[1])}"


@contextmanager
def visitor(user: User) -> Iterator[Visitor]:
    """A user who is signed in until the end. The time of their last visit stays as it was."""
    host = settings.ALLOWED_HOSTS[0].removeprefix(".") if settings.ALLOWED_HOSTS else "127.0.0.1"
    made = Visitor(SERVER_NAME="127.0.0.1" if host == "*" else host)
    key = made.cookies[settings.SESSION_COOKIE_NAME] = shop.session(user.pk)
    try:
        yield made
    finally:
        Session.objects.filter(pk=key).delete()


@contextmanager
def somebody_of_the_office() -> Iterator[User]:
    """An operator who may see everything: one that there is, or one for as long as this takes."""
    known = User.objects.filter(is_superuser=True, is_active=True).first()
    operator = known or User.objects.create_superuser(f"reading-{uuid4().hex}")
    try:
        yield operator
    finally:
        if known is None:
            operator.delete()


# --- Figures --------------------------------------------------------------------------------------------------------


def spread(
    what: str, actions: Sequence[Callable[[], object]], *, asked: float | None = None, fewest: int = 2
) -> list[Figure]:
    """The figures of actions that are done one after the other; none if there are too few of them."""
    return figures_of(what, timed(actions), asked) if len(actions) >= fewest else []


def timed(actions: Sequence[Callable[[], object]]) -> list[float]:
    """How many milliseconds each takes, without the first tenth of them."""
    times = []
    for action in actions:
        started = time.perf_counter()
        action()
        times.append((time.perf_counter() - started) * 1000)
    return times[len(times) // 10 :]


def figures_of(what: str, times: Sequence[float], asked: float | None) -> list[Figure]:
    """`asked` is for 95 of 100."""
    return [
        figure(f"{what}, p50", median(times), "ms"),
        figure(f"{what}, p95", quantiles(times, n=20)[-1], "ms", None if asked is None else at_most(asked)),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = command.parser("lab reading", __doc__)
    add = parser.add_argument
    add("--rounds", type=command.number(int, 2), default=ROUNDS, help="how often each is read (default: %(default)s)")
    add("--at-least", type=int, default=ORDERS, metavar="N", help="orders that there must be (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        figures = measure(rounds=options.rounds, at_least=options.at_least)
    except (TooFewOrders, BadPage) as error:
        print(error, file=sys.stderr)
        return 2
    write(figures, options.json)
    return 1 if missed(figures) else 0
