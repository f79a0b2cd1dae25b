"""What the audit checks of stock."""

from datetime import datetime

from values.contexts import Found, Promise, named


def stock_adds_up(alias: str, until: datetime) -> Found:
    return named(
        alias,
        "inventory_stock",
        "SELECT sku FROM inventory_stock WHERE on_hand < 0 OR reserved < 0 OR available < 0"
        " OR on_hand <> available + reserved ORDER BY sku",
    )


def stock_matches_ledger(alias: str, until: datetime) -> Found:
    return named(
        alias,
        "inventory_stock",
        "WITH ledger AS (SELECT sku, sum(CASE kind WHEN 'shipped' THEN -quantity ELSE quantity END) AS pieces"
        " FROM inventory_stockmovement GROUP BY sku)"
        " SELECT stock.sku FROM inventory_stock AS stock LEFT JOIN ledger ON ledger.sku = stock.sku"
        " WHERE stock.on_hand <> coalesce(ledger.pieces, 0) ORDER BY stock.sku",
    )


def stock_matches_reservations(alias: str, until: datetime) -> Found:
    return named(
        alias,
        "inventory_stock",
        "WITH held AS (SELECT line.sku, sum(line.quantity) AS pieces FROM inventory_reservation AS reservation"
        " JOIN inventory_reservationline AS line ON line.order_id = reservation.order_id"
        " WHERE reservation.status = 'reserved' GROUP BY line.sku)"
        " SELECT stock.sku FROM inventory_stock AS stock LEFT JOIN held ON held.sku = stock.sku"
        " WHERE stock.reserved <> coalesce(held.pieces, 0) ORDER BY stock.sku",
    )


PROMISES = (
    Promise(
        name="stock_adds_up",
        title="No stock is negative, and what is on hand is what is available plus what is set aside.",
        counts="products",
        hint="The database refuses this, so somebody has dropped its constraints: add them again. Count the product "
        "and adjust its stock in the back office.",
        find=stock_adds_up,
        at_once=True,
    ),
    Promise(
        name="stock_matches_ledger",
        title="What is on hand is what was received and adjusted less what was shipped.",
        counts="products",
        hint="Compare the product's stock movements with its stock row; count, and adjust the stock.",
        find=stock_matches_ledger,
        at_once=True,
    ),
    Promise(
        name="stock_matches_reservations",
        title="What is set aside of a product is what its live reservations hold.",
        counts="products",
        hint="Add up the live reservations of the product, and correct `reserved` and `available` of its stock row.",
        find=stock_matches_reservations,
        at_once=True,
    ),
)
