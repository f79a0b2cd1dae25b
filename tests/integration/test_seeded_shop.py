"""What a seeded shop holds; how it comes to that is looked at in test_seed.py."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db.models import F
from django.test import override_settings
from django.utils import timezone

from coupons.models import Coupon
from eventing.models import DeadLetter
from eventing.testing import drain
from inventory.models import Stock
from orders import selectors
from orders.models import Order
from payments.models import Payment
from sharding import shards
from tests.integration.test_seed import EACH_ONCE, everything, states

pytestmark = [pytest.mark.django_db(databases="__all__"), pytest.mark.usefixtures("seeded")]


@pytest.fixture(scope="module")
def seeded(shared_databases: None) -> None:
    with override_settings(DEBUG=True):
        call_command("seed", f"--orders={EACH_ONCE}", stdout=StringIO())


def test_the_first_orders_are_in_every_state_that_lasts() -> None:
    assert states() == {
        "delivered": 1, "shipped": 1, "paid": 2 + 1, "confirmed": 2, "refunded": 1, "cancelled": 3, "rejected": 2,
    } or states() == {
        "delivered": 1, "shipped": 1, "paid": 2, "confirmed": 2 + 1, "refunded": 1, "cancelled": 3, "rejected": 2,
    }  # fmt: skip
    assert reasons() == {"out_of_stock", "coupon_refused", "customer", "operator", "payment_timeout"}
    assert set(Payment.objects.values_list("status", flat=True)) == {"captured", "declined", "refunded"}


def reasons() -> set[str]:
    return {
        reason
        for alias in shards.aliases()
        for reason in Order.objects.using(alias).exclude(reason="").values_list("reason", flat=True)
    }


def test_orders_that_wait_for_payment_have_a_fresh_deadline() -> None:
    now = timezone.now()

    for alias in shards.aliases():
        assert not Order.objects.using(alias).filter(expires_at__lt=now + timedelta(hours=12)).exists()


def test_all_events_have_had_their_effect_and_none_failed() -> None:
    before = everything()
    drain()

    assert everything() == before
    assert not DeadLetter.objects.exists()


def test_the_stock_adds_up() -> None:
    assert not Stock.objects.exclude(on_hand=F("reserved") + F("available")).exists()
    assert Coupon.objects.get(code="LASTONE").redeemed == 1


def test_the_shopper_has_a_history() -> None:
    assert selectors.orders_of(User.objects.get(username="demo").pk, limit=1)
