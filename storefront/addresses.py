"""A customer's usual address: the one that they have saved, or else that of their last order."""

from __future__ import annotations

from dataclasses import asdict

from django.contrib.auth.models import User

from orders import selectors
from orders.events import Address
from sharding.router import database_of
from storefront.forms import ADDRESS_FIELDS
from storefront.models import UsualAddress


def usual_of(customer: User) -> dict[str, str] | None:
    """The fields of the address that the customer has saved, if any."""
    rows = UsualAddress.objects.using(database_of("storefront")).filter(customer_id=customer.pk)
    found: dict[str, str] | None = rows.values(*ADDRESS_FIELDS).first()
    return found


def default_of(customer: User) -> dict[str, str]:
    """The fields of an address for the checkout to begin with, as far as they are known."""
    if (usual := usual_of(customer)) is not None:
        return usual
    last = selectors.orders_of(customer.pk, limit=1)
    address = selectors.ship_to(last[0].id) if last else None
    return {"name": customer.get_full_name()} if address is None else asdict(address)


def remember(customer: User, address: Address) -> None:
    UsualAddress.objects.using(database_of("storefront")).update_or_create(
        customer_id=customer.pk, defaults=asdict(address)
    )


def forget(customer: User) -> None:
    UsualAddress.objects.using(database_of("storefront")).filter(customer_id=customer.pk).delete()
