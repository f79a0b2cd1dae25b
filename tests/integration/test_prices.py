"""How old a price can be when an order is placed: docs/reference/guarantees.md says it."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import transaction

from caching.two_level import MEMORY_SECONDS
from checkout import service as checkout
from eventing.recorded import Metadata
from inventory import handlers
from inventory.models import Product
from sharding.router import database_of
from tests.factories import ProductFactory
from tests.waiting import wait_until, wait_until_changes_are_heard

pytestmark = pytest.mark.django_db(databases="__all__", transaction=True)

CUSTOMER = 7
KEPT = 1  # seconds; a shop keeps prices for CATALOGUE_CACHE_SECONDS
SLACK = 2  # seconds for a busy machine


def price_of_a_new_order(key: str) -> int:
    placement = checkout.place(CUSTOMER, [("mug", 1)], None, key=key, metadata=Metadata(correlation_id="test"))
    return placement.placed.lines[0].unit_price


def test_price_that_was_changed_behind_the_cache_is_used_for_a_bounded_time(settings: Any) -> None:
    settings.CATALOGUE_CACHE_SECONDS = KEPT
    ProductFactory.create(sku="mug", name="Mug", price=250, pieces=100)
    wait_until_changes_are_heard()
    assert price_of_a_new_order("before") == 250

    Product.objects.filter(sku="mug").update(price=260)  # tells nobody, like a process that Redis does not reach

    assert price_of_a_new_order("cached") == 250
    attempts = iter(range(1000))
    wait_until(lambda: price_of_a_new_order(f"later-{next(attempts)}") == 260, KEPT + MEMORY_SECONDS + SLACK)


def test_price_that_is_announced_is_used_at_once(settings: Any) -> None:
    settings.CATALOGUE_CACHE_SECONDS = 3600
    ProductFactory.create(sku="mug", name="Mug", price=250, pieces=100)
    wait_until_changes_are_heard()
    assert price_of_a_new_order("before") == 250

    using = database_of("inventory")
    with transaction.atomic(using=using):
        Product.objects.filter(sku="mug").update(price=260)
        handlers.evict_offers_on_commit(["mug"], using)

    assert price_of_a_new_order("after") == 260
