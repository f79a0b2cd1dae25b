"""What a run needs in a shop: customers, products, coupons; and orders in bulk, faster than customers place them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import count
from typing import NamedTuple
from uuid import uuid4

from celery import current_app
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from django.db import connection, transaction
from django.db.models import Max
from django.utils import timezone

from api import tokens
from coupons import handlers as coupons
from coupons.domain import Kind
from eventing import topology
from eventing.recorded import Metadata
from inventory import handlers as inventory
from orders import handlers
from orders.commands import Command, PlaceOrder
from orders.events import Line
from sharding import numbers, shards

BATCH = 500
PRICE = 1_000
CATEGORY = "lab"
STARTED = timezone.now()

_orders = count()


class Person(NamedTuple):
    """A customer with a token of the API."""

    customer_id: int
    username: str
    token: str


def metadata(actor: str = "lab") -> Metadata:
    return Metadata(correlation_id=uuid4().hex, actor=actor)


def people(
    number: int = 0, *, step: int = 1, buckets: Sequence[int] | None = None, password: str | None = None
) -> list[Person]:
    """New customers: `number` whose ids are `step` apart, or one in each of the `buckets`."""
    last = User.objects.aggregate(last=Max("pk"))["last"] or 0
    ids = [last + step * place for place in range(1, number + 1)]
    for place, bucket in enumerate(buckets or (), start=last // numbers.BUCKETS + 1):
        ids.append(place * numbers.BUCKETS + bucket)
    hashed = make_password(password)  # one for all: each takes a third of a second
    users = [User(pk=pk, username=f"lab-{pk}", password=hashed) for pk in ids]
    User.objects.bulk_create(users, batch_size=1000)
    return [Person(user.pk, user.username, tokens.issue(user.pk, timezone.now())) for user in users]


def products(stock: Mapping[str, int], price: int = PRICE) -> None:
    """New products, with so many pieces of each."""
    inventory.add_category(slug=CATEGORY, name="Laboratory")
    for sku, pieces in stock.items():
        inventory.add_product(sku=sku, name=sku, category=CATEGORY, price=price, currency="EUR")
        inventory.receive_stock(sku, pieces, "delivery", timezone.now(), metadata())


def coupon(code: str, limit: int | None = None) -> None:
    """Ten percent off, for everybody, `limit` times in all."""
    coupons.add_coupon(code=code, kind=Kind.PERCENTAGE, value=1_000, currency="EUR", total_limit=limit)


def delete_queues() -> None:
    """Remove the shop's queues and exchanges."""
    with current_app.connection_for_write() as broker:
        topology.delete(broker)


def offered() -> tuple[list[str], list[str]]:
    """The products and categories that the shop was seeded with."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT sku FROM inventory_product AS product JOIN inventory_category AS category"
            " ON category.id = category_id WHERE active AND slug <> %s",
            [CATEGORY],
        )
        skus = [sku for (sku,) in cursor.fetchall()]
        cursor.execute("SELECT slug FROM inventory_category WHERE slug <> %s", [CATEGORY])
        return skus, [slug for (slug,) in cursor.fetchall()]


def session(customer_id: int) -> str:
    """The key of a session in which this customer is signed in."""
    user = User.objects.get(pk=customer_id)
    store = SessionStore()
    store[SESSION_KEY] = str(user.pk)
    store[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    store[HASH_SESSION_KEY] = user.get_session_auth_hash()
    store.save()
    return str(store.session_key)


def handle_all(commands: Iterable[Command], *, actor: str = "lab") -> None:
    """Let many orders decide; commands for one order in their sequence. Raises the first refusal."""
    by_alias: dict[str, list[tuple[Command, Metadata]]] = defaultdict(list)
    for command in commands:
        by_alias[shards.alias_of(command.order_id)].append((command, metadata(actor)))
    for alias, pairs in by_alias.items():
        for start in range(0, len(pairs), BATCH):
            with transaction.atomic(using=alias):
                for refusal in handlers.handle_batch(pairs[start : start + BATCH], using=alias).refused:
                    raise refusal.error


def placements(
    customers: Iterable[int],
    skus: Sequence[str],
    due: datetime,
    *,
    price: int = PRICE,
    coupon: str = "",
    discount: int = 0,
) -> Iterator[PlaceOrder]:
    """An order of up to two of the products for each customer; with `coupon`, every second one has it."""
    now = timezone.now()
    for number, customer_id in enumerate(customers):
        wanted = dict.fromkeys((skus[number % len(skus)], skus[(number + 1) % len(skus)]))
        has_coupon = bool(coupon) and number % 2 == 0
        yield PlaceOrder(
            # Each a moment of its own: orders of one bucket and millisecond may get the same number.
            order_id=numbers.new_order_id(customer_id, STARTED - timedelta(milliseconds=next(_orders))),
            customer_id=customer_id,
            currency="EUR",
            lines=tuple(Line(sku=sku, name=sku, quantity=1, unit_price=price) for sku in wanted),
            coupon_code=coupon if has_coupon else None,
            discount=discount if has_coupon else 0,
            payment_due_at=due,
            at=now,
        )
