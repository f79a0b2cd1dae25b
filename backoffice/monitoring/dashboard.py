"""The back office's first page: today's orders, what waits for somebody, and how far the events have come.

Everything is asked at once and for a second at most; who has not answered by then is named, and the page goes on
without them. The answers are kept for a few seconds, however many operators are looking.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.db import DEFAULT_DB_ALIAS, connections
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from django_htmx.http import HttpResponseClientRefresh

from backoffice.base import may_see
from backoffice.orders import COLOURS
from caching.backend import Typed
from eventing import fan_out, queues
from eventing.databases import time_limit
from eventing.outbox import Lag, lag
from eventing.queues import Depth
from inventory import selectors as inventory
from inventory.selectors import ProductView
from monitoring import audit_rounds, health, selectors
from monitoring.audit_rounds import Known
from monitoring.circuits import Circuit, circuits
from monitoring.health import Part
from monitoring.metrics import CacheUse, cache_uses
from orders import statistics
from orders.domain import Status
from orders.statistics import CHART_MINUTES, EARNING, MANY, Statistics, Stuck
from sharding import shards
from sharding.router import database_of

CACHE_KEY = "monitoring:dashboard"
CACHE_SECONDS = 3
ANSWER_SECONDS = 1.0
BROKER_SECONDS = 0.8
SAMPLE = 500  # the newest orders whose confirmation is timed
LOW_STOCK = 5
SHOWN = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """A number that is not counted to its end: "100+"."""

    number: int

    def __str__(self) -> str:
        return f"{MANY}+" if self.number >= MANY else str(self.number)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """The orders placed in one minute; `x`, `y` and `height` in a picture of CHART_MINUTES x 100."""

    minute: datetime
    orders: int
    x: int
    y: float
    height: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """Orders placed today that came to nothing, and why."""

    status: Status
    reason: str
    orders: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """Today's orders of the shards that have answered. Amounts are in minor units."""

    today: int
    revenue: dict[str, int]
    by_status: dict[Status, int]
    ended: tuple[Ended, ...]
    bars: tuple[Bar, ...]
    busiest: int
    last_hour: int
    confirmations: int
    p50: float | None
    p95: float | None
    stuck: Count
    oldest_stuck: tuple[Stuck, ...]
    to_ship: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class Outbox:
    """How far the relay of a database is behind; None if the database did not answer."""

    alias: str
    lag: Lag | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard:
    """`unavailable` are databases that did not answer; what is None belongs to one of them, or to the broker.

    `impaired` is what /readyz says of parts that do not work, by name.
    """

    at: datetime
    since: datetime
    orders: Orders
    outboxes: tuple[Outbox, ...]
    queues: tuple[Depth, ...] | None
    circuits: tuple[Circuit, ...] | None
    caches: tuple[CacheUse, ...]
    dead_letters: Count | None
    dead_by_subscriber: dict[str, int]
    low_stock: tuple[ProductView, ...] | None
    audits: Known | None
    unavailable: tuple[str, ...]
    impaired: dict[str, Part]

    @property
    def orders_missing(self) -> list[str]:
        """The shards whose orders are not among the numbers."""
        return [alias for alias in self.unavailable if alias in shards.aliases()]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Database:
    """What one database has to say."""

    lag: Lag
    circuits: list[Circuit] | None
    orders: Statistics | None
    dead_letters: dict[str, int] | None
    low_stock: list[ProductView] | None
    audits: Known | None


_kept: Typed[Dashboard] = Typed(Dashboard)


def dashboard() -> Dashboard:
    """The numbers of the last few seconds."""
    found = _kept.get(CACHE_KEY)
    if found is None:
        found = measure(timezone.localtime())
        _kept.set(CACHE_KEY, found, CACHE_SECONDS)
    return found


def measure(now: datetime) -> Dashboard:
    """The numbers at this moment; takes as long as the slowest answer, ANSWER_SECONDS (and that of health) at most."""
    since = now.replace(hour=0, minute=0, second=0, microsecond=0)
    databases = list(settings.DATABASES)
    questions: dict[str, Callable[[], _Database | list[Depth]]] = {
        alias: partial(_ask_database, alias, since, now) for alias in databases
    }
    questions["broker"] = partial(queues.depths, seconds=BROKER_SECONDS)
    readiness = fan_out.concurrently({"readiness": health.readiness}, seconds=0)["readiness"]
    answers = {name: answer.value for name, answer in selectors.ask_all(questions, seconds=ANSWER_SECONDS).items()}
    said = {alias: answer for alias, answer in answers.items() if isinstance(answer, _Database)}
    broker = answers["broker"]
    main, stock = said.get(DEFAULT_DB_ALIAS), said.get(database_of("inventory"))
    dead = main.dead_letters if main else None
    return Dashboard(
        at=now,
        since=since,
        orders=_orders([answer.orders for answer in said.values() if answer.orders is not None], now),
        outboxes=tuple(Outbox(alias=alias, lag=said[alias].lag if alias in said else None) for alias in databases),
        queues=tuple(broker) if isinstance(broker, list) else None,
        circuits=None if main is None or main.circuits is None else tuple(main.circuits),
        caches=tuple(cache_uses()),
        dead_letters=None if dead is None else Count(number=sum(dead.values())),
        dead_by_subscriber=dead or {},
        low_stock=None if stock is None or stock.low_stock is None else tuple(stock.low_stock),
        audits=main.audits if main else None,
        unavailable=tuple(alias for alias in databases if alias not in said),
        impaired=readiness.result().impaired,
    )


def _ask_database(alias: str, since: datetime, now: datetime) -> _Database:
    asked = shards.aliases()
    sample = math.ceil(SAMPLE / len(asked))
    with time_limit(connections[alias], ANSWER_SECONDS):
        return _Database(
            lag=lag(alias),
            circuits=circuits() if alias == database_of("monitoring") else None,
            audits=audit_rounds.known() if alias == database_of("monitoring") else None,
            orders=statistics.of_shard(alias, since=since, now=now, sample=sample) if alias in asked else None,
            dead_letters=selectors.open_dead_letters_by_subscriber(limit=MANY) if alias == DEFAULT_DB_ALIAS else None,
            low_stock=inventory.low_stock(at_most=LOW_STOCK, limit=SHOWN)
            if alias == database_of("inventory")
            else None,
        )


def _orders(parts: Sequence[Statistics], now: datetime) -> Orders:
    groups = [group for part in parts for group in part.groups]
    by_status = Counter(dict.fromkeys(Status, 0))
    revenue: Counter[str] = Counter()
    ended: Counter[tuple[Status, str]] = Counter()
    for group in groups:
        by_status[group.status] += group.orders
        if group.status in EARNING:
            revenue[group.currency] += group.total
        if group.reason:
            ended[group.status, group.reason] += group.orders
    per_minute: Counter[datetime] = Counter()
    for part in parts:
        per_minute.update(part.per_minute)
    seconds = sorted(second for part in parts for second in part.seconds_to_confirm)
    stuck = sorted((one for part in parts for one in part.stuck), key=lambda one: one.placed_at)
    return Orders(
        today=sum(group.orders for group in groups),
        revenue=dict(revenue),
        by_status=dict(by_status),
        ended=tuple(
            Ended(status=status, reason=reason.replace("_", " "), orders=orders)
            for (status, reason), orders in ended.most_common()
        ),
        bars=bars(per_minute, now),
        busiest=max(per_minute.values(), default=0),
        last_hour=per_minute.total(),
        confirmations=len(seconds),
        p50=percentile(seconds, 50),
        p95=percentile(seconds, 95),
        stuck=Count(number=len(stuck)),
        oldest_stuck=tuple(stuck[:SHOWN]),
        to_ship=Count(number=sum(part.to_ship for part in parts)),
    )


def bars(per_minute: Counter[datetime], now: datetime) -> tuple[Bar, ...]:
    """A bar for every minute of the chart, as high as the busiest one allows."""
    busiest = max(per_minute.values(), default=0) or 1
    first = statistics.first_minute(now)
    minutes = [first + timedelta(minutes=number) for number in range(CHART_MINUTES)]
    heights = [round(100 * per_minute[minute] / busiest, 1) for minute in minutes]
    return tuple(
        Bar(minute=minute, orders=per_minute[minute], x=x, y=round(100 - height, 1), height=height)
        for x, (minute, height) in enumerate(zip(minutes, heights, strict=True))
    )


def percentile(ordered: Sequence[float], percent: int) -> float | None:
    """The smallest value that so many percent are not above (nearest rank); None if there are no values."""
    return ordered[math.ceil(len(ordered) * percent / 100) - 1] if ordered else None


@require_safe
@never_cache
def numbers_alone(request: HttpRequest) -> HttpResponse:
    """The dashboard's numbers, with which its page replaces the old ones; for operators only."""
    if not admin.site.has_permission(request):
        # Whoever has been signed out meanwhile is led to the page on which to sign in.
        return HttpResponseClientRefresh() if request.headers.get("HX-Request") else redirect("admin:index")
    return render(request, "admin/backoffice/dashboard.html", context_of(request))


def context_of(request: HttpRequest) -> dict[str, Any]:
    """What the dashboard's template needs."""
    found = dashboard()
    parts = {
        "orders": "orders.order",
        "payments": "payments.payment",
        "dead_letters": "eventing.deadletter",
        "products": "inventory.product",
        "outboxes": "eventing.outboxmessage",
        "shards": "sharding.bucket",
        "audits": "monitoring.auditrun",
    }
    return {
        "dashboard": found,
        "statuses": [(status, COLOURS[status], count) for status, count in found.orders.by_status.items()],
        "queues": [(queue, found.dead_by_subscriber.get(queue.name, 0)) for queue in found.queues or ()],
        "low_stock_limit": LOW_STOCK,
        "inside": settings.EMBEDDED,
        "sees": {part: may_see(request.user, model) for part, model in parts.items()},
    }
