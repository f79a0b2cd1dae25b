"""What has happened to stock. A reservation's stream has the order's id, a product's stream the product's."""

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

RESERVATION = "reservation"
PRODUCT = "product"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReservedItem:
    sku: str
    quantity: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingItem:
    sku: str
    wanted: int
    available: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StockReserved:
    """All items of the order are set aside."""

    TYPE: ClassVar[str] = "inventory.stock_reserved"
    SCHEMA_VERSION: ClassVar[int] = 1

    items: tuple[ReservedItem, ...]
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StockRefused:
    """Not all items were available, so none was set aside; `missing` names the short ones."""

    TYPE: ClassVar[str] = "inventory.stock_refused"
    SCHEMA_VERSION: ClassVar[int] = 1

    missing: tuple[MissingItem, ...]
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StockReleased:
    """What was set aside is available again: the order came to nothing."""

    TYPE: ClassVar[str] = "inventory.stock_released"
    SCHEMA_VERSION: ClassVar[int] = 1

    items: tuple[ReservedItem, ...]
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StockShipped:
    """What was set aside has left the building."""

    TYPE: ClassVar[str] = "inventory.stock_shipped"
    SCHEMA_VERSION: ClassVar[int] = 1

    items: tuple[ReservedItem, ...]
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StockReceived:
    TYPE: ClassVar[str] = "inventory.stock_received"
    SCHEMA_VERSION: ClassVar[int] = 1

    sku: str
    quantity: int
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StockAdjusted:
    """Somebody has counted: `change` pieces more, or if it is negative less, than the books said."""

    TYPE: ClassVar[str] = "inventory.stock_adjusted"
    SCHEMA_VERSION: ClassVar[int] = 1

    sku: str
    change: int
    reason: str
    at: datetime
