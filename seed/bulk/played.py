"""Template orders: the shop's own handlers take a few orders through a scenario, in transactions that are rolled back.

Nobody else ever sees these orders. Meanwhile (a second at most) their transaction holds the stock rows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from django.apps import apps
from django.contrib.auth.models import User
from django.db import DEFAULT_DB_ALIAS, connections, models, transaction
from django.db.models import F
from django.test import override_settings
from django.utils import timezone

from coupons.domain import Coupon, discount_of
from eventing import store, subscribers
from eventing.delivery import Delivery, deliver
from eventing.inline import over_the_wire
from eventing.recorded import Metadata, Recorded
from eventing.relay import envelope_of_row
from eventing.wire import Message
from orders import handlers as orders
from orders.commands import PlaceOrder
from orders.domain import sum_of
from orders.events import Line
from seed.bulk import BulkError
from seed.data import SCARCE
from seed.scenarios import Scenario, take
from sharding import numbers, shards

TERM = timedelta(minutes=30)  # to pay
AGE = 2 * TERM  # the orders are placed so long ago, so that the clock may cancel them
NAME = "Xyzzyxyzzy"  # of their customer: no text of the shop has anything like it
TRACKING = "WH-X-Y-Z-Z-Y"
PLENTY, FEW = 1_000_000, SCARCE // 2  # pieces in stock
SHARD = "shard"  # in place of the alias of the order's database
RECORDED_AT = list(store.TYPES).index("recorded_at")
NEEDS_BROKER = "integration"
GATEWAY = "payments.gateway.SandboxGateway"  # its book is a table, so what it has moved is rolled back, too

# Where rows of an order are, beside its events and inbox rows, and which field has its number.
MODELS = {
    "orders.Order": "id",
    "orders.OrderLine": "order_id",
    "inventory.Reservation": "order_id",
    "inventory.ReservationLine": "reservation_id",
    "inventory.StockMovement": "order_id",
    "coupons.Redemption": "order_id",
    "payments.Account": "order_id",
    "payments.Payment": "order_id",
    "notifications.Message": "order_id",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Basket:
    """What is ordered. Of the products in `scarce` there are too few."""

    lines: tuple[Line, ...]
    currency: str
    coupon: Coupon | None = None
    scarce: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """An order at the end of its scenario. `steps` says when each of them began, and `rows` are by model.

    The order says that it was placed at `placed_at`; everything about it was written between `steps["place"]` and
    `ended_at`.
    """

    order_id: int
    customer_id: int
    placed_at: datetime
    steps: Mapping[str, datetime]
    ended_at: datetime
    events: Sequence[Recorded[Any]]
    rows: Mapping[str, Sequence[Any]]


def play(scenario: Scenario, baskets: Sequence[Basket]) -> list[Played]:
    """An order for each basket; raises BulkError if a subscriber cannot handle what happens to them."""
    with _undone() as (customer_id, shard):
        _stock({sku for basket in baskets for sku in basket.scarce})
        if scenario.coupon is not None:
            _objects("coupons.Coupon").filter(code=scenario.coupon).update(redeemed=F("total_limit"))
        placed_at: dict[int, datetime] = {}
        steps: dict[int, dict[str, datetime]] = defaultdict(dict)
        for basket in baskets:
            now = timezone.now()
            order_id = _place(basket, customer_id, now - AGE)
            placed_at[order_id] = now - AGE
            steps[order_id]["place"] = now
        delivery = _Delivery((DEFAULT_DB_ALIAS, shard), list(placed_at))
        delivery.run()
        for step in scenario.steps:
            for order_id in placed_at:
                steps[order_id][step] = timezone.now()
                take(step, order_id, customer_id, correlation_id=uuid4().hex, card="tok_ok", tracking=TRACKING)
            delivery.run()
        events = delivery.events()
        rows = _rows(shard, list(placed_at))
        return [
            Played(
                order_id=order_id,
                customer_id=customer_id,
                placed_at=at,
                steps=steps[order_id],
                ended_at=timezone.now(),
                events=events[order_id],
                rows=rows[order_id],
            )
            for order_id, at in placed_at.items()
        ]


@contextmanager
def _undone() -> Iterator[tuple[int, str]]:
    """A new customer and the shard of their orders, for as long as the transactions last."""
    customer_id = numbers.new_customer_id()
    shard = shards.alias_of_bucket(numbers.bucket_of_customer(customer_id))
    aliases = (DEFAULT_DB_ALIAS, shard)
    transactions = [transaction.atomic(using=alias) for alias in aliases]
    for one in transactions:
        # Handlers that must not run inside a transaction, for it might not be committed, are told what tests tell them.
        one._from_testcase = True  # type: ignore[attr-defined]
    with override_settings(PAYMENT_GATEWAY=GATEWAY), transactions[0], transactions[1]:
        User.objects.using(DEFAULT_DB_ALIAS).create(pk=customer_id, username=f"bulk.{customer_id}", first_name=NAME)
        yield customer_id, shard
        for alias in aliases:
            transaction.set_rollback(True, using=alias)


def _stock(scarce: set[str]) -> None:
    """Enough of everything else. The rows are locked in the sequence in which all handlers lock them."""
    stock = _objects("inventory.Stock")
    list(stock.order_by("product_id").select_for_update().values_list("product_id"))
    for rows, pieces in ((stock.exclude(product_id__in=scarce), PLENTY), (stock.filter(product_id__in=scarce), FEW)):
        rows.update(on_hand=F("reserved") + pieces, available=pieces)


def _place(basket: Basket, customer_id: int, at: datetime) -> int:
    """As checkout does, but it would refuse a coupon that is used up, and keep an idempotency key for a day."""
    command = PlaceOrder(
        order_id=numbers.new_order_id(customer_id, at),
        customer_id=customer_id,
        currency=basket.currency,
        lines=basket.lines,
        coupon_code=basket.coupon.code if basket.coupon else None,
        discount=discount_of(basket.coupon, sum_of(basket.lines)) if basket.coupon else 0,
        payment_due_at=at + TERM,
        at=at,
    )
    metadata = Metadata(correlation_id=uuid4().hex, actor=f"customer:{customer_id}")
    return orders.place_order(command, metadata).order_id


class _Delivery:
    """Gives the events of these orders, and of no others, to their subscribers."""

    def __init__(self, aliases: Sequence[str], order_ids: Sequence[int]) -> None:
        self._aliases = aliases
        self._order_ids = order_ids
        self._delivered: set[tuple[Any, ...]] = set()

    def run(self) -> None:
        """Until nothing follows any more."""
        while new := [row for row in self._event_rows() if row[:3] not in self._delivered]:
            envelopes = [envelope_of_row(row) for row in new]
            for subscriber in subscribers.all_subscribers():
                wanted = [envelope for envelope in envelopes if subscriber.wants(envelope.type)]
                if wanted and subscriber.name != NEEDS_BROKER:
                    message = Message(subscriber=subscriber.name, events=wanted, published_at=timezone.now())
                    outcome = deliver(over_the_wire(message).events, Delivery.of(message))
                    if outcome.handled < len(wanted):
                        raise BulkError(f"{subscriber.name} cannot handle {len(wanted) - outcome.handled} events")
            self._delivered.update(row[:3] for row in new)

    def events(self) -> dict[int, list[Recorded[Any]]]:
        """By order, oldest first."""
        events: dict[int, list[Recorded[Any]]] = defaultdict(list)
        for row in self._event_rows():
            events[row[0]].append(store.recorded_from_row(row))
        return events

    def _event_rows(self) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = []
        for alias in self._aliases:
            with connections[alias].cursor() as cursor:
                cursor.execute(
                    f"SELECT {store.COLUMNS} FROM eventing_event WHERE stream_id = ANY(%s)",
                    [list(self._order_ids)],
                )
                rows += cursor.fetchall()
        return sorted(rows, key=lambda row: (row[RECORDED_AT], *row[:3]))


def _rows(shard: str, order_ids: Sequence[int]) -> dict[int, dict[str, list[Any]]]:
    """By order and model."""
    rows: dict[int, dict[str, list[Any]]] = {order_id: defaultdict(list) for order_id in order_ids}
    payments: dict[str, int] = {}
    for label, field in MODELS.items():
        found = _objects(label, shard).filter(**{f"{field}__in": order_ids})
        for instance in found.order_by("pk"):
            rows[getattr(instance, field)][label].append(instance)
            if label == "payments.Payment":
                payments |= {f"{kind}-{instance.pk}": instance.order_id for kind in ("capture", "refund")}
    for charge in _objects("payments.SandboxCharge").filter(key__in=list(payments)).order_by("key"):
        rows[payments[charge.key]]["payments.SandboxCharge"].append(charge)
    return rows


def _objects(label: str, shard: str = DEFAULT_DB_ALIAS) -> models.QuerySet[Any]:
    """All rows of a model."""
    return apps.get_model(label)._default_manager.using(shard if place_of(label) == SHARD else DEFAULT_DB_ALIAS)


def place_of(label: str) -> str:
    """In which database the rows of a model are."""
    return SHARD if label.startswith("orders.") else DEFAULT_DB_ALIAS
