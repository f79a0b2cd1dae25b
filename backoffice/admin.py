"""Registers every page of the back office; Django's admin looks for this file."""

from backoffice import (  # noqa: F401
    coupons,
    deadletters,
    inventory,
    monitoring,
    notifications,
    orders,
    payments,
    shards,
    users,
)
