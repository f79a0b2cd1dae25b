"""What was paid in time is not cancelled by the clock, however late the order hears of it."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import OperationalError, connections

from checkout import service as checkout
from eventing.conf import conf
from eventing.inline import deliver_until_settled
from eventing.testing import deliver_shuffled, drain, publish_all
from eventing.wire import Envelope, Message
from orders import handlers, selectors
from orders.commands import CancelOrder
from orders.domain import PAYMENT_HOLD, OrderClosed
from orders.events import CancelReason
from payments.handlers import PaymentInProgress
from payments.models import Payment
from sharding import shards
from tests.factories import CustomerFactory
from tests.flows.conftest import Shop, metadata

pytestmark = pytest.mark.django_db(databases="__all__")

TERM = timedelta(minutes=30)
SECOND = timedelta(seconds=1)
STARTED = ["OrderPlaced", "OrderConfirmed", "OrderPaymentStarted"]


@pytest.fixture
def shop(shop: Shop, settings: LazySettings) -> Shop:
    settings.ORDER_PAYMENT_TIMEOUT = TERM
    shop.stock("BOOK", 10)
    return shop


@pytest.fixture
def order_id(shop: Shop) -> int:
    """A confirmed order, which is due `TERM` after `shop.now`."""
    order_id = shop.place(("BOOK", 1))
    drain()
    return order_id


def pay(shop: Shop, order_id: int, token: str = "tok_ok", *, before: timedelta = 12 * SECOND) -> str:
    """Pay so long before the deadline."""
    return checkout.pay(order_id, shop.customer.pk, token, metadata(), shop.now + TERM - before)


def sweep(shop: Shop, order_id: int, after: timedelta = SECOND, limit: int = 100) -> int:
    """The clock's task on the order's shard, so long after the deadline."""
    return handlers.cancel_overdue(shop.now + TERM + after, shards.alias_of(order_id), limit)


def expires(shop: Shop, order_id: int) -> timedelta | None:
    """When the order expires, counted from its deadline."""
    order = selectors.get(order_id)
    assert order is not None
    return None if order.expires_at is None else order.expires_at - (shop.now + TERM)


def deliver_but_to_orders() -> list[Message[Envelope]]:
    """Deliver everything while the worker of orders is frozen; returns what waits for it."""
    waiting: list[Message[Envelope]] = []
    while messages := publish_all():
        waiting += [message for message in messages if message.subscriber == "orders"]
        deliver_until_settled([one for one in messages if one.subscriber not in ("orders", "integration")])
    return waiting


def test_an_order_whose_worker_was_frozen_over_the_deadline_is_paid(shop: Shop, order_id: int) -> None:
    pay(shop, order_id)
    waiting = deliver_but_to_orders()
    assert Payment.objects.get(order_id=order_id).status == "captured"

    assert sweep(shop, order_id) == 0
    assert sweep(shop, order_id, timedelta(minutes=50)) == 0
    deliver_until_settled(waiting)

    assert shop.history(order_id) == [*STARTED, "OrderPaid"]


def test_a_payment_that_the_gateway_has_not_answered_at_the_deadline_is_waited_for(shop: Shop, order_id: int) -> None:
    pay(shop, order_id)
    assert sweep(shop, order_id) == 0
    drain()
    assert shop.history(order_id) == [*STARTED, "OrderPaid"]


def test_after_a_decline_the_deadline_is_what_it_was(shop: Shop, order_id: int) -> None:
    pay(shop, order_id, "tok_declined")
    assert expires(shop, order_id) == PAYMENT_HOLD
    drain()
    assert expires(shop, order_id) == timedelta(0)

    assert sweep(shop, order_id) == 1
    assert shop.history(order_id) == [*STARTED, "OrderPaymentFailed", "OrderCancelled"]


def test_a_second_payment_is_waited_for_although_the_first_was_declined(shop: Shop, order_id: int) -> None:
    pay(shop, order_id, "tok_declined", before=60 * SECOND)
    waiting = deliver_but_to_orders()  # the customer sees the decline before the order does
    pay(shop, order_id)
    deliver_until_settled(waiting)

    assert sweep(shop, order_id) == 0
    drain()
    assert shop.status(order_id) == "paid"


def test_a_payment_that_was_never_requested_is_waited_for_no_longer_than_the_hold(shop: Shop, order_id: int) -> None:
    def away(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        if "payments_payment" in sql and sql.startswith("INSERT"):
            raise OperationalError("the server closed the connection")
        return execute(sql, *rest)

    with connections["default"].execute_wrapper(away), pytest.raises(OperationalError):
        pay(shop, order_id)

    assert shop.history(order_id) == STARTED
    assert sweep(shop, order_id) == 0
    assert sweep(shop, order_id, PAYMENT_HOLD) == 1


def test_after_a_payment_that_was_never_requested_the_customer_can_pay(shop: Shop, order_id: int) -> None:
    def away(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        if "payments_payment" in sql and sql.startswith("INSERT"):
            raise OperationalError("the server closed the connection")
        return execute(sql, *rest)

    with connections["default"].execute_wrapper(away), pytest.raises(OperationalError):
        pay(shop, order_id)
    pay(shop, order_id)
    drain()

    assert shop.history(order_id) == [*STARTED, "OrderPaymentStarted", "OrderPaid"]


def test_a_repeated_request_is_refused_and_leaves_no_event(shop: Shop, order_id: int) -> None:
    pay(shop, order_id)
    with pytest.raises(PaymentInProgress):
        pay(shop, order_id)
    assert shop.history(order_id) == STARTED


def test_a_payment_after_the_deadline_and_before_the_sweep_is_taken(shop: Shop, order_id: int) -> None:
    pay(shop, order_id, before=-2 * SECOND)
    assert sweep(shop, order_id, 3 * SECOND) == 0
    drain()
    assert shop.status(order_id) == "paid"


def test_a_payment_after_the_sweep_is_refused_and_takes_no_money(shop: Shop, order_id: int) -> None:
    assert sweep(shop, order_id) == 1
    with pytest.raises(OrderClosed):
        pay(shop, order_id)
    drain()
    assert not Payment.objects.filter(order_id=order_id).exists()


def test_a_customer_may_cancel_while_the_payment_is_in_progress_and_gets_the_money_back(
    shop: Shop, order_id: int
) -> None:
    pay(shop, order_id)
    shop.command(CancelOrder(order_id=order_id, reason=CancelReason.CUSTOMER, at=shop.now))
    drain()

    assert shop.history(order_id) == [*STARTED, "OrderCancelled"]
    assert Payment.objects.get(order_id=order_id).status in ("declined", "refunded")
    assert shop.on_hand("BOOK") == (10, 0, 10)


def test_orders_that_wait_for_a_payment_keep_the_sweep_from_no_other(shop: Shop) -> None:
    order_ids = [shop.place(("BOOK", 1)) for _ in range(3)]
    drain()
    for order_id in order_ids[:2]:
        pay(shop, order_id)
    assert sweep(shop, order_ids[0], limit=1) == 1
    drain()
    assert [shop.status(order_id).value for order_id in order_ids] == ["paid", "paid", "cancelled"]


@pytest.mark.parametrize("seed", range(5))
def test_in_whatever_order_the_news_arrive_the_order_is_paid(shop: Shop, order_id: int, seed: int) -> None:
    pay(shop, order_id, "tok_declined", before=60 * SECOND)
    deliver_but_to_orders_first = publish_all(["default"])
    deliver_until_settled([one for one in deliver_but_to_orders_first if one.subscriber == "payments"])
    pay(shop, order_id)
    assert sweep(shop, order_id) == 0
    deliver_shuffled(random.Random(seed), times=2)

    assert shop.status(order_id) == "paid"
    assert expires(shop, order_id) is None


@pytest.mark.services
@pytest.mark.django_db(databases="__all__", transaction=True)
def test_of_eight_requests_at_once_one_pays_and_only_that_one_is_waited_for(settings: LazySettings) -> None:
    settings.ORDER_PAYMENT_TIMEOUT = TERM
    shop = Shop(customer=CustomerFactory.create(username="ann"), deliver=drain)
    shop.stock("BOOK", 10)
    order_id = shop.place(("BOOK", 1))
    drain()
    barrier = threading.Barrier(8)

    def ask(_: int) -> str | None:
        barrier.wait(timeout=10)
        try:
            return pay(shop, order_id)
        except PaymentInProgress:
            return None
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as threads:
        accepted = [payment_id for payment_id in threads.map(ask, range(8)) if payment_id is not None]

    assert len(accepted) == 1
    history = shop.history(order_id)
    assert history.count("OrderPaymentStarted") == history.count("OrderPaymentFailed") + 1
    assert handlers.fold(one.event for one in selectors.history(order_id)).waits_for_payment(accepted[0])
    drain()
    assert shop.status(order_id) == "paid"


def test_the_clock_waits_longer_than_all_attempts_of_a_capture_take() -> None:
    pauses = [
        1.5 * min(2 ** (attempt - 1), conf.EVENTING_MAX_BACKOFF_SECONDS)
        for attempt in range(1, conf.EVENTING_MAX_ATTEMPTS)
    ]
    assert timedelta(seconds=sum(pauses)) < PAYMENT_HOLD / 2
