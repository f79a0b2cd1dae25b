"""Where a customer's next order probably goes: there where the last one went."""

from __future__ import annotations

from dataclasses import asdict

from django.contrib.auth.models import User

from orders import selectors


def default_of(customer: User) -> dict[str, str]:
    """The fields of an address for the checkout to begin with, as far as they are known."""
    last = selectors.orders_of(customer.pk, limit=1)
    address = selectors.ship_to(last[0].id) if last else None
    return {"name": customer.get_full_name()} if address is None else asdict(address)
