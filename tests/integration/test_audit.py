"""The audit: a shop that did right is clean, and every broken promise is found, named, and found alone."""

from __future__ import annotations

import itertools
import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from celery import current_app
from django.conf import LazySettings, settings
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connections, transaction
from django.db.models import F

from coupons.events import REDEMPTION, CouponRedeemed
from coupons.models import Coupon
from eventing import chain, queues, store, subscribers, topology
from eventing.databases import insert_together
from eventing.models import DeadLetter, Event, InboxEntry, OutboxMessage
from eventing.queues import BrokerUnavailable
from eventing.recorded import Metadata, NewEvents, Recorded, short_hash
from eventing.testing import drain
from inventory.events import PRODUCT, RESERVATION, StockAdjusted
from inventory.models import Stock, StockMovement
from monitoring.audit import CHECKS, Report, audit, cases
from notifications.models import Message
from orders import projections
from orders.commands import CancelOrder, DeliverOrder, RefundOrder, ShipOrder
from orders.domain import PAYMENT_HOLD
from orders.events import CATEGORY as ORDER
from orders.events import Address, CancelReason, Check, OrderCheckPassed
from orders.handlers import KEEP_KEYS
from orders.models import IdempotencyKey, Order, OrderLine
from payments.models import Payment, SandboxCharge
from sharding import numbers, shards
from sharding.numbers import to_text
from sharding.partitions import attached_buckets
from tests.flows.conftest import Shop
from tests.integration.backups import Backup
from tests.integration.moves import create_partitions
from tests.waiting import wait_until

pytestmark = [pytest.mark.django_db(databases="__all__"), pytest.mark.usefixtures("nothing_delayed")]

POSTGRESQL = os.environ["TEST_PROFILE"] == "services"
OTHERS = "integration"


@pytest.fixture(autouse=True)
def one_part_a_shard(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is next to nothing to read, and each part is a snapshot of every database."""
    monkeypatch.setattr(cases, "NEIGHBOURS", 64)


class World:
    """A shop with an order in every state that lasts, where everything has had its effects."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        shop.stock("BOOK", 100)
        shop.stock("PEN", 100)
        self.coupon = Coupon.objects.create(code="TEN", kind="percentage", value=1_000, currency="EUR")
        self.confirmed = shop.place(("BOOK", 1), ("PEN", 2), coupon="TEN")
        self.paid = shop.place(("BOOK", 2), coupon="TEN")
        self.shipped = shop.place(("BOOK", 3))
        self.delivered = shop.place(("PEN", 4))
        self.refunded = shop.place(("BOOK", 5))
        self.cancelled = shop.place(("BOOK", 6), coupon="TEN")
        self.rejected = shop.place(("BOOK", 900), coupon="TEN")
        drain()
        for order_id in (self.paid, self.shipped, self.delivered, self.refunded):
            shop.pay(order_id)
        drain()
        for order_id in (self.shipped, self.delivered):
            shop.command(ShipOrder(order_id=order_id, tracking="T", at=shop.now))
        shop.command(DeliverOrder(order_id=self.delivered, at=shop.now))
        shop.command(RefundOrder(order_id=self.refunded, at=shop.now))
        shop.command(CancelOrder(order_id=self.cancelled, reason=CancelReason.CUSTOMER, at=shop.now))
        drain()
        pretend_handled(OTHERS)

    def append(self, category: str, stream_id: int, event: Any, causation_id: str | None = None) -> str:
        """Add an event behind everybody's back, and pretend that it has been handled."""
        alias = shards.alias_of(stream_id) if category == ORDER else "default"
        version = len(store.load(category, stream_id, using=alias))
        metadata = Metadata(correlation_id="planted", causation_id=causation_id)
        write = NewEvents(stream_id=stream_id, expected_version=version, events=[event], metadata=metadata)
        with transaction.atomic(using=alias):
            [recorded] = store.append(category, [write], using=alias)
        OutboxMessage.objects.using(alias).all().delete()
        pretend_handled(*(one.name for one in subscribers.all_subscribers()))
        return recorded.id


def pretend_handled(*names: str) -> None:
    """Inbox rows, without any effect, for all events that these subscribers have not handled."""
    now = datetime.now(UTC)
    entries: dict[str, list[InboxEntry]] = defaultdict(list)
    for alias in settings.DATABASES:
        streams: dict[str, list[int]] = defaultdict(list)
        for category, stream_id in Event.objects.using(alias).values_list("category", "stream_id"):
            streams[category].append(stream_id)
        for category, ids in streams.items():
            for recorded in itertools.chain.from_iterable(store.load_many(category, ids, using=alias).values()):
                for subscriber in map(subscribers.get, names):
                    if subscriber.wants(recorded.event.TYPE):
                        entries[subscriber.database(recorded)].append(inbox_entry(recorded, subscriber.name, now))
    for alias, rows in entries.items():
        InboxEntry.objects.using(alias).bulk_create(rows, ignore_conflicts=True)


def inbox_entry(recorded: Recorded[Any], subscriber: str, at: datetime) -> InboxEntry:
    stream_id, category, version = recorded.key
    return InboxEntry(
        stream_id=stream_id, category=category, version=version, subscriber=subscriber, attempts=1,
        published_at=at, handled_at=at, hashes=short_hash(recorded.hash),
    )  # fmt: skip


@pytest.fixture(scope="module")
def first_world(shared_databases: None) -> World:
    joined = datetime.now(UTC) - timedelta(days=365)
    return World(Shop(customer=User.objects.create_user("ann", "ann@example.org", date_joined=joined), deliver=drain))


@pytest.fixture
def world(db: None, first_world: World) -> World:
    """A world whose clock and whose rows are this test's own."""
    mine = copy(first_world)
    mine.shop = copy(first_world.shop)
    return mine


def run(sql: str, *parameters: Any, using: str = "default") -> int:
    with connections[using].cursor() as cursor:
        cursor.execute(sql, parameters)
        return int(cursor.rowcount)


@contextmanager
def without_constraint(table: str, name: str, *, using: str = "default") -> Iterator[None]:
    """What a bug could do if the database did not stand in its way."""
    if POSTGRESQL:
        run("SET CONSTRAINTS ALL IMMEDIATE", using=using)
        run(f"ALTER TABLE {table} DROP CONSTRAINT {name}", using=using)
        yield
        return
    run("PRAGMA ignore_check_constraints = ON", using=using)
    try:
        yield
    finally:
        run("PRAGMA ignore_check_constraints = OFF", using=using)


def broken(report: Report) -> dict[str, list[str]]:
    return {result.check.name: list(result.offenders) for result in report.results if result.violations}


def verdict(**options: Any) -> dict[str, list[str]]:
    return broken(audit(settle=timedelta(0), **options))


def order_name(order_id: int) -> str:
    return f"order-{to_text(order_id)}"


# --- Each promise broken -------------------------------------------------------------------------------------------

Plant = Callable[[World], str]
PLANTS: dict[str, list[Plant]] = {}
ALSO: dict[Plant, set[str]] = {}


def breaks(check: str, *also: str) -> Callable[[Plant], Plant]:
    """A function that breaks this promise, and with it those of `also`, and returns the name of the offender."""

    def register(plant: Plant) -> Plant:
        PLANTS.setdefault(check, []).append(plant)
        ALSO[plant] = set(also)
        return plant

    return register


@breaks("stock_adds_up")
def a_piece_of_stock_has_vanished(world: World) -> str:
    with without_constraint("inventory_stock", "stock_on_hand_is_reserved_plus_available"):
        assert run("UPDATE inventory_stock SET available = available - 1 WHERE sku = 'BOOK'")
    return "BOOK"


@breaks("stock_adds_up", "ledger_matches_events")
def stock_is_negative(world: World) -> str:
    with without_constraint("inventory_stock", "stock_not_negative"):
        assert run("UPDATE inventory_stock SET available = -1, on_hand = reserved - 1 WHERE sku = 'PEN'")
        run("UPDATE inventory_stockmovement SET quantity = quantity + (SELECT on_hand FROM inventory_stock"
            " WHERE sku = 'PEN') - 96 WHERE sku = 'PEN' AND kind = 'received'")  # fmt: skip
    return "PEN"


@breaks("stock_matches_ledger")
def stock_has_come_from_nowhere(world: World) -> str:
    run("UPDATE inventory_stock SET on_hand = on_hand + 1, available = available + 1 WHERE sku = 'PEN'")
    return "PEN"


@breaks("ledger_matches_events")
def stock_was_received_without_an_event(world: World) -> str:
    run("UPDATE inventory_stock SET on_hand = on_hand + 10, available = available + 10 WHERE sku = 'PEN'")
    movement = StockMovement.objects.create(
        sku="PEN", kind="received", quantity=10, reason="delivery", at=world.shop.now
    )
    return f"PEN: movement {movement.pk}"


@breaks("ledger_matches_events")
def a_receipt_of_stock_has_no_row_in_the_ledger(world: World) -> str:
    product = Stock.objects.get(product="PEN").product
    event = StockAdjusted(sku="PEN", change=-10, reason="gone", at=world.shop.now)
    name = world.append(PRODUCT, product.pk, event)
    Stock.objects.filter(product="PEN").update(version=F("version") + 1)
    return f"PEN: {name}"


@breaks("ledger_matches_events")
def a_stock_row_is_behind_its_stream(world: World) -> str:
    stock = Stock.objects.get(product="PEN")
    Stock.objects.filter(product="PEN").update(version=0)
    return f"PEN: version 0 of product-{to_text(stock.product.pk)}"


@breaks("stock_matches_reservations")
def stock_is_set_aside_for_nobody(world: World) -> str:
    run("UPDATE inventory_stock SET reserved = reserved + 1, available = available - 1 WHERE sku = 'PEN'")
    return "PEN"


@breaks("coupons_within_limits")
def a_coupon_is_used_more_often_than_it_may_be(world: World) -> str:
    with without_constraint("coupons_coupon", "coupon_redeemed_within_limit"):
        run("UPDATE coupons_coupon SET total_limit = 1")
    return "TEN"


@breaks("coupons_within_limits")
def a_customer_uses_a_coupon_more_often_than_they_may(world: World) -> str:
    run("UPDATE coupons_coupon SET per_customer_limit = 1")
    return "TEN"


@breaks("coupons_add_up")
def a_coupon_has_lost_a_use(world: World) -> str:
    run("UPDATE coupons_coupon SET redeemed = redeemed - 1")
    return "TEN"


@breaks("messages_once")
def a_customer_is_told_twice(world: World) -> str:
    message = Message.objects.filter(channel="inbox").first()
    assert message is not None
    message.pk = None
    if not POSTGRESQL:
        # SQLite cannot be talked out of it: there the promise is the constraint's.
        with pytest.raises(IntegrityError), transaction.atomic():
            message.save(force_insert=True)
        pytest.skip("SQLite refuses it")
    with without_constraint("notifications_message", "message_once_per_event"):
        message.save(force_insert=True)
    return f"inbox about {message.event_id}"


@breaks("messages_for_events")
def an_inbox_message_is_gone(world: World) -> str:
    assert Message.objects.filter(event_id=f"{order_name(world.paid)}@1", channel="inbox").delete()[0]
    return f"inbox about {order_name(world.paid)}@1"


@breaks("messages_for_events")
def a_mail_was_never_queued(world: World) -> str:
    assert Message.objects.filter(event_id=f"{order_name(world.paid)}@1", channel="email").delete()[0]
    return f"email about {order_name(world.paid)}@1"


@breaks("messages_for_events")
def a_message_went_to_somebody_else(world: World) -> str:
    Message.objects.filter(event_id=f"{order_name(world.paid)}@1", channel="inbox").update(customer_id=1_000_000)
    return f"inbox about {order_name(world.paid)}@1"


@breaks("messages_for_events")
def a_message_is_about_nothing(world: World) -> str:
    message = Message.objects.get(event_id=f"{order_name(world.paid)}@1", channel="inbox")
    message.pk, message.event_id = None, f"{order_name(world.paid)}@77"
    message.save(force_insert=True)
    return f"inbox about {message.event_id}"


@breaks("mails_match_events")
def a_mail_counts_as_sent_that_was_not(world: World) -> str:
    mail = Message.objects.filter(channel="email", status="pending").first()
    assert mail is not None
    Message.objects.filter(pk=mail.pk).update(status="sent")
    return f"message-{to_text(mail.pk)}"


def first_things(world: World, complaint: str) -> str:
    """How the audit names a customer of whom it knows the first order."""
    ids = Order.objects.using(home(world)).filter(customer_id=world.shop.customer.pk).values_list("id", flat=True)
    number = min(ids)
    at = numbers.placed_at(number)
    return f"customer {world.shop.customer.pk} has order {to_text(number)} of {at:%Y-%m-%d %H:%M}{complaint}"


@breaks("customers_have_accounts")
def the_account_of_a_customer_was_lost(world: World) -> str:
    User.objects.filter(username="ann").delete()
    return first_things(world, " and no account")


@breaks("customers_have_accounts")
def somebody_else_has_the_id_of_a_lost_customer(world: World) -> str:
    User.objects.filter(username="ann").update(date_joined=world.shop.now + timedelta(days=1))
    return first_things(world, ", before the account was made")


@breaks("everything_has_its_order", "messages_for_events")
def a_message_is_about_an_order_that_is_not_there(world: World) -> str:
    lost = numbers.new_order_id(world.shop.customer.pk, world.shop.now)
    message = Message.objects.filter(channel="inbox", order_id=world.paid).first()
    assert message is not None
    Message.objects.filter(pk=message.pk).update(order_id=lost, event_id=f"{order_name(lost)}@1")
    return f"messages of order {to_text(lost)}"


@breaks("charges_have_payments")
def the_gateway_took_money_that_nobody_knows_of(world: World) -> str:
    SandboxCharge.objects.create(
        key=f"capture-{uuid4()}", kind="capture", token="tok_ok", amount=5, currency="EUR", reference="ch_stray",
        result="captured",
    )  # fmt: skip
    return "charge ch_stray"


@breaks("charges_have_payments")
def the_gateway_gave_money_back_twice(world: World) -> str:
    charge = SandboxCharge.objects.get(kind="refund")
    charge.key, charge.reference = f"{charge.key}-again", "re_again"
    charge.save(force_insert=True)
    return "charge re_again"


@breaks("placements_keep_their_key")
def a_key_is_gone(world: World) -> str:
    assert run("DELETE FROM orders_idempotencykey WHERE order_id = %s", world.paid, using=home(world))
    return order_name(world.paid)


@breaks("keys_have_one_order", "placements_keep_their_key")
def a_key_has_no_order(world: World) -> str:
    alias = shards.alias_of(world.paid)
    changed = IdempotencyKey.objects.using(alias).get(order_id=world.paid)
    IdempotencyKey.objects.using(alias).filter(order_id=world.paid).update(order_id=world.paid + 1)
    return f"{changed.key} of {order_name(world.paid + 1)}"


@breaks("keys_have_one_order", "placements_keep_their_key")
def a_key_has_somebody_elses_order(world: World) -> str:
    alias = shards.alias_of(world.paid)
    IdempotencyKey.objects.using(alias).create(
        customer_id=world.shop.customer.pk + 128, key="k", fingerprint="f", order_id=world.paid,
        created_at=world.shop.now,
    )  # fmt: skip
    return f"k of {order_name(world.paid)}"


@breaks("orders_in_one_bucket")
def a_row_of_an_order_is_in_a_shard_that_does_not_own_it(world: World) -> str:
    home = shards.alias_of(world.paid)
    other = next(alias for alias in shards.aliases() if alias != home)
    [placed, *_] = store.load(ORDER, world.paid, using=home)
    inbox_entry(placed, "orders", world.shop.now).save(using=other, force_insert=True)
    return f"orders: {placed.id} in {other}"


@breaks("orders_end_in_time")
def an_order_is_still_unpaid_a_day_after_its_deadline(world: World) -> str:
    world.shop.now -= timedelta(days=1)
    order_id = world.shop.place(("BOOK", 1))
    drain()
    pretend_handled(OTHERS)
    return order_name(order_id)


@breaks("read_model_matches_events")
def an_order_has_lost_a_line(world: World) -> str:
    assert run("DELETE FROM orders_orderline WHERE order_id = %s AND position = 2", world.confirmed, using=home(world))
    return order_name(world.confirmed)


@breaks("read_model_matches_events", "placements_keep_their_key")
def an_order_is_not_listed(world: World) -> str:
    run("DELETE FROM orders_idempotencykey WHERE order_id = %s", world.paid, using=home(world))
    assert run("DELETE FROM orders_order WHERE id = %s", world.paid, using=home(world))
    return order_name(world.paid)


@breaks("tables_match_events")
def a_reservation_has_forgotten_an_event(world: World) -> str:
    assert run("UPDATE inventory_reservation SET version = version + 1 WHERE order_id = %s", world.paid)
    return f"reservation-{to_text(world.paid)}"


@breaks("tables_match_events")
def a_payment_is_taken_for_declined(world: World) -> str:
    with without_constraint("payments_account", "refunded_between_0_and_captured"):
        run("UPDATE payments_account SET refunded_total = refunded_total + 1 WHERE order_id = %s", world.paid)
    return f"payment-{to_text(world.paid)}"


@breaks("tables_match_events")
def a_declined_payment_was_dearer(world: World) -> str:
    run("UPDATE payments_payment SET requested_at = settled_at WHERE order_id = %s", world.paid)
    return f"payment-{to_text(world.paid)}"


@breaks("tables_match_events")
def a_redemption_has_another_customer(world: World) -> str:
    assert run("UPDATE coupons_redemption SET customer_id = 5 WHERE order_id = %s", world.cancelled)
    return f"redemption-{to_text(world.cancelled)}"


@breaks("tables_match_events")
def a_shipped_piece_is_missing_from_the_ledger(world: World) -> str:
    run("UPDATE inventory_stockmovement SET order_id = %s WHERE order_id = %s", world.paid + 1, world.delivered)
    return f"reservation-{to_text(world.delivered)}"


@breaks("money_adds_up")
def the_account_of_a_living_order_is_closed(world: World) -> str:
    assert run("UPDATE payments_account SET closed = true, closed_reason = 'x' WHERE order_id = %s", world.paid)
    return order_name(world.paid)


@breaks("money_adds_up")
def the_account_of_a_cancelled_order_is_gone(world: World) -> str:
    assert run("DELETE FROM payments_account WHERE order_id = %s", world.cancelled)
    return order_name(world.cancelled)


@breaks("stock_set_aside_once", "tables_match_events")
def nothing_is_known_of_a_cancelled_orders_stock(world: World) -> str:
    for table in ("inventory_reservationline", "inventory_reservation"):
        run(f"DELETE FROM {table} WHERE order_id = %s", world.cancelled)
    return order_name(world.cancelled)


def without_reaction(world: World, order_id: int, command: Any, *names: str) -> str:
    """The order moves on, and these subscribers say that they have handled it while they have done nothing."""
    world.shop.command(command)
    drain(skip=[OTHERS, *names])
    pretend_handled(OTHERS, *names)
    return order_name(order_id)


@breaks("paid_in_time_is_kept")
def the_clock_has_cancelled_an_order_that_was_paid_in_time(world: World) -> str:
    """The worker of orders was away for longer than the clock waits for a payment."""
    world.shop.pay(world.confirmed)
    drain(skip=[OTHERS, "orders"])
    pretend_handled("orders")
    late = world.shop.now + settings.ORDER_PAYMENT_TIMEOUT + PAYMENT_HOLD
    world.shop.command(CancelOrder(order_id=world.confirmed, reason=CancelReason.PAYMENT_TIMEOUT, at=late))
    drain()
    pretend_handled(OTHERS)
    return order_name(world.confirmed)


@breaks("stock_set_aside_once")
def a_cancelled_order_keeps_its_stock(world: World) -> str:
    cancel = CancelOrder(order_id=world.confirmed, reason=CancelReason.CUSTOMER, at=world.shop.now)
    return without_reaction(world, world.confirmed, cancel, "inventory")


@breaks("stock_set_aside_once")
def a_shipped_order_has_used_up_nothing(world: World) -> str:
    ship = ShipOrder(order_id=world.paid, tracking="T", at=world.shop.now)
    return without_reaction(world, world.paid, ship, "inventory")


@breaks("coupon_redeemed_once")
def a_cancelled_order_keeps_its_coupon(world: World) -> str:
    cancel = CancelOrder(order_id=world.confirmed, reason=CancelReason.CUSTOMER, at=world.shop.now)
    return without_reaction(world, world.confirmed, cancel, "coupons")


@breaks("money_adds_up")
def a_refunded_order_keeps_the_money(world: World) -> str:
    return without_reaction(world, world.paid, RefundOrder(order_id=world.paid, at=world.shop.now), "payments")


@breaks("money_adds_up")
def an_order_never_heard_of_its_payment(world: World) -> str:
    world.shop.pay(world.confirmed)
    drain(skip=[OTHERS, "orders"])
    pretend_handled(OTHERS, "orders")
    return order_name(world.confirmed)


@breaks("gateway_agrees")
def the_gateway_took_less_than_payments_believes(world: World) -> str:
    payment = Payment.objects.get(order_id=world.paid)
    SandboxCharge.objects.filter(reference=payment.gateway_reference).update(amount=1)
    return f"payment {payment.pk} of {order_name(world.paid)}"


@breaks("streams_gapless", "messages_for_events")
def an_event_is_gone(world: World) -> str:
    for table in ("eventing_event", "eventing_inbox"):
        for alias in settings.DATABASES:
            run(f"DELETE FROM {table} WHERE stream_id = %s AND category = 'order' AND version = 2", world.shipped,
                using=alias)  # fmt: skip
    hash_again(home(world), world.shipped)
    return order_name(world.shipped)


def rebuilt(world: World, order_id: int) -> None:
    """Make the order's rows anew from its events."""
    Order.objects.using(home(world)).filter(id=order_id).delete()
    OrderLine.objects.using(home(world)).filter(order_id=order_id).delete()
    history = store.load(ORDER, order_id, using=home(world))
    for part in (history[:1], history):  # lines are written at the placement
        insert_together(connections[home(world)], *projections.project([part]))


@breaks("events_as_written")
def somebody_has_an_order_sent_elsewhere(world: World) -> str:
    event = Event.objects.using(home(world)).get(stream_id=world.paid, category=ORDER, version=1)
    elsewhere = Address(name="Eve", street="Elsewhere 1", postal_code="1", city="X", country="DE")
    event.data["ship_to"] = msgspec.to_builtins(elsewhere)
    Event.objects.using(home(world)).filter(pk=event.pk).update(data=event.data)
    return event.event_id


@breaks("nothing_after_the_end")
def something_happens_to_a_delivered_order(world: World) -> str:
    event = OrderCheckPassed(customer_id=world.shop.customer.pk, check=Check.STOCK, at=world.shop.now)
    name = world.append(ORDER, world.delivered, event)
    rebuilt(world, world.delivered)
    return name


@breaks("events_readable")
def an_event_has_a_type_that_nobody_knows(world: World) -> str:
    run("UPDATE eventing_event SET type = 'order.frozen' WHERE stream_id = %s AND category = 'order' AND version = 2",
        world.paid, using=home(world))  # fmt: skip
    hash_again(home(world), world.paid)
    return f"{order_name(world.paid)}@2"


@breaks("events_published")
def an_event_was_never_published(world: World) -> str:
    OutboxMessage.objects.using(home(world)).create(stream_id=world.paid, category=ORDER, version=1)
    return f"{order_name(world.paid)}@1"


@breaks("events_reach_subscribers")
def an_event_was_published_and_got_lost(world: World) -> str:
    long_ago = datetime.now(UTC) - timedelta(days=1)
    Event.objects.using(home(world)).filter(stream_id=world.paid, version=1).update(recorded_at=long_ago)
    hash_again(home(world), world.paid)
    assert run("DELETE FROM eventing_inbox WHERE subscriber = 'notifications' AND stream_id = %s AND version = 1"
               " AND category = 'order'", world.paid)  # fmt: skip
    return f"notifications: {order_name(world.paid)}@1"


@breaks("handled_was_committed")
def something_was_handled_that_never_happened(world: World) -> str:
    InboxEntry.objects.create(
        stream_id=world.paid, category=ORDER, version=9, subscriber="notifications", attempts=1,
        published_at=world.shop.now, handled_at=world.shop.now,
    )  # fmt: skip
    return f"notifications: {order_name(world.paid)}@9"


def handled_by_notifications(world: World) -> Any:
    return InboxEntry.objects.filter(stream_id=world.paid, category=ORDER, version=1, subscriber="notifications")


@breaks("handled_was_committed")
def the_key_of_an_event_was_given_twice(world: World) -> str:
    handled = handled_by_notifications(world)
    handled.update(hashes=f"{'0' * 7} {handled.get().hashes}")
    return f"notifications: another {order_name(world.paid)}@1"


@breaks("handled_was_committed", "events_reach_subscribers")
def only_a_lost_event_of_the_key_was_handled(world: World) -> str:
    handled_by_notifications(world).update(hashes="0" * 7)
    return f"notifications: another {order_name(world.paid)}@1"


@breaks("handled_was_committed")
def a_dead_letter_is_about_a_lost_event_of_the_key(world: World) -> str:
    event = Event.objects.using(home(world)).get(stream_id=world.paid, category=ORDER, version=1)
    dead_letter(event, "integration", event_hash="0" * 64)
    return f"integration: another {event.event_id}"


@breaks("messages_for_events")
def a_message_is_about_a_lost_event_of_the_id(world: World) -> str:
    message = Message.objects.get(event_id=f"{order_name(world.paid)}@1", channel="inbox")
    message.pk, message.event_hash = None, "0" * 7
    message.save(force_insert=True)
    return f"inbox about another {message.event_id}"


def dead_letter(event: Event, subscriber: str, **values: Any) -> DeadLetter:
    columns = ("stream_id", "category", "version", "type", "schema_version", "data", "metadata", "recorded_at")
    row = {column: getattr(event, column) for column in columns} | {
        "subscriber": subscriber, "error": "E", "message": "", "traceback": "", "attempts": 1,
        "failed_at": event.recorded_at,
    }  # fmt: skip
    return DeadLetter.objects.create(**row | values)


@breaks("handled_was_committed")
def a_dead_letter_was_given_other_content(world: World) -> str:
    event = Event.objects.using(home(world)).get(stream_id=world.paid, category=ORDER, version=1)
    dead_letter(event, "integration", data={**event.data, "customer_id": 999})
    return f"integration: {event.event_id}"


@breaks("events_reach_subscribers")
def an_open_dead_letter_was_marked_as_handled(world: World) -> str:
    event = Event.objects.using(home(world)).get(stream_id=world.paid, category=ORDER, version=1)
    row = InboxEntry.objects.filter(subscriber="notifications", stream_id=world.paid, category=ORDER, version=1)
    assert row.delete()[0]
    dead_letter(event, "notifications", status=DeadLetter.Status.HANDLED)
    return f"notifications: {event.event_id}"


@breaks("handled_was_committed")
def a_dead_letter_is_about_nothing(world: World) -> str:
    DeadLetter.objects.create(
        stream_id=world.paid, category=ORDER, version=9, subscriber="notifications", type="order.placed",
        schema_version=1, data={}, metadata={}, recorded_at=world.shop.now, error="E", message="", traceback="",
        attempts=1, failed_at=world.shop.now,
    )  # fmt: skip
    return f"notifications: {order_name(world.paid)}@9"


@breaks("one_effect_per_event")
def stock_is_reserved_twice(world: World) -> str:
    [reserved] = store.load(RESERVATION, world.paid, using="default")
    name = world.append(RESERVATION, world.paid, reserved.event, reserved.metadata.causation_id)
    run("UPDATE inventory_reservation SET version = 2 WHERE order_id = %s", world.paid)
    return name


@breaks("coupon_once_per_order")
def a_coupon_is_redeemed_twice(world: World) -> str:
    [redeemed] = store.load(REDEMPTION, world.paid, using="default")
    assert isinstance(redeemed.event, CouponRedeemed)
    name = world.append(REDEMPTION, world.paid, redeemed.event)
    run("UPDATE coupons_redemption SET version = 2 WHERE order_id = %s", world.paid)
    return name


@breaks("rows_in_their_database")
def an_inbox_row_is_not_beside_its_effect(world: World) -> str:
    [placed, *_] = store.load(ORDER, world.paid, using=home(world))
    assert run("DELETE FROM eventing_inbox WHERE subscriber = 'inventory' AND stream_id = %s AND version = 1"
               " AND category = 'order'", world.paid)  # fmt: skip
    inbox_entry(placed, "inventory", world.shop.now).save(using=home(world), force_insert=True)
    return f"inventory: {placed.id} in {home(world)}"


@breaks("rows_in_their_database")
def an_event_of_stock_is_among_the_orders(world: World) -> str:
    event = Event.objects.get(stream_id=world.paid, category=RESERVATION)
    run("DELETE FROM eventing_event WHERE stream_id = %s AND category = 'reservation'", world.paid)
    event.save(using=home(world), force_insert=True)
    return f"{event.event_id} in {home(world)}"


def hash_again(alias: str, stream_id: int) -> None:
    """As somebody who changes history, knows how its hashes are made, and lets nobody else know them."""
    columns = list(store.TYPES)
    streams: dict[str, list[Any]] = defaultdict(list)
    for row in Event.objects.using(alias).filter(stream_id=stream_id).order_by("version").values_list(*columns[:-1]):
        streams[row[1]].append(row)
    for rows in streams.values():
        head = None
        for *key, data, metadata, recorded_at in rows:
            head = chain.digest(head, (*key, chain.canonical(data), chain.canonical(metadata), recorded_at))
            Event.objects.using(alias).filter(pk=tuple(key[:3])).update(hash=head)
    for database in settings.DATABASES:
        InboxEntry.objects.using(database).filter(stream_id=stream_id).update(hashes=None)
    Message.objects.filter(order_id=stream_id).update(event_hash="")


def home(world: World) -> str:
    """All orders are of one customer, and so in one database."""
    return shards.alias_of(world.paid)


CASES = [(check, plant) for check, plants in PLANTS.items() for plant in plants]


@pytest.mark.parametrize("check,plant", CASES, ids=[plant.__name__ for _, plant in CASES])
def test_a_broken_promise_is_found_and_nothing_else(world: World, check: str, plant: Plant) -> None:
    assert verdict() == {}

    offender = plant(world)

    found = verdict()
    assert found.pop(check) == [offender]
    assert set(found) == ALSO[plant]


def test_every_check_has_been_seen_to_find_something() -> None:
    assert set(PLANTS) == {check.name for check in CHECKS}


def test_a_key_that_was_given_another_order_is_missed_by_its_own(world: World) -> None:
    key = IdempotencyKey.objects.using(home(world)).get(order_id=world.paid).key
    run("UPDATE orders_idempotencykey SET order_id = %s WHERE key = %s", world.shipped, key, using=home(world))

    assert {name: set(found) for name, found in verdict().items()} == {
        "placements_keep_their_key": {order_name(world.paid), f"{key} of {order_name(world.shipped)}"}
    }


def test_a_key_may_be_gone_after_a_day(world: World) -> None:
    a_key_is_gone(world)

    assert "placements_keep_their_key" not in verdict(now=datetime.now(UTC) + KEEP_KEYS)


COLUMNS: Sequence[tuple[str, str]] = (
    ("customer_id", "customer_id + 128"), ("status", "'confirmed'"), ("currency", "'USD'"),
    ("subtotal", "subtotal + 1"),
    ("discount", "discount + 1"), ("total", "total + 1"), ("coupon_code", "NULL"), ("placed_at", "updated_at"),
    ("updated_at", "placed_at"), ("expires_at", "placed_at"), ("version", "version + 1"), ("reason", "'lost'"),
)  # fmt: skip


@pytest.mark.parametrize("column,value", COLUMNS)
def test_every_column_of_the_read_model_is_compared(world: World, column: str, value: str) -> None:
    Order.objects.using(home(world)).filter(id=world.paid).update(updated_at=world.shop.now)
    rebuilt(world, world.paid)
    assert verdict() == {}
    if POSTGRESQL:
        for name in ("order_total_is_subtotal_minus_discount", "order_has_deadline_while_unpaid"):
            run(f"ALTER TABLE orders_order DROP CONSTRAINT {name}", using=home(world))
        run(f"UPDATE orders_order SET {column} = {value} WHERE id = %s", world.paid, using=home(world))
    else:
        with without_constraint("orders_order", "", using=home(world)):
            run(f"UPDATE orders_order SET {column} = {value} WHERE id = %s", world.paid, using=home(world))

    found = verdict()

    assert found.pop("read_model_matches_events") == [order_name(world.paid)]
    assert set(found) <= {"keys_have_one_order", "customers_have_accounts"}  # its customer's


@pytest.mark.services
def test_a_partition_that_the_shard_map_does_not_name_is_found(world: World) -> None:
    bucket = shards.buckets_of("orders_0")[-1]
    run("SET CONSTRAINTS ALL IMMEDIATE", using="orders_0")
    run(f"ALTER TABLE orders_order DETACH PARTITION orders_order_b{bucket:03d}", using="orders_0")

    assert verdict() == {"orders_in_one_bucket": [f"orders_0: orders_order of bucket {bucket}"]}


@pytest.mark.services
def test_a_bucket_that_two_databases_have_is_found(world: World) -> None:
    """As after restoring a backup from before the bucket was moved away: its old rows are there again."""
    bucket = numbers.bucket_of(world.paid)
    other = next(alias for alias in shards.aliases() if alias != home(world))
    run("SET CONSTRAINTS ALL IMMEDIATE", using=other)
    create_partitions(other, [bucket])
    events = list(Event.objects.using(home(world)).filter(stream_id=world.paid))
    for event in events:
        event.save(using=other, force_insert=True)

    found = verdict()

    attached = {f"{other}: {table} of bucket {bucket}" for table in attached_buckets(other)}
    rows = {f"{event.event_id} in {other}" for event in events}
    assert set(found.pop("orders_in_one_bucket")) == attached | rows
    assert found == {}


def test_a_shard_that_was_restored_from_an_older_backup_is_found_out(world: World) -> None:
    """What it had committed since is known to the other contexts, which reacted to it."""
    bucket = numbers.bucket_of(world.paid)
    backup = Backup(home(world))
    late = world.shop.place(("BOOK", 1))
    world.shop.command(CancelOrder(order_id=world.confirmed, reason=CancelReason.CUSTOMER, at=world.shop.now))
    drain()
    pretend_handled(OTHERS)
    assert verdict() == {}
    assert numbers.bucket_of(late) == bucket

    backup.restore()

    found = verdict()
    assert f"{order_name(late)}@1" in " ".join(found["handled_was_committed"])
    assert f"{order_name(world.confirmed)}@4" in " ".join(found["handled_was_committed"])


# --- What is no violation ------------------------------------------------------------------------------------------


def test_what_is_younger_than_the_settling_time_is_left_out(world: World) -> None:
    a_cancelled_order_keeps_its_stock(world)
    OutboxMessage.objects.using(home(world)).create(stream_id=world.shipped, category=ORDER, version=1)

    assert broken(audit(settle=timedelta(minutes=5))) == {}
    assert set(verdict()) == {"stock_set_aside_once", "events_published"}


def test_an_order_whose_events_are_still_to_be_handled_is_not_judged(world: World) -> None:
    world.shop.command(CancelOrder(order_id=world.confirmed, reason=CancelReason.CUSTOMER, at=world.shop.now))

    assert verdict() == {"events_published": [f"{order_name(world.confirmed)}@4"]}


def test_a_dead_letter_is_where_an_event_may_end(world: World) -> None:
    cancel = CancelOrder(order_id=world.confirmed, reason=CancelReason.CUSTOMER, at=world.shop.now)
    without_reaction(world, world.confirmed, cancel, "inventory")
    InboxEntry.objects.filter(stream_id=world.confirmed, category=ORDER, version=4, subscriber="inventory").delete()
    event = Event.objects.using(home(world)).get(stream_id=world.confirmed, category=ORDER, version=4)
    letter = dead_letter(event, "inventory")
    assert verdict() == {}

    letter.status = DeadLetter.Status.ARCHIVED  # nobody will repair it any more
    letter.save()

    assert verdict() == {"stock_set_aside_once": [order_name(world.confirmed)]}


def test_inbox_rows_that_were_pruned_are_not_missed(world: World, settings: LazySettings) -> None:
    InboxEntry.objects.all().delete()
    assert set(verdict()) == {"events_reach_subscribers"}

    settings.EVENTING_INBOX_RETENTION_DAYS = 1
    later = datetime.now(UTC) + timedelta(days=2)

    assert set(verdict(now=later)) == {"orders_end_in_time"}  # nothing else is said about a shop of tomorrow


def test_a_capture_that_payments_has_not_written_down_yet_is_under_way(world: World) -> None:
    payment = Payment.objects.get(order_id=world.paid)
    Payment.objects.filter(pk=payment.pk).update(status="requested", gateway_reference="")

    assert "charges_have_payments" not in verdict()


# --- A broker that is away -----------------------------------------------------------------------------------------


def test_a_broker_that_does_not_answer_is_named_and_nothing_is_called_lost(
    world: World, settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**options: Any) -> None:
        raise BrokerUnavailable

    settings.EVENTING_DURABLE_BROKER = True
    monkeypatch.setattr(queues, "depths", refuse)
    an_event_was_published_and_got_lost(world)

    report = audit(settle=timedelta(0))

    assert broken(report) == {}
    assert report.unavailable == ("broker",)
    assert not report.clean
    assert "not handled yet: notifications 1" in " ".join(result.note for result in report.results)


@pytest.mark.services
def test_an_event_that_may_be_in_its_subscribers_queue_is_under_way(world: World) -> None:
    an_event_was_published_and_got_lost(world)
    with current_app.connection_for_write() as connection:
        topology.declare(connection)
        try:
            queue = topology.work_queue("notifications")(connection.default_channel)
            connection.Producer().publish("{}", exchange="", routing_key=queue.name)
            wait_until(lambda: queue.queue_declare(passive=True).message_count == 1)

            report = audit(settle=timedelta(0))
        finally:
            topology.delete(connection)

    assert report.clean
    assert "not handled yet: notifications 1" in " ".join(result.note for result in report.results)


# --- The command ---------------------------------------------------------------------------------------------------


def command(*arguments: str, code: int) -> str:
    out = StringIO()
    try:
        call_command("audit", *arguments, stdout=out, no_color=True)
        assert code == 0
    except SystemExit as end:
        assert end.code == code
    return out.getvalue()


def test_the_command_ends_with_0_when_all_is_well(world: World) -> None:
    said = command("--settle", "0", code=0)

    assert said.splitlines()[-1].startswith(f"clean: {len(CHECKS)} checks")
    assert "stock_adds_up" in said


def test_the_command_ends_with_1_and_names_the_offenders_and_what_to_do(world: World) -> None:
    for order_id in range(1, 26):
        InboxEntry.objects.create(
            stream_id=world.paid, category=ORDER, version=100 + order_id, subscriber="coupons", attempts=1,
            published_at=world.shop.now, handled_at=world.shop.now,
        )  # fmt: skip

    said = command("--settle", "0", "--repair-hints", code=1)

    assert f"- coupons: {order_name(world.paid)}@101" in said
    assert "and 5 more" in said
    assert "To repair:" in said
    assert "To repair:" not in command("--settle", "0", code=1)


def test_the_json_is_what_programs_read(world: World) -> None:
    stock_has_come_from_nowhere(world)

    said = json.loads(command("--json", "--settle", "0", code=1))

    assert said["clean"] is False
    assert said["settle_seconds"] == 0
    assert said["unavailable"] == []
    [check] = [one for one in said["checks"] if one["violations"]]
    assert (check["name"], check["violations"], check["offenders"]) == ("stock_matches_ledger", 1, ["PEN"])
    assert {"title", "checked", "hint"} <= set(check)


def test_only_the_checks_that_are_asked_for_are_done(world: World) -> None:
    stock_has_come_from_nowhere(world)

    said = command("--only", "streams_gapless", "--only", "stock_adds_up", "--settle", "0", code=0)

    assert "stock_matches_ledger" not in said
    with pytest.raises(CommandError, match="There is no check stok"):
        call_command("audit", "--only", "stok")


@pytest.mark.parametrize("seconds", ["-1", "soon", "nan", "1e9"])
def test_a_settling_time_that_is_none_is_refused(seconds: str) -> None:
    with pytest.raises(CommandError, match="is not a number of seconds"):
        call_command("audit", "--settle", seconds)


def test_the_checks_can_be_listed() -> None:
    said = command("--list", code=0)

    assert [line.split()[0] for line in said.splitlines()] == [check.name for check in CHECKS]
