"""What a scenario needs before its customers come: people, products, a coupon; and what became of it afterwards."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from lab.faults.traffic import NEW_COUPON, NEW_PRODUCT
from lab.load.promises import Order, Stock
from lab.load.scenarios import COUPON_LIMIT, FLASH_PIECES, Scenario
from lab.shell import Shell

PRICE = 1_000
PRODUCTS = 10
FEWEST = 1_000  # pieces of each product
PASSWORD = "loadtest"  # noqa: S105 (of people in databases that are gone afterwards)

# Consecutive ids, so that the customers are spread over all buckets. One hash for all: each takes a third of a second.
PEOPLE = """
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import User
from django.db.models import Max
from django.utils import timezone
from api import tokens
first = (User.objects.aggregate(last=Max("pk"))["last"] or 0) + 1
password = make_password({password!r})
users = [User(pk=pk, username=f"load-{{pk}}", password=password) for pk in range(first, first + {count})]
User.objects.bulk_create(users, batch_size=1000)
answer = [(user.pk, user.username, tokens.issue(user.pk, timezone.now())) for user in users]
"""
CATALOGUE = """
from inventory.models import Category, Product
products = Product.objects.filter(active=True).exclude(category__slug="faults")
answer = [list(products.values_list("sku", flat=True)), list(Category.objects.values_list("slug", flat=True))]
"""
ORDERS = """
from django.db import connections
from payments.models import Account
from sharding import numbers, shards
people = [{lowest}, {highest}]
money = {{
    account.order_id: (account.captured_total, account.refunded_total)
    for account in Account.objects.filter(customer_id__range=people)
}}
answer = {{}}
for alias in shards.aliases():
    with connections[alias].cursor() as cursor:
        cursor.execute(
            "SELECT orders.id, status, total, coupon_code,"
            " array_agg(type ORDER BY events.version) FILTER (WHERE type IS NOT NULL)"
            " FROM orders_order AS orders LEFT JOIN eventing_event AS events"
            " ON events.stream_id = orders.id AND category = 'order'"
            " AND type IN ('order.paid', 'order.cancelled', 'order.rejected')"
            " WHERE customer_id BETWEEN %s AND %s GROUP BY orders.id, status, total, coupon_code",
            people,
        )
        for order_id, status, total, coupon, endings in cursor.fetchall():
            captured, refunded = money.get(order_id, (0, 0))
            answer[numbers.to_text(order_id)] = {{
                "status": status, "total": total, "coupon": coupon, "endings": endings or [],
                "captured": captured, "refunded": refunded,
            }}
"""
STOCK = """
from django.db import connections
from inventory.models import Stock
from sharding import shards
skus = {skus!r}
held = dict.fromkeys(skus, 0)
for alias in shards.aliases():
    with connections[alias].cursor() as cursor:
        cursor.execute(
            "SELECT sku, sum(quantity) FROM orders_orderline JOIN orders_order AS orders ON orders.id = order_id"
            " WHERE sku = ANY(%s) AND status IN ('placed', 'confirmed', 'paid') GROUP BY sku",
            [skus],
        )
        for sku, quantity in cursor.fetchall():
            held[sku] += int(quantity)
answer = {{
    stock.sku: {{
        "on_hand": stock.on_hand, "reserved": stock.reserved, "available": stock.available, "held": held[stock.sku]
    }}
    for stock in Stock.objects.filter(pk__in=skus)
}}
"""
COUPONS = """
from coupons.models import Coupon
answer = {{code: [redeemed, limit] for code, redeemed, limit in
           Coupon.objects.filter(code={code!r}).values_list("code", "redeemed", "total_limit")}}
"""


@dataclass(slots=True)
class Prepared:
    """What was made for one run. `people` are id, name and token; `stock` is how many pieces came in of which product.

    `rare` is the product of a flash sale; `catalogue` and `categories` are what the shop was seeded with.
    """

    people: list[tuple[int, str, str]]
    stock: Mapping[str, int]
    rare: str = ""
    coupon: str = ""
    catalogue: list[str] = field(default_factory=list)
    categories: list[str] = field(default_factory=list)

    def write(self, path: Path) -> None:
        """For the process of the customers."""
        plan: dict[str, Any] = {
            "people": self.people,
            "skus": [sku for sku in self.stock if sku != self.rare],
            "rare": self.rare,
            "coupon": self.coupon,
            "catalogue": self.catalogue,
            "categories": self.categories,
            "password": PASSWORD,
        }
        path.write_text(json.dumps(plan))


def prepare(shell: Shell, scenario: Scenario, users: int, minutes: float) -> Prepared:
    """Raises ShellError."""
    name = f"LOAD-{uuid4().hex[:6].upper()}"
    people = shell.run(PEOPLE.format(count=users, password=PASSWORD))
    # Enough for an order a second of each user, and little enough that the chart of the stock shows it.
    pieces = max(FEWEST, round(users * minutes * 60))
    stock = {f"{name}-{number}": pieces for number in range(1, PRODUCTS + 1)}
    catalogue, categories = shell.run(CATALOGUE)
    prepared = Prepared([tuple(person) for person in people], stock, catalogue=catalogue, categories=categories)
    if scenario.burst:
        prepared.rare = f"{name}-RARE"
        prepared.stock = {prepared.rare: FLASH_PIECES}
    for sku, pieces in prepared.stock.items():
        shell.run(NEW_PRODUCT.format(sku=sku, price=PRICE, stock=pieces))
    if scenario.name == "coupon-rush":
        prepared.coupon = name
        shell.run(NEW_COUPON.format(code=name, limit=COUPON_LIMIT))
    return prepared


def orders_of(shell: Shell, prepared: Prepared) -> dict[str, Order]:
    """All orders of these people, by number. Raises ShellError."""
    ids = [customer_id for customer_id, _, _ in prepared.people]
    found = shell.run(ORDERS.format(lowest=min(ids), highest=max(ids)))
    return {number: Order(**order) for number, order in found.items()}


def stock_of(shell: Shell, prepared: Prepared) -> dict[str, Stock]:
    """The stock of these products. Raises ShellError."""
    found = shell.run(STOCK.format(skus=list(prepared.stock)))
    return {sku: Stock(received=prepared.stock[sku], **levels) for sku, levels in found.items()}


def coupons_of(shell: Shell, prepared: Prepared) -> dict[str, tuple[int, int | None]]:
    """How often the coupon is redeemed, and its limit. Raises ShellError."""
    if not prepared.coupon:
        return {}
    found = shell.run(COUPONS.format(code=prepared.coupon))
    return {code: (redeemed, limit) for code, (redeemed, limit) in found.items()}
