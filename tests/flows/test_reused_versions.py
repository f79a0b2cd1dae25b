"""A shard is restored, and an order's version is given again to something else: everybody hears of it, each once."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from celery import current_app
from django.contrib.auth.models import User

from coupons.models import Coupon, Redemption
from eventing import store, topology
from eventing.inline import deliver_until_settled
from eventing.models import Event, InboxEntry
from eventing.recorded import short_hash
from eventing.testing import deliver_shuffled, drain, publish_all
from inventory.models import Reservation
from monitoring.audit import audit
from notifications.models import Message
from orders.commands import CancelOrder
from orders.domain import PAYMENT_HOLD, Status
from orders.events import CATEGORY, CancelReason
from payments.models import Account, Payment
from sharding import numbers, shards
from tests.flows.conftest import Shop
from tests.integration.backups import Backup

pytestmark = pytest.mark.django_db(databases="__all__")

INSIDE = ("inventory", "coupons", "payments", "notifications")


@pytest.fixture
def shop(db: None) -> Shop:
    """With a coupon. What is lost breaks promises, so it is not audited at the end."""
    joined = datetime.now(UTC) - timedelta(days=365)
    shop = Shop(customer=User.objects.create_user("ann", "ann@example.org", date_joined=joined), deliver=drain)
    Coupon.objects.create(code="TEN", kind="percentage", value=1_000, currency="EUR")
    shop.stock("BOOK", 10)
    return shop


@pytest.fixture
def order(shop: Shop) -> int:
    order_id = shop.place(("BOOK", 2), coupon="TEN")
    drain()
    assert shop.status(order_id) is Status.CONFIRMED
    return order_id


def cancel(shop: Shop, order_id: int, reason: CancelReason = CancelReason.CUSTOMER) -> None:
    at = shop.now + timedelta(days=1) + PAYMENT_HOLD if reason is CancelReason.PAYMENT_TIMEOUT else shop.now
    shop.command(CancelOrder(order_id=order_id, reason=reason, at=at))


def told(order_id: int, version: int) -> list[tuple[str, str]]:
    event_id = store.load(CATEGORY, order_id, using=shards.alias_of(order_id))[version - 1].id
    messages = Message.objects.filter(event_id=event_id).order_by("id")
    return [(message.about, message.channel) for message in messages]


def handled(order_id: int, version: int) -> set[str]:
    """The subscribers that have handled the event that is stored at this version, and no other."""
    event = Event.objects.using(shards.alias_of(order_id)).get(stream_id=order_id, category=CATEGORY, version=version)
    rows = InboxEntry.objects.filter(stream_id=order_id, category=CATEGORY, version=version)
    return {row.subscriber for row in rows if short_hash(event.hash) in (row.hashes or "").split()}


def lost(order_id: int) -> set[str]:
    report = audit(settle=timedelta(0), only=["handled_was_committed"])
    assert all(numbers.to_text(order_id) in offender for offender in report.results[0].offenders)
    return set(report.results[0].offenders)


def test_cancellation_takes_the_version_of_a_payment_that_was_lost(shop: Shop, order: int) -> None:
    shop.pay(order)
    backup = Backup(shards.alias_of(order))
    drain()
    name = store.load(CATEGORY, order, using=shards.alias_of(order))[-1].id
    version = int(name.partition("@")[2])
    assert (shop.status(order), told(order, version)) == (
        Status.PAID,
        [("order_paid", "inbox"), ("order_paid", "email")],
    )

    backup.restore()
    cancel(shop, order)
    assert len(store.load(CATEGORY, order, using=shards.alias_of(order))) == version
    drain()

    assert shop.status(order) is Status.CANCELLED
    assert handled(order, version) == set(INSIDE)
    assert shop.on_hand("BOOK") == (10, 0, 10)
    assert (Reservation.objects.get().status, Redemption.objects.get().status) == ("released", "released")
    assert (Account.objects.get().closed, Payment.objects.get().status) == (True, "refunded")
    assert told(order, version) == [
        ("order_paid", "inbox"),
        ("order_paid", "email"),
        ("order_cancelled", "inbox"),
        ("order_cancelled", "email"),
    ]
    assert lost(order) == {f"notifications: another {name}"}


def test_cancellation_takes_the_version_of_another_that_everybody_had_handled(shop: Shop, order: int) -> None:
    """What is done already is not done twice, but everybody knows the second one, and the customer its reason."""
    backup = Backup(shards.alias_of(order))
    cancel(shop, order, CancelReason.PAYMENT_TIMEOUT)
    drain()
    [*_, first] = store.load(CATEGORY, order, using=shards.alias_of(order))
    assert handled(order, first.version) == set(INSIDE)

    backup.restore()
    cancel(shop, order)
    assert handled(order, first.version) == set()
    deliver_shuffled(random.Random(1), times=3)

    assert handled(order, first.version) == set(INSIDE)
    assert (shop.status(order), shop.on_hand("BOOK")) == (Status.CANCELLED, (10, 0, 10))
    assert Coupon.objects.get().redeemed == 0
    assert len(told(order, first.version)) == 4
    assert lost(order) == {f"{subscriber}: another {first.id}" for subscriber in INSIDE}


@pytest.fixture
def outside() -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """A program with a queue for what happens to orders; it reads what has come since it last did."""
    with current_app.connection_for_write() as connection:
        topology.install(current_app)
        topology.declare(connection)
        channel = connection.default_channel
        queue, *_ = channel.queue_declare("", exclusive=True)
        channel.queue_bind(queue, topology.integration_exchange().name, "order.*")

        def read() -> list[dict[str, Any]]:
            messages = iter(lambda: channel.basic_get(queue, no_ack=True), None)
            return [msgspec.json.decode(message.body) for message in messages]

        yield read
        topology.delete(connection)
        topology.install(current_app)


@pytest.mark.services
def test_programs_outside_get_both_events_of_an_id_and_can_tell_them_apart(
    shop: Shop, order: int, outside: Callable[[], list[dict[str, Any]]]
) -> None:
    backup = Backup(shards.alias_of(order))
    outside()
    cancel(shop, order, CancelReason.PAYMENT_TIMEOUT)
    drain(skip=())
    [first] = outside()

    backup.restore()
    cancel(shop, order)
    for message in (published := publish_all()) + published:
        deliver_until_settled([message])

    [second] = outside()
    assert first["id"] == second["id"]
    assert (first["data"]["reason"], second["data"]["reason"]) == ("payment_timeout", "customer")
    stored = store.load(CATEGORY, order, using=shards.alias_of(order))[-1]
    assert second["hash"] == (stored.hash or b"").hex() != first["hash"]
