"""What tests are about, with everything filled in that they do not care about: people, products, coupons, orders."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import factory
from django.contrib.auth.models import Permission, User
from factory.base import Factory
from factory.django import DjangoModelFactory

from coupons.models import Coupon
from eventing.recorded import Metadata
from inventory import handlers as inventory
from inventory.models import Category, Product
from orders.commands import PlaceOrder
from orders.events import Line
from sharding import numbers

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
TERM = timedelta(minutes=30)
TEA = Line(sku="tea", name="Green tea", quantity=2, unit_price=450)
CUP = Line(sku="cup", name="Cup", quantity=1, unit_price=1200)


class CustomerFactory(DjangoModelFactory[User]):
    """Without a password, unless the test gives one: hashing takes its time."""

    class Meta:
        model = User

    username: Any = factory.Sequence(lambda number: f"customer{number}")
    email = factory.LazyAttribute(lambda made: f"{made.username}@example.org")

    @classmethod
    def _create(cls, model_class: type[User], *args: Any, **fields: Any) -> User:
        return model_class.objects.create_user(**fields)


class OperatorFactory(CustomerFactory):
    """Somebody who works here and may do everything."""

    username = "olga"
    is_staff = True
    is_superuser = True


class EmployeeFactory(CustomerFactory):
    """Somebody who works here and may do what `permissions` names, by their codenames."""

    class Meta:
        skip_postgeneration_save = True

    username = factory.Sequence(lambda number: f"employee{number}")
    is_staff = True

    @factory.post_generation
    def permissions(self: Any, create: bool, codenames: Iterable[str] | None, **options: Any) -> None:
        if codenames:
            self.user_permissions.set(Permission.objects.filter(codename__in=codenames))


class ProductFactory(Factory[Product]):
    """A product and its category, made as an operator makes them, and `pieces` of it in stock."""

    class Meta:
        model = Product

    sku = factory.Sequence(lambda number: f"SKU-{number}")
    name = factory.LazyAttribute(lambda made: f"Product {made.sku}")
    category = "things"
    price = 1_000
    currency = "EUR"
    pieces = 0

    @classmethod
    def _create(cls, model_class: type[Product], *args: Any, **fields: Any) -> Product:
        pieces, sku, category = fields.pop("pieces"), fields["sku"], fields["category"]
        if not Category.objects.filter(slug=category).exists():
            inventory.add_category(slug=category, name=category.title())
        inventory.add_product(**fields)
        if pieces:
            inventory.receive_stock(sku, pieces, "delivery", datetime.now(UTC), Metadata(correlation_id="test"))
        return model_class.objects.get(sku=sku)


class CouponFactory(DjangoModelFactory[Coupon]):
    """Ten percent off, for everybody and always."""

    class Meta:
        model = Coupon

    code = "TEN"
    kind = "percentage"
    value = 1_000
    currency = "EUR"


class PlacementFactory(Factory[PlaceOrder]):
    """A command with a number that no other has. (Random ones of the same moment are equal now and then.)"""

    class Meta:
        model = PlaceOrder

    customer_id = 7
    at = NOON
    currency = "EUR"
    lines = (TEA, CUP)
    payment_due_at = factory.LazyAttribute(lambda made: made.at + TERM)

    @factory.lazy_attribute_sequence
    def order_id(self, number: int) -> int:
        sequences = 1 << numbers.SEQUENCE_BITS
        return numbers.new_order_id(self.customer_id, self.at) // sequences * sequences + number % sequences
