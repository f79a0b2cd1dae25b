"""What a test has committed is gone afterwards, in all databases and partitions."""

from __future__ import annotations

import pytest
from django.apps import apps
from django.contrib.auth.models import Permission, User
from django.db import connections

from orders.models import Order
from sharding import shards
from tests import emptying
from tests.integration.order_samples import place

CUSTOMERS = range(1, 9)


@pytest.mark.django_db(transaction=True, databases="__all__")
def test_all_tables_are_emptied_but_what_belongs_to_the_code() -> None:
    User.objects.create(username="ann")
    for customer_id in CUSTOMERS:
        place(customer_id)
    assert sum(Order.objects.using(alias).count() for alias in shards.aliases()) == len(CUSTOMERS)
    permissions = Permission.objects.count()

    for alias in connections:
        emptying.empty(alias)

    filled = {
        model._meta.db_table
        for alias in connections
        for model in apps.get_models(include_auto_created=True)
        if model._meta.db_table in connections[alias].introspection.table_names()
        and model._base_manager.using(alias).exists()
    }
    assert filled == emptying.KEPT
    assert Permission.objects.count() == permissions > 0
