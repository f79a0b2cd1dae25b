"""Filling a new shop: everything is there, in every state, and nothing twice."""

from __future__ import annotations

import os
from collections import Counter
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.auth import authenticate
from django.contrib.auth.models import User
from django.core import mail
from django.core.management import CommandError, call_command
from django.db.models import Q
from django.utils import timezone

from coupons.models import Coupon
from eventing.models import InboxEntry, OutboxMessage
from eventing.testing import drain
from inventory.models import Product, Stock
from monitoring.audit import audit
from notifications.models import Message
from orders import selectors
from orders.models import Order
from seed.data import CATALOGUE, COUPONS, CUSTOMERS
from sharding import numbers, shards
from tests.integration.test_audit import OTHERS, broken, pretend_handled

pytestmark = pytest.mark.django_db(databases="__all__")

EACH_ONCE = 13  # so many orders are the first of each kind


@pytest.fixture(autouse=True)
def development(settings: LazySettings) -> None:
    settings.DEBUG = True


def seed(*arguments: str, orders: int = EACH_ONCE) -> str:
    out = StringIO()
    call_command("seed", f"--orders={orders}", *arguments, stdout=out)
    return out.getvalue()


def states() -> Counter[str]:
    return Counter(
        status for alias in shards.aliases() for status in Order.objects.using(alias).values_list("status", flat=True)
    )


def everything() -> list[Any]:
    tables: list[Any] = [User.objects.count(), Product.objects.count(), Coupon.objects.count(), Message.objects.count()]
    for alias in shards.aliases():
        tables += sorted(Order.objects.using(alias).values_list("id", "version"))
    return tables


def test_a_new_shop_has_products_coupons_and_people() -> None:
    seed(orders=0)

    assert (len(CATALOGUE), Product.objects.count()) == (6, 60)
    assert not Stock.objects.filter(on_hand__lte=0).exists()
    assert Coupon.objects.count() == len(COUPONS)
    assert User.objects.count() == len(CUSTOMERS) + 5 == 55
    assert states() == Counter()


def test_the_coupons_are_of_every_kind() -> None:
    seed(orders=0)
    now = timezone.now()

    for kind in (
        Q(kind="percentage"), Q(kind="fixed"), Q(minimum_spend__gt=0), Q(valid_from__gt=now), Q(valid_until__lt=now),
        Q(total_limit__isnull=False), Q(per_customer_limit__isnull=False), Q(active=False),
    ):  # fmt: skip
        assert Coupon.objects.filter(kind).exists(), kind


def test_orders_are_spread_over_the_past_days_and_over_the_shards() -> None:
    seed(orders=60)
    now = timezone.now()

    placed = [order.placed_at for order in selectors.all_orders(limit=100).items]

    assert len(placed) == 60
    assert min(placed) < now - timedelta(days=7)
    assert max(placed) > now - timedelta(days=2)
    for alias in shards.aliases():
        assert Order.objects.using(alias).exists(), alias


@pytest.mark.skipif(os.environ["TEST_PROFILE"] == "services", reason="this broker is not in the test's process")
def test_with_a_broker_in_the_process_nothing_is_left_to_publish(settings: LazySettings) -> None:
    seed(orders=1)

    assert [OutboxMessage.objects.using(alias).count() for alias in settings.DATABASES] == [0] * len(settings.DATABASES)
    assert InboxEntry.objects.filter(subscriber="integration").exists()


def test_with_a_broker_of_its_own_the_events_stay_for_the_relay(settings: LazySettings) -> None:
    settings.EVENTING_DURABLE_BROKER = True

    seed(orders=1)

    assert sum(OutboxMessage.objects.using(alias).count() for alias in settings.DATABASES) > 60
    assert not InboxEntry.objects.filter(subscriber="integration").exists()


def test_nobody_gets_mail_for_these_orders() -> None:
    seed()
    drain()

    assert Message.objects.filter(channel="inbox").exists()
    assert not Message.objects.filter(channel="email").exists()
    assert mail.outbox == []
    assert not User.objects.filter(email="").exists()


def test_the_logins_let_in_and_the_customers_have_none() -> None:
    seed(orders=0)

    operator = authenticate(username="admin", password="admin")
    shopper = authenticate(username="demo", password="demo")
    assert operator is not None
    assert operator.is_superuser
    assert shopper is not None
    assert not shopper.is_staff
    for name, role in (("viewer", "viewer"), ("support", "support"), ("stock", "stock keeper")):
        colleague = authenticate(username=name, password=name)
        assert colleague is not None
        assert (colleague.is_staff, colleague.is_superuser) == (True, False)
        assert [group.name for group in colleague.groups.all()] == [role]
    assert not User.objects.get(username="ada.lindqvist").has_usable_password()


def test_the_next_to_register_gets_an_id_of_their_own() -> None:
    seed(orders=0)

    assert User.objects.create_user("new").pk in numbers.CUSTOMER_IDS


def test_the_audit_finds_nothing() -> None:
    seed(orders=40)
    drain()
    pretend_handled(OTHERS)
    # Where the broker is a program of its own the seed leaves its events to the relay.
    report = audit(settle=timedelta(0))

    assert broken(report) == {}
    assert {result.check.name: result.checked for result in report.results}["read_model_matches_events"] == 40


def test_a_second_run_adds_nothing_and_says_so() -> None:
    assert "Seeded in" in seed()
    before = everything()

    assert seed() == "Nothing to seed: everything is there already.\n"
    assert everything() == before


def test_a_run_that_was_cut_off_is_completed() -> None:
    seed(orders=5)
    User.objects.filter(username="demo").delete()
    Product.objects.get(sku="GAR-010").stock.delete()
    Product.objects.filter(sku="GAR-010").delete()

    said = seed(orders=12)

    assert "1 of 60 products added" in said
    assert "1 of 5 logins added" in said
    assert sum(states().values()) == 12


def test_what_was_changed_stays_as_it_is() -> None:
    seed(orders=0)
    Product.objects.filter(sku="COF-001").update(price=1)
    operator = User.objects.get(username="admin")
    operator.set_password("a better one")
    operator.save()

    seed(orders=0)

    assert Product.objects.get(sku="COF-001").price == 1
    assert authenticate(username="admin", password="admin") is None


def test_a_shop_with_real_customers_gets_no_logins_that_everybody_knows(settings: LazySettings) -> None:
    settings.DEBUG = settings.EMBEDDED = False

    with pytest.raises(CommandError, match="DEBUG is off"):
        seed()
    assert everything()[:3] == [0, 0, 0]

    said = seed("--reference-data")
    assert everything()[:3] == [0, 60, len(COUPONS)]
    assert "60 of 60 products added" in said
    assert states() == Counter()


@pytest.mark.parametrize("number", ["-1", "many", "1000000000", "1.5"])
def test_a_number_of_orders_that_is_none_is_refused(number: str) -> None:
    with pytest.raises(CommandError, match="is not a number from 0 to"):
        call_command("seed", f"--orders={number}")


@pytest.mark.skipif(os.environ["TEST_PROFILE"] == "services", reason="PostgreSQL can")
@pytest.mark.parametrize("arguments", [["--orders=1000000"], ["--orders=300", "--hot-customer=100"]])
def test_sqlite_does_not_take_a_million_orders(arguments: list[str]) -> None:
    with pytest.raises(CommandError, match="this installation runs on SQLite"):
        call_command("seed", *arguments)
    assert everything()[:3] == [0, 0, 0]
