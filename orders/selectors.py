"""Reads of orders for pages, API and admin. Every query is bounded; lists are paged by key, newest first."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from functools import reduce
from itertools import groupby, islice
from operator import and_, attrgetter, or_
from typing import TypeVar

from django.conf import settings
from django.db import connections
from django.db.models import Exists, ExpressionWrapper, F, OuterRef, Q, QuerySet

from eventing import fan_out, store
from eventing.databases import time_limit
from eventing.keyset import beyond
from eventing.recorded import Recorded
from orders import models
from orders.domain import Status
from orders.events import CATEGORY, Address, Event, OrderPlaced
from sharding import numbers, shards
from values.text import storable

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRow:
    """An order as it stands. Amounts are in minor units; `expires_at` is when the clock may cancel it, if ever."""

    id: int
    customer_id: int
    status: Status
    currency: str
    subtotal: int
    discount: int
    total: int
    coupon_code: str | None
    placed_at: datetime
    updated_at: datetime
    expires_at: datetime | None
    version: int
    reason: str

    @property
    def number(self) -> str:
        return numbers.to_text(self.id)


COLUMNS = tuple(field.name for field in fields(OrderRow))
NEWEST_FIRST = ("placed_at", "id")  # the key of the list, descending


@dataclass(frozen=True, slots=True, kw_only=True)
class LineRow:
    position: int
    sku: str
    name: str
    quantity: int
    unit_price: int

    @property
    def amount(self) -> int:
        return self.quantity * self.unit_price


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderDetail(OrderRow):
    lines: tuple[LineRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Orders of all shards, newest first, and the shards that could not be asked: their orders are missing."""

    items: tuple[OrderRow, ...]
    unavailable: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Criteria:
    """Which orders of a list are wanted: those of a shard (its alias), a bucket, placed from `since` on and before
    `until`, with a product, with a coupon, with a tracking number, with these characters in their number (which has to
    look at every order). None asks for all.
    """

    shard: str | None = None
    bucket: int | None = None
    since: datetime | None = None
    until: datetime | None = None
    sku: str | None = None
    coupon: str | None = None
    tracking: str | None = None
    part: str | None = None


def get(order_id: int) -> OrderDetail | None:
    """An order with its lines, None if there is none; raises InvalidOrderNumber, OperationalError."""
    return shards.query_owner(numbers.bucket_of(order_id), _in_time(lambda alias: _detail(order_id, alias)))


def by_number(text: str) -> OrderDetail | None:
    """The order whose number somebody typed; None as well if the text cannot be a number."""
    try:
        order_id = numbers.parse(text)
    except numbers.InvalidOrderNumber:
        return None
    return get(order_id)


def history(order_id: int) -> list[Recorded[Event]]:
    """All that has happened to an order, oldest first; empty if there is none."""
    load = _in_time(lambda alias: store.load(CATEGORY, order_id, using=alias))
    return shards.query_owner(numbers.bucket_of(order_id), load)


def ship_to(order_id: int) -> Address | None:
    """Where the order goes; None if it has no address, or there is no order."""
    return next((r.event.ship_to for r in history(order_id) if isinstance(r.event, OrderPlaced)), None)


def orders_of(customer_id: int, *, before: int | None = None, limit: int, text: str = "") -> list[OrderRow]:
    """Up to `limit` orders of a customer, newest first, starting after the order with the id `before`.

    With a `text` only those whose number contains it, that have a product with all its words in the name, or whose
    status, SKU, coupon or tracking number it is.
    """
    bucket = numbers.bucket_of_customer(customer_id)
    low, high = numbers.bucket_range(bucket)

    def page(alias: str) -> list[OrderRow]:
        # The range of ids says the same as the customer, but in a way that leads the planner to one partition.
        rows = models.Order.objects.using(alias).filter(customer_id=customer_id, id__gte=low, id__lt=high)
        if before is not None:
            rows = rows.filter(id__lt=before)
        if text:
            rows = _with_text(rows, alias, text)
        return _rows(rows.order_by("-id"), limit)

    return shards.query_owner(bucket, _in_time(page)) if storable(text) else []


def products_in(orders: Sequence[OrderRow], limit: int) -> dict[int, list[str]]:
    """The names of the first `limit` products of orders of one customer, by order."""
    names: dict[int, list[str]] = defaultdict(list)
    if orders:

        def lines(alias: str) -> list[tuple[int, str]]:
            ids = [order.id for order in orders]
            found = models.OrderLine.objects.using(alias).filter(order_id__in=ids, position__lte=limit)
            return list(found.order_by("order_id", "position").values_list("order_id", "name"))

        for order_id, name in shards.query_owner(numbers.bucket_of(orders[0].id), _in_time(lines)):
            names[order_id].append(name)
    return names


def _with_text(rows: QuerySet[models.Order], alias: str, text: str) -> QuerySet[models.Order]:
    lines = models.OrderLine.objects.using(alias).filter(order_id=OuterRef("id"))
    named = reduce(and_, (Q(name__icontains=word) for word in text.split()), Q())
    found = Q(Exists(lines.filter(named | Q(sku__iexact=text))))
    found |= Q(status=text.lower()) | Q(coupon_code__iexact=text) | Q(tracking__iexact=text)
    try:
        return rows.filter(found | Q(id=numbers.parse(text)))
    except numbers.InvalidOrderNumber:
        pass  # it may be a part of one
    try:
        rows, part = _containing(rows, text)
    except numbers.InvalidOrderNumber:
        return rows.filter(found)
    return rows.filter(found | part)


def all_orders(
    *,
    before: tuple[datetime, int] | None = None,
    after: tuple[datetime, int] | None = None,
    limit: int,
    status: Status | None = None,
    criteria: Criteria | None = None,
) -> Page:
    """Up to `limit` orders of all shards, newest first: the newest, or those next to the order placed at and numbered.

    `before` asks for the ones that are older than it, `after` for the ones that are newer.
    """
    criteria = criteria or Criteria()

    def page(alias: str) -> list[OrderRow]:
        rows = _narrowed(alias, criteria).order_by("-placed_at", "-id")
        if status is not None:
            rows = rows.filter(status=status)
        if before is not None:
            rows = rows.filter(beyond(NEWEST_FIRST, before))
        if after is not None:
            rows = rows.filter(beyond(NEWEST_FIRST, after, "gt")).reverse()
        return _rows(rows, limit)

    answers = fan_out.query(_aliases_of(criteria), page, seconds=settings.DATABASE_READ_SECONDS)
    place = attrgetter(*NEWEST_FIRST)
    merged = heapq.merge(*answers.values.values(), key=place, reverse=after is None)
    # An order comes twice while its bucket moves from one database to another: the one that went on is newer.
    once = (max(copies, key=attrgetter("version")) for _, copies in groupby(merged, key=place))
    items = list(islice(once, limit))
    return Page(items=tuple(items if after is None else reversed(items)), unavailable=tuple(answers.unavailable))


def several(order_ids: Collection[int]) -> Page:
    """The orders with these ids in the order of the ids, those that do not exist left out: one query for a shard."""
    by_alias: dict[str, list[int]] = defaultdict(list)
    for order_id in order_ids:
        by_alias[shards.alias_of(order_id)].append(order_id)

    def found(alias: str) -> list[OrderRow]:
        return _rows(models.Order.objects.using(alias).filter(id__in=by_alias[alias]), len(by_alias[alias]))

    answers = fan_out.query(by_alias, found, seconds=settings.DATABASE_READ_SECONDS)
    by_id = {row.id: row for rows in answers.values.values() for row in rows}
    items = tuple(by_id[order_id] for order_id in dict.fromkeys(order_ids) if order_id in by_id)
    return Page(items=items, unavailable=tuple(answers.unavailable))


def _aliases_of(criteria: Criteria) -> tuple[str, ...]:
    """The shards that can have such orders."""
    if criteria.bucket is not None:
        owner = shards.refresh().owners[criteria.bucket]  # where it moved away from it would only look empty
        return (owner,) if criteria.shard in (None, owner) else ()
    return shards.aliases() if criteria.shard is None else (criteria.shard,)


def _narrowed(alias: str, criteria: Criteria) -> QuerySet[models.Order]:
    rows = models.Order.objects.using(alias)
    if criteria.bucket is not None:
        low, high = numbers.bucket_range(criteria.bucket)
        rows = rows.filter(id__gte=low, id__lte=high - 1)  # the end of the last bucket is more than a bigint holds
    conditions = {"placed_at__gte": criteria.since, "placed_at__lt": criteria.until, "coupon_code": criteria.coupon}
    rows = rows.filter(**{name: value for name, value in conditions.items() if value is not None})
    if criteria.sku is not None:
        # The planner starts from the lines of a rare product, and looks into the newest orders for a popular one.
        rows = rows.filter(id__in=models.OrderLine.objects.using(alias).filter(sku=criteria.sku).values("order_id"))
    if criteria.tracking is not None:
        rows = rows.filter(tracking__in={criteria.tracking, criteria.tracking.upper()})
    if criteria.part is not None:
        rows, part = _containing(rows, criteria.part)
        rows = rows.filter(part)
    return rows


def _containing(rows: QuerySet[models.Order], part: str) -> tuple[QuerySet[models.Order], Q]:
    """The rows with what it takes to ask, and the question, whether their number has these characters."""
    places = {
        f"place_{divisor}": (F("id") / divisor % modulus, value) for divisor, modulus, value in numbers.containing(part)
    }
    whole = models.Order._meta.pk
    rows = rows.alias(**{name: ExpressionWrapper(place, output_field=whole) for name, (place, _) in places.items()})
    return rows, reduce(or_, (Q(**{name: value}) for name, (_, value) in places.items()))


def _in_time(query: Callable[[str], T]) -> Callable[[str], T]:
    """The query with a deadline: it raises OperationalError when the database takes too long."""

    def limited(alias: str) -> T:
        with time_limit(connections[alias], settings.DATABASE_READ_SECONDS):
            return query(alias)

    return limited


def _detail(order_id: int, alias: str) -> OrderDetail | None:
    row = models.Order.objects.using(alias).filter(id=order_id).values(*COLUMNS).first()
    if row is None:
        return None
    lines = models.OrderLine.objects.using(alias).filter(order_id=order_id).order_by("position")
    return OrderDetail(
        **row | {"status": Status(row["status"])},
        lines=tuple(LineRow(**line) for line in lines.values("position", "sku", "name", "quantity", "unit_price")),
    )


def _rows(rows: QuerySet[models.Order], limit: int) -> list[OrderRow]:
    return [OrderRow(**row | {"status": Status(row["status"])}) for row in rows.values(*COLUMNS)[:limit]]
