"""An order's whole way, driven through the same functions that pages and API call."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from django.contrib.auth.models import User

from checkout import service as checkout
from coupons.models import Coupon
from eventing.recorded import Metadata
from eventing.testing import drain
from inventory import handlers as inventory_handlers
from inventory.models import Stock
from lab.harness import installations
from lab.harness.instances import start_postgresql, stop
from monitoring.audit import CHECKS, audit
from orders import handlers as order_handlers
from orders import selectors as order_selectors
from orders.commands import Command
from orders.domain import Status
from tests.factories import CouponFactory, CustomerFactory, ProductFactory


def metadata() -> Metadata:
    return Metadata(correlation_id=uuid4().hex, actor="test")


@dataclass
class Shop:
    """A shop with a product or two, whose events travel when `deliver` is called."""

    customer: User
    deliver: Callable[[], int]
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def stock(self, sku: str, quantity: int, price: int = 1_000) -> None:
        ProductFactory.create(sku=sku, price=price)
        inventory_handlers.receive_stock(sku, quantity, "delivery", self.now, metadata())

    def place(self, *wanted: tuple[str, int], coupon: str | None = None, customer: User | None = None) -> int:
        placement = checkout.place(
            (customer or self.customer).pk, wanted, coupon, key=uuid4().hex, metadata=metadata(), at=self.now
        )
        return placement.order_id

    def command(self, command: Command) -> None:
        order_handlers.handle(command, metadata())

    def pay(self, order_id: int, token: str = "tok_ok") -> None:
        checkout.pay(order_id, self.customer.pk, token, metadata())

    def status(self, order_id: int) -> Status:
        order = order_selectors.get(order_id)
        assert order is not None
        return Status(order.status)

    def history(self, order_id: int) -> list[str]:
        return [type(recorded.event).__name__ for recorded in order_selectors.history(order_id)]

    def on_hand(self, sku: str) -> tuple[int, int, int]:
        """(on hand, reserved, available)"""
        stock = Stock.objects.get(product__sku=sku)
        return stock.on_hand, stock.reserved, stock.available


@pytest.fixture
def shop(db: None) -> Iterator[Shop]:
    """Whatever the test does to it, every promise holds afterwards. Programs outside are told nothing here."""
    joined = datetime.now(UTC) - timedelta(days=365)  # before all orders, whatever the time in the test
    customer = CustomerFactory.create(username="ann", date_joined=joined, password="a-long-password")
    yield Shop(customer=customer, deliver=drain)
    promises = {check.name for check in CHECKS} - {"events_published", "events_reach_subscribers"}
    report = audit(settle=timedelta(0), only=promises)
    assert {one.check.name: one.offenders for one in report.results if one.violations} == {}


@pytest.fixture
def coupon(db: None) -> Coupon:
    """Ten percent off."""
    return CouponFactory.create()


@pytest.fixture
def database_url(tmp_path: Path) -> Iterator[str]:
    """A PostgreSQL for a further shop: the tests' own, for that of the machine may not have connections enough."""
    if installations.uses_templates(os.environ):
        yield os.environ["DATABASE_URL"]
        return
    directory = tmp_path / "postgresql"
    directory.mkdir()
    instance = start_postgresql(directory)
    try:
        yield instance.url
    finally:
        stop(instance)
        shutil.rmtree((directory / "data").resolve(), ignore_errors=True)  # elsewhere if root has started it
