"""The check of the stock ledger against the events of the products, whose streams end where their stock rows say."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from django.db import connections

from eventing import store
from eventing.databases import look_up, snapshot, time_from_db
from eventing.errors import EventingError
from eventing.recorded import stream_name
from inventory.events import PRODUCT, StockAdjusted, StockReceived
from monitoring.audit.report import Finding, Scope, database_check
from sharding.router import database_of

PRODUCTS = 200  # looked at together


@database_check(
    title="Every receipt and adjustment of stock has its row in the ledger and its event, and nothing else has.",
    counts="products",
    hint="Somebody has changed stock or its movements by hand. Count the product; remove the row that has no "
    "event, or restore the one that is missing from a backup.",
    databases=lambda: (database_of("inventory"),),
    at_once=True,
)
def ledger_matches_events(alias: str, scope: Scope) -> Finding:
    """What was received or adjusted has a row and an event; they have no number in common, so content is compared."""
    checked, wrong, after = 0, [], 0
    with snapshot(connections[alias]), connections[alias].cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT movement.sku FROM inventory_stockmovement AS movement"
            " LEFT JOIN inventory_stock AS stock ON stock.sku = movement.sku WHERE stock.sku IS NULL"
        )
        wrong += [f"{sku}: movements without stock" for (sku,) in cursor.fetchall()]
        while True:
            cursor.execute(
                "SELECT product.id, product.sku, stock.version FROM inventory_product AS product"
                " LEFT JOIN inventory_stock AS stock ON stock.sku = product.sku"
                " WHERE product.id > %s ORDER BY product.id LIMIT %s",
                [after, PRODUCTS],
            )
            products = cursor.fetchall()
            if not products:
                return checked, wrong
            after = products[-1][0]
            checked += len(products)
            wrong += _compare(alias, products)


def _compare(alias: str, products: list[tuple[Any, ...]]) -> list[str]:
    connection = connections[alias]
    rows: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
    columns = ("sku", "kind", "quantity", "reason", "at", "id")
    skus = [(sku,) for _, sku, _ in products]
    for sku, *row in look_up(
        connection, "inventory_stockmovement", columns, ["sku"], skus, then="AND kind <> 'shipped' ORDER BY id"
    ):
        kind, quantity, reason, at, number = row
        rows[sku].append(((kind, quantity, reason, time_from_db(at)), f"{sku}: movement {number}"))
    try:
        streams = store.load_many(PRODUCT, [product_id for product_id, _, _ in products], using=alias)
    except EventingError:
        return []  # events_readable names what cannot be read
    wrong = []
    for product_id, sku, version in products:
        if version is None or version != len(streams[product_id]):
            wrong.append(f"{sku}: version {version} of {stream_name(PRODUCT, product_id)}")
        events = []
        for recorded in streams[product_id]:
            match recorded.event:
                case StockReceived(quantity=quantity, reason=reason, at=at):
                    events.append((("received", quantity, reason, at), f"{sku}: {recorded.id}"))
                case StockAdjusted(change=change, reason=reason, at=at):
                    events.append((("adjusted", change, reason, at), f"{sku}: {recorded.id}"))
        wrong += _without_partner(rows[sku], events) + _without_partner(events, rows[sku])
    return wrong


def _without_partner(these: list[Any], others: list[Any]) -> list[str]:
    """The names of those whose content the others do not have as often."""
    left = Counter(content for content, _ in others)
    alone = []
    for content, name in these:
        if left[content]:
            left[content] -= 1
        else:
            alone.append(name)
    return alone


CHECKS = (ledger_matches_events,)
