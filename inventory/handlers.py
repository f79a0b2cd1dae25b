"""Changes to stock. Reactions to orders come in batches, and a batch is a fixed number of statements.

Stock rows are hot: every order for a product needs the same one. So a batch takes each row once, for all its orders.
Locks are always taken in the same order, which is what keeps workers from waiting for each other in a circle:
reservations by order id first, stock rows by sku after that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from django.db import connections, transaction
from django.db.models import F

from eventing import store
from eventing.databases import Insertion, insert, relation
from eventing.recorded import Metadata, NewEvents, Recorded
from inventory import domain, selectors
from inventory.commands import Command, ReserveStock, ShipStock
from inventory.domain import Level, Status
from inventory.events import (
    PRODUCT,
    RESERVATION,
    ReservedItem,
    StockAdjusted,
    StockReceived,
    StockReserved,
    StockShipped,
)
from inventory.models import Category, Product, Reservation, ReservationLine, Stock, StockMovement
from sharding.router import database_of

SHIPPED = "order shipped"

RESERVATION_TYPES = {
    "order_id": "bigint",
    "status": "text",
    "version": "integer",
    "created_at": "timestamptz",
    "updated_at": "timestamptz",
}
LINE_TYPES = {"order_id": "bigint", "sku": "text", "quantity": "integer"}
MOVEMENT_TYPES = {
    "sku": "text",
    "kind": "text",
    "quantity": "integer",
    "reason": "text",
    "order_id": "bigint",
    "at": "timestamptz",
}


def handle_batch(commands: Sequence[tuple[Command, Metadata]]) -> None:
    """Reserve, release and ship for many orders at once, inside the caller's transaction.

    Raises NotReserved if something is to be shipped that is not set aside; the transaction must then be rolled back.
    """
    using = database_of("inventory")
    asked = [command for command, _ in commands]
    reservations, versions = _lock_reservations(asked, using)
    stock = _lock_stock(_skus(asked, reservations), using)
    result = domain.allocate(asked, reservations, stock)

    writes: list[NewEvents] = []
    changed: dict[int, tuple[str, int, datetime]] = {}
    for (command, metadata), event in zip(commands, result.events, strict=True):
        if event is None:
            continue
        version = versions[command.order_id]
        versions[command.order_id] = version + 1
        changed[command.order_id] = (str(result.reservations[command.order_id].status), version + 1, event.at)
        writes.append(
            NewEvents(stream_id=command.order_id, expected_version=version, events=[event], metadata=metadata)
        )
    if not writes:
        return
    _write_stock(stock, result.stock, using)
    _write_reservations(changed, using)
    store.append(RESERVATION, writes, using=using, along=_rows_about)


def _lock_reservations(commands: Sequence[Command], using: str) -> tuple[dict[int, domain.Reservation], dict[int, int]]:
    """The reservations that are there already, and the version of every stream. All their rows are ours afterwards.

    An order not heard of gets a row that is void until something happens; if nothing does, it is the tombstone.
    Two workers that have events of the same new order meet here: the second waits for the first, and finds its row.
    """
    connection = connections[using]
    order_ids = sorted({command.order_id for command in commands})
    new = {command.order_id: command.at for command in commands if not isinstance(command, ShipStock)}
    claimed: set[int] = set()
    if new:
        void = Insertion(
            table="inventory_reservation",
            columns=RESERVATION_TYPES,
            rows=[(order_id, Status.VOID.value, 0, new[order_id], new[order_id]) for order_id in sorted(new)],
            then="ON CONFLICT DO NOTHING RETURNING order_id",
        )
        claimed = {order_id for (order_id,) in insert(connection, void)}
    versions = dict.fromkeys(claimed, 0)
    statuses: dict[int, Status] = {}
    if len(claimed) < len(order_ids):
        known = (
            Reservation.objects.using(using)
            .select_for_update()
            .filter(order_id__in=[order_id for order_id in order_ids if order_id not in claimed])
            .order_by("order_id")
        )
        for order_id, status, version in known.values_list("order_id", "status", "version"):
            statuses[order_id] = Status(status)
            versions[order_id] = version
    # A placement that is repeated needs no items, and so no stock rows.
    ending = {command.order_id for command in commands if not isinstance(command, ReserveStock)}
    items: dict[int, list[ReservedItem]] = {
        order_id: [] for order_id in ending if statuses.get(order_id) is Status.RESERVED
    }
    if items:
        lines = ReservationLine.objects.using(using).filter(reservation_id__in=list(items))
        for order_id, sku, quantity in lines.values_list("reservation_id", "sku", "quantity"):
            items[order_id].append(ReservedItem(sku=sku, quantity=quantity))
    reservations = {
        order_id: domain.Reservation(status=status, items=tuple(items.get(order_id, ())))
        for order_id, status in statuses.items()
    }
    return reservations, versions


def _skus(commands: Sequence[Command], reservations: dict[int, domain.Reservation]) -> set[str]:
    """The products whose stock the commands can touch: a placement heard of before touches nothing."""
    skus = {item.sku for reservation in reservations.values() for item in reservation.items}
    for command in commands:
        if isinstance(command, ReserveStock) and command.order_id not in reservations:
            skus |= {item.sku for item in command.items if domain.SKU.fullmatch(item.sku)}
    return skus


def _lock_stock(skus: Iterable[str], using: str) -> dict[str, Level]:
    wanted = sorted(skus)
    if not wanted:
        return {}
    rows = Stock.objects.using(using).select_for_update().filter(product__sku__in=wanted).order_by("product__sku")
    return {
        sku: Level(on_hand=on_hand, reserved=reserved)
        for sku, on_hand, reserved in rows.values_list("product__sku", "on_hand", "reserved")
    }


def _write_stock(before: dict[str, Level], after: dict[str, Level], using: str) -> None:
    """Add the differences rather than store the results, so that the table's own checks see every piece."""
    changes = [
        (sku, level.on_hand - before[sku].on_hand, level.reserved - before[sku].reserved)
        for sku, level in after.items()
        if level != before[sku]
    ]
    if not changes:
        return
    connection = connections[using]
    types = {"sku": "text", "on_hand": "integer", "reserved": "integer"}
    difference, parameters = relation(connection, "difference", types, changes)
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE inventory_stock SET on_hand = inventory_stock.on_hand + difference.on_hand,"
            " reserved = inventory_stock.reserved + difference.reserved,"
            " available = inventory_stock.available + difference.on_hand - difference.reserved"
            f" FROM {difference} WHERE inventory_stock.sku = difference.sku",
            parameters,
        )
    evict_stock_on_commit([sku for sku, _, _ in changes], using)


def _write_reservations(changed: dict[int, tuple[str, int, datetime]], using: str) -> None:
    connection = connections[using]
    types = {"order_id": "bigint", "status": "text", "version": "integer", "changed_at": "timestamptz"}
    rows = [(order_id, status, version, at) for order_id, (status, version, at) in changed.items()]
    change, parameters = relation(connection, "change", types, rows)
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE inventory_reservation SET status = change.status, version = change.version,"
            f" updated_at = change.changed_at FROM {change} WHERE inventory_reservation.order_id = change.order_id",
            parameters,
        )


def _rows_about(recorded: Sequence[Recorded[domain.Event]]) -> list[Insertion]:
    """The lines of new reservations, and the movements of what leaves the house."""
    lines: list[tuple[object, ...]] = []
    movements: list[tuple[object, ...]] = []
    for item in recorded:
        match item.event:
            case StockReserved(items=reserved):
                lines += [(item.stream_id, piece.sku, piece.quantity) for piece in reserved]
            case StockShipped(items=shipped, at=at):
                kind = StockMovement.Kind.SHIPPED.value
                movements += [(piece.sku, kind, piece.quantity, SHIPPED, item.stream_id, at) for piece in shipped]
    insertions = [
        Insertion(table="inventory_reservationline", columns=LINE_TYPES, rows=lines),
        Insertion(table="inventory_stockmovement", columns=MOVEMENT_TYPES, rows=movements),
    ]
    return [insertion for insertion in insertions if insertion.rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """Pieces of a product that orders of the past have taken with them, and that others of them still hold."""

    shipped: int = 0
    reserved: int = 0


def supply(used: Mapping[str, Used], reason: str, at: datetime, metadata: Metadata) -> list[Recorded[StockReceived]]:
    """Receive what orders that are written in bulk have used, and book its use: what is available stays the same.

    In the caller's transaction, which writes down the events. Their outbox rows are the caller's affair, too. Raises
    UnknownSku.
    """
    using = database_of("inventory")
    before = _lock_stock(used, using)
    if unknown := used.keys() - before.keys():
        raise domain.UnknownSku(*sorted(unknown))
    after = {
        sku: Level(on_hand=level.on_hand + used[sku].reserved, reserved=level.reserved + used[sku].reserved)
        for sku, level in before.items()
    }
    _write_stock(before, after, using)
    rows = Stock.objects.using(using).filter(product__sku__in=before)
    rows.update(version=F("version") + 1)
    recorded = []
    movements = []
    for sku, product_id, version in rows.order_by("product__sku").values_list("product__sku", "product__id", "version"):
        quantity = used[sku].shipped + used[sku].reserved
        domain.check_quantity(sku, quantity, domain.MAX_RECEIVED)
        kind = StockMovement.Kind.RECEIVED
        movements.append(StockMovement(sku=sku, kind=kind, quantity=quantity, reason=reason, at=at))
        recorded.append(
            Recorded(
                category=PRODUCT,
                stream_id=product_id,
                version=version,
                event=StockReceived(sku=sku, quantity=quantity, reason=reason, at=at),
                metadata=metadata,
                recorded_at=at,
            )
        )
    StockMovement.objects.using(using).bulk_create(movements)
    return recorded


def add_category(*, slug: str, name: str, position: int = 0) -> None:
    """Add a category, or give the one with this slug a new name and position. Raises InvalidProduct."""
    name = domain.clean_description("name", domain.CATEGORY_NAME, name)
    using = database_of("inventory")
    Category.objects.using(using).update_or_create(slug=slug, defaults={"name": name, "position": position})
    transaction.on_commit(selectors.evict_categories, using=using, robust=True)


def add_product(
    *,
    sku: str,
    name: str,
    category: str,
    price: int,
    currency: str,
    description: str = "",
    picture: str = "",
    active: bool = True,
) -> None:
    """Add a product with an empty stock. `category` is a slug, `price` in minor units of `currency`.

    Raises InvalidProduct, UnknownCategory, DuplicateSku.
    """
    domain.check_product(sku=sku, name=name, price=price, currency=currency)
    name = domain.clean_description("name", domain.NAME, name)
    description = domain.clean_description("description", domain.DESCRIPTION, description)
    using = database_of("inventory")
    with transaction.atomic(using=using):
        shelf = Category.objects.using(using).filter(slug=category).first()
        if shelf is None:
            raise domain.UnknownCategory(category)
        product, created = Product.objects.using(using).get_or_create(
            sku=sku,
            defaults={
                "name": name,
                "category": shelf,
                "price": price,
                "currency": currency,
                "description": description,
                "picture": picture,
                "active": active,
            },
        )
        if not created:
            raise domain.DuplicateSku(sku)
        Stock.objects.using(using).create(product=product)
        evict_offers_on_commit([sku], using)


def receive_stock(sku: str, quantity: int, reason: str, at: datetime, metadata: Metadata) -> None:
    """Put pieces of a product on the shelf.

    Raises UnknownSku, InvalidReason, and InvalidQuantity unless 1..1,000,000 pieces come in.
    """
    reason = domain.clean_reason(reason)
    domain.check_quantity(sku, quantity, domain.MAX_RECEIVED)
    with transaction.atomic(using=database_of("inventory")):
        row = _stock_of(sku)
        domain.check_quantity(sku, row.on_hand + quantity, domain.MAX_ON_HAND)
        event = StockReceived(sku=sku, quantity=quantity, reason=reason, at=at)
        _enter(row, StockMovement.Kind.RECEIVED, quantity, event, metadata)


def adjust_stock(sku: str, change: int, reason: str, at: datetime, metadata: Metadata) -> None:
    """Correct the books by so many pieces more or, if negative, less: somebody has counted, or dropped something.

    Raises UnknownSku, InvalidQuantity, InvalidReason, and BelowReserved if it takes what is set aside for orders.
    """
    reason = domain.clean_reason(reason)
    with transaction.atomic(using=database_of("inventory")):
        row = _stock_of(sku)
        domain.check_adjustment(sku, change, Level(on_hand=row.on_hand, reserved=row.reserved))
        event = StockAdjusted(sku=sku, change=change, reason=reason, at=at)
        _enter(row, StockMovement.Kind.ADJUSTED, change, event, metadata)


def _stock_of(sku: str) -> Stock:
    """The product's stock row, locked until the end of the transaction."""
    stock = Stock.objects.using(database_of("inventory")).select_for_update(of=("self",)).select_related("product")
    row = stock.filter(product__sku=sku).first()
    if row is None:
        raise domain.UnknownSku(sku)
    return row


def _enter(
    row: Stock, kind: StockMovement.Kind, change: int, event: StockReceived | StockAdjusted, metadata: Metadata
) -> None:
    """Write a change of a locked stock row: the row, the ledger, the event."""
    using = database_of("inventory")
    version = row.version
    row.on_hand += change
    row.available += change
    row.version += 1
    row.save(using=using, update_fields=["on_hand", "available", "version"])
    StockMovement.objects.using(using).create(sku=row.sku, kind=kind, quantity=change, reason=event.reason, at=event.at)
    write = NewEvents(stream_id=row.product.pk, expected_version=version, events=[event], metadata=metadata)
    store.append(PRODUCT, [write], using=using)
    evict_stock_on_commit([row.sku], using)


def evict_stock_on_commit(skus: Sequence[str], using: str) -> None:
    """Let everybody see the new stock of these products once the transaction is committed.

    Not as a subscriber of the events: that would be one more delivery of each, and some time later.
    """
    transaction.on_commit(partial(selectors.evict_products, skus), using=using, robust=True)


def evict_offers_on_commit(skus: Sequence[str], using: str) -> None:
    """Let everybody see these products as they are once the transaction is committed."""
    transaction.on_commit(partial(selectors.evict_offers, skus), using=using, robust=True)
