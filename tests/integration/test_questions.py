"""What the laboratory asks a shop's databases: it finds what the oracle judges."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from eventing.testing import drain
from lab.oracle import Ledger, Order, Promise, judge
from lab.programs import questions, shop
from orders import handlers
from tests.integration.order_samples import TOTAL, cancel, confirm, metadata, pay, place

pytestmark = [pytest.mark.services, pytest.mark.django_db(databases="__all__")]

ANN, BOB = 7, 8


def test_orders_are_found_with_their_lines_and_endings() -> None:
    open_order, paid, cancelled, others = place(ANN), place(ANN), place(BOB), place(9)
    for command in (confirm(paid), pay(paid), cancel(cancelled)):
        handlers.handle(command, metadata())

    found = questions.orders([ANN, BOB])

    assert others not in found
    items = found[open_order].items
    assert sum(items.values()) > 1
    assert found[open_order] == Order(status="placed", total=TOTAL, items=items)
    assert found[paid] == Order(status="paid", total=TOTAL, items=items, endings=["order.paid"])
    assert found[cancelled] == Order(status="cancelled", total=TOTAL, items=items, endings=["order.cancelled"])


def test_stock_and_promises_are_compared_with_what_is_there() -> None:
    [customer] = shop.people(1)
    shop.products({"RARE": 2})
    shop.handle_all(shop.placements([customer.customer_id], ["RARE"], timezone.now() + timedelta(hours=1)))
    drain()
    [order_id] = questions.orders([customer.customer_id])
    ledger = Ledger(customers={customer.customer_id}, stock={"RARE": 2})
    ledger.accept(Promise(order_id=order_id, items={"RARE": 1}, may_expire=True))

    facts = questions.facts(list(ledger.customers), list(ledger.stock))

    assert facts.orders[order_id].status == "confirmed"
    assert facts.stock == {"RARE": (2, 1, 1)}
    assert judge(ledger, facts).doubled == judge(ledger, facts).oversold == 0
    ledger.promises[0].items = {"RARE": 2}
    assert "orders whose lines are not what was ordered" in " ".join(judge(ledger, facts).findings)
