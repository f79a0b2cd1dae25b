"""A shard that was restored to an earlier moment is noticed, and the clock waits there until an operator has looked."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from pytest_django.fixtures import Settings

from eventing.models import DatabaseMark, Event, InboxEntry, OutboxMessage
from eventing.testing import drain
from monitoring import checks
from monitoring.audit import audit
from orders.models import IdempotencyKey, Order, OrderLine
from orders.tasks import cancel_overdue_orders
from sharding import numbers, restores, shards
from sharding.models import Bucket
from tests.integration.shop_api import Api, stock_the_shop

pytestmark = [pytest.mark.django_db(databases="__all__"), pytest.mark.usefixtures("nothing_delayed")]

SHARD, OTHER = "orders_0", "orders_1"


def customer(alias: str) -> Api:
    """A customer whose orders are in this shard."""
    bucket = shards.buckets_of(alias)[0]
    return Api(User.objects.create_user(f"of-{alias}", pk=numbers.new_customer_id(bucket)))


def forget(alias: str, number: str) -> None:
    """What restoring the shard to a moment before the order does."""
    order_id = numbers.parse(number)
    for model in (Event, OutboxMessage, InboxEntry):
        model.objects.using(alias).filter(stream_id=order_id).delete()
    OrderLine.objects.using(alias).filter(order_id=order_id).delete()
    IdempotencyKey.objects.using(alias).filter(order_id=order_id).delete()
    Order.objects.using(alias).filter(id=order_id).delete()


@pytest.fixture(autouse=True)
def overdue_at_once(settings: Settings) -> None:
    settings.ORDER_PAYMENT_TIMEOUT = timedelta(microseconds=1)


def status(alias: str, number: str) -> str:
    return str(Order.objects.using(alias).get(id=numbers.parse(number)).status)


def restored(*arguments: str) -> str:
    out = StringIO()
    call_command("restored", *arguments, stdout=out)
    return out.getvalue()


@pytest.fixture
def kept_and_lost() -> tuple[str, str]:
    """A shard that has an order, and has forgotten another that everybody has reacted to."""
    stock_the_shop()
    api = customer(SHARD)
    kept, lost = api.place(("BOOK", 1)), api.place(("PEN", 2))
    drain()
    forget(SHARD, lost)
    return kept, lost


def test_clock_waits_on_a_restored_shard_until_it_is_released(kept_and_lost: tuple[str, str]) -> None:
    kept, _ = kept_and_lost
    elsewhere = customer(OTHER).place(("BOOK", 1))
    drain()

    assert cancel_overdue_orders() == 1
    assert (status(SHARD, kept), status(OTHER, elsewhere)) == ("confirmed", "cancelled")
    assert restored().startswith(f"{SHARD}: restored; the clock cancels nothing there since ")
    assert OTHER not in restored()
    assert cancel_overdue_orders() == 0

    assert restored("--release", SHARD) == "The clock waits on no shard.\n"
    assert cancel_overdue_orders() == 1
    assert status(SHARD, kept) == "cancelled"
    assert restored() == "The clock waits on no shard.\n"


def test_shard_that_lost_nothing_does_not_wait() -> None:
    stock_the_shop()
    number = customer(SHARD).place(("BOOK", 1))
    drain()
    assert cancel_overdue_orders() == 1
    assert status(SHARD, number) == "cancelled"


def test_orders_of_a_bucket_that_has_just_moved_away_are_not_lost(kept_and_lost: tuple[str, str]) -> None:
    bucket = numbers.bucket_of(numbers.parse(kept_and_lost[1]))
    assert restores.lost_orders(SHARD, "order") == [numbers.parse(kept_and_lost[1])]
    Bucket.objects.filter(bucket=bucket).update(alias=OTHER)  # this process has not heard of it
    assert restores.lost_orders(SHARD, "order") == []


def test_restore_that_shows_in_nothing_is_declared_by_hand() -> None:
    stock_the_shop()
    number = customer(SHARD).place(("BOOK", 1))
    drain()
    assert restored("--declare", SHARD).startswith(f"{SHARD}: restored")
    assert cancel_overdue_orders() == 0
    assert status(SHARD, number) == "confirmed"
    with pytest.raises(CommandError, match="orders_99 is not a shard"):
        restored("--declare", "orders_99")
    with pytest.raises(CommandError, match=f"{OTHER} does not wait"):
        restored("--release", OTHER)


def test_what_is_bound_to_forgotten_orders_is_named(kept_and_lost: tuple[str, str]) -> None:
    report = audit(settle=timedelta(0), only=["everything_has_its_order"])
    [result] = report.results
    assert result.offenders == (f"stock, messages of order {kept_and_lost[1]}",)


@pytest.mark.django_db(databases="__all__", transaction=True)
def test_readiness_names_a_shard_that_waits() -> None:
    restores.declare(SHARD)
    try:
        with pytest.raises(checks.Impaired, match=f"{SHARD} was restored to an earlier moment"):
            checks.installation()
    finally:
        DatabaseMark.objects.using(SHARD).update(restored_at=None)
