"""Payments that were declined before orders heard of declines do not look like lost messages."""

from __future__ import annotations

from datetime import timedelta
from importlib import import_module

import pytest
from django.apps import apps
from django.db import connections

from eventing.models import InboxEntry
from eventing.testing import drain
from monitoring.audit import audit
from sharding import shards
from tests.factories import CustomerFactory
from tests.flows.conftest import Shop

pytestmark = [pytest.mark.django_db(databases="__all__"), pytest.mark.usefixtures("nothing_delayed")]

migration = import_module("orders.migrations.0004_declines_before_holds")


def lost() -> tuple[str, ...]:
    [result] = audit(settle=timedelta(0), only=["events_reach_subscribers"]).results
    return tuple(offender for offender in result.offenders if offender.startswith("orders:"))


def test_an_older_decline_counts_as_handled() -> None:
    shop = Shop(customer=CustomerFactory.create(username="ann"), deliver=drain)
    shop.stock("BOOK", 1)
    order_id = shop.place(("BOOK", 1))
    drain()
    shop.pay(order_id, "tok_declined")
    drain()
    alias = shards.alias_of(order_id)
    InboxEntry.objects.using(alias).filter(subscriber="orders", category="payment").delete()
    assert len(lost()) == 1

    for _ in range(2):
        for one in shards.aliases():
            migration.count_as_handled(apps, connections[one].schema_editor())

    assert lost() == ()
    assert InboxEntry.objects.using(alias).filter(subscriber="orders", category="payment").count() == 1
