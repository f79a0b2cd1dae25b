"""What may be asked of a reservation. Time and ids travel in the command, so that the domain needs no clock."""

from dataclasses import dataclass
from datetime import datetime

from inventory.events import ReservedItem


@dataclass(frozen=True, slots=True, kw_only=True)
class ReserveStock:
    """Set the items aside for an order: all of them or none."""

    order_id: int
    items: tuple[ReservedItem, ...]
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseStock:
    """The order came to nothing. May overtake its ReserveStock, which then does nothing."""

    order_id: int
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ShipStock:
    """The order has left the building."""

    order_id: int
    at: datetime


Command = ReserveStock | ReleaseStock | ShipStock
