"""Orders in bulk: the rows that people's orders would have, as many as were asked for, whatever happens in between."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from io import StringIO
from itertools import count
from typing import Any

import pytest
from django.conf import LazySettings, settings
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connections
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from api import tokens
from checkout import service as checkout
from coupons.models import Coupon
from coupons.selectors import terms
from eventing.databases import SessionLock
from eventing.models import Event, OutboxMessage
from eventing.recorded import Metadata
from eventing.testing import drain
from inventory import selectors as catalogue
from inventory.models import Stock
from monitoring.audit import audit
from notifications.models import Message
from orders import handlers
from orders.commands import CancelOrder, DeliverOrder, RefundOrder, ShipOrder
from orders.events import CancelReason, Line
from orders.models import Order
from seed.bulk import deck, run, writing
from seed.bulk.stories import TERM, Basket, Course
from seed.bulk.templates import CUSTOMER_ID, NAME, ORDER_ID, RANDOM, TRACKING, all_rows, with_hashes
from seed.management.commands import seed as command
from seed.models import BulkBatch
from sharding import numbers, shards
from tests.integration.test_audit import pretend_handled
from tests.waiting import wait_until

pytestmark = [pytest.mark.services, pytest.mark.django_db(databases="__all__", transaction=True)]


@pytest.fixture(autouse=True)
def development(settings: LazySettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shop without any order made by a command, and with batches small enough for several of them."""
    settings.DEBUG = True
    monkeypatch.setattr(command, "PLAYED", 0)
    monkeypatch.setattr(run, "BATCH", 200)


@pytest.fixture
def quiet() -> None:
    """The deliveries that opened the shop have been published."""
    seed(0)
    drain()
    pretend_handled("integration")


def seed(orders: int, *arguments: str) -> str:
    out = StringIO()
    call_command("seed", f"--orders={orders}", *arguments, stdout=out)
    return out.getvalue()


def orders_in_all() -> list[Order]:
    return [order for alias in shards.aliases() for order in Order.objects.using(alias).all()]


def violations() -> dict[str, tuple[str, ...]]:
    report = audit(settle=timedelta(0))
    return {result.check.name: result.offenders for result in report.results if result.violations}


def test_thousands_of_orders_are_written_and_the_audit_is_clean(quiet: None) -> None:
    said = seed(3_000)

    orders = orders_in_all()
    now = timezone.now()
    assert len(orders) == 3_000
    assert "3,000 orders of the past written in bulk" in said
    assert violations() == {}
    assert not any(OutboxMessage.objects.using(alias).exists() for alias in settings.DATABASES)
    statuses = Counter(order.status for order in orders)
    assert statuses.keys() == {"delivered", "shipped", "paid", "refunded", "cancelled", "rejected"}
    assert statuses["delivered"] > 2_000
    assert {order.reason for order in orders} == {
        "", "out_of_stock", "coupon_refused", "customer", "operator", "payment_timeout",
    }  # fmt: skip
    buckets = Counter(numbers.bucket_of(order.id) for order in orders)
    assert len(buckets) == 128
    assert max(buckets.values()) - min(buckets.values()) <= 1
    assert now - timedelta(days=180) < min(order.placed_at for order in orders) < now - timedelta(days=170)
    assert now - timedelta(days=10) < max(order.placed_at for order in orders) < now - timedelta(days=1)


def test_what_is_available_stays_as_it_was() -> None:
    seed(0)
    before = dict(Stock.objects.values_list("product_id", "available"))

    seed(500)

    assert dict(Stock.objects.values_list("product_id", "available")) == before
    assert Coupon.objects.get(code="REGULAR").redeemed > 0


def test_a_second_run_adds_what_is_missing_and_no_more(quiet: None) -> None:
    seed(500)
    before = {order.id for order in orders_in_all()}

    assert seed(500) == "Nothing to seed: everything is there already.\n"
    assert {order.id for order in orders_in_all()} == before

    seed(700, "--hot-customer=100")
    after = orders_in_all()
    assert len(after) == 700
    assert before < {order.id for order in after}
    assert violations() == {}


def test_one_customer_can_have_a_great_many_orders(quiet: None) -> None:
    seed(700, "--hot-customer=400")

    customers = Counter(order.customer_id for order in orders_in_all())
    [(customer_id, most), (_, next_most)] = customers.most_common(2)
    assert User.objects.get(pk=customer_id).username == "bulk.hot"
    assert most == 400
    assert next_most < 100
    assert violations() == {}


def test_a_run_that_fails_between_its_two_databases_is_repaired_by_the_next(
    quiet: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing.coupons, "count_uses", refuse_after_the_third_time(writing.coupons.count_uses))
    with pytest.raises(ZeroDivisionError):
        seed(1_000)
    monkeypatch.undo()
    half_written = [number for note in BulkBatch.objects.filter(unfinished__isnull=False) for number in note.unfinished]
    assert any(Event.objects.using(alias).filter(stream_id__in=half_written).exists() for alias in shards.aliases())

    monkeypatch.setattr(command, "PLAYED", 0)
    settings.DEBUG = True
    seed(1_000)

    assert len(orders_in_all()) == 1_000
    assert violations() == {}


def refuse_after_the_third_time(function: Callable[..., None]) -> Callable[..., None]:
    calls = count(1)

    def refuse(*arguments: Any) -> None:
        if next(calls) > 3:
            raise ZeroDivisionError
        function(*arguments)

    return refuse


@pytest.mark.slow
def test_a_run_that_is_killed_is_completed_by_the_next(quiet: None) -> None:
    seed(0)
    for _ in range(3):
        begin_and_kill()

    assert 0 < len(orders_in_all()) < 10_000
    written = sum(BulkBatch.objects.filter(unfinished__isnull=True).values_list("orders", flat=True))
    seed(written + 100)

    assert len(orders_in_all()) == written + 100
    assert violations() == {}


def begin_and_kill() -> None:
    before = BulkBatch.objects.count()
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], env=os.environ | databases())
    wait_until(lambda: BulkBatch.objects.count() > before or process.poll() is not None, seconds=60)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


PROGRAM = """
import django
django.setup()
from seed.bulk import run
run.BATCH = 100
run.Run(orders=10_000, hot=0, days=100).go()
"""


def databases() -> dict[str, str]:
    """The environment in which another process works on this test's databases."""
    urls = {}
    for alias in settings.DATABASES:
        server = connections[alias].settings_dict
        login = ":".join(filter(None, (server["USER"], server["PASSWORD"])))
        urls[alias] = f"postgres://{login}@{server['HOST']}:{server['PORT'] or 5432}/{server['NAME']}"
    return {
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "DATABASE_URL": urls["default"],
        "ORDER_SHARD_URLS": ",".join(urls[alias] for alias in shards.aliases()),
    }


def test_two_runs_do_not_write_at_the_same_time() -> None:
    seed(0)
    lock = SessionLock("default", writing.LOCK)
    assert lock.hold()
    try:
        with pytest.raises(CommandError, match="another process is writing some"):
            seed(300)
    finally:
        lock.release()


@pytest.mark.django_db(databases="__all__")
@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--orders=some"], "is not a number from 0 to"),
        (["--orders=100", "--hot-customer=101"], "more than the 100 orders in bulk"),
        (["--days=1"], "is not a number from 2 to"),
    ],
)
def test_what_cannot_be_is_refused(arguments: list[str], said: str) -> None:
    with pytest.raises(CommandError, match=said):
        call_command("seed", *arguments)
    assert not User.objects.exists()


# --- The same as people's orders -----------------------------------------------------------------------------------

OPERATOR = Metadata(correlation_id="0" * 32, actor="operator:seed")
CUSTOMER = Metadata(correlation_id="1" * 32, actor=f"customer:{CUSTOMER_ID}")
KEYS = {
    "eventing_event": "stream_id", "eventing_inbox": "stream_id", "orders_order": "id",
    "payments_sandboxcharge": "(SELECT order_id FROM payments_payment"
    " WHERE payments_sandboxcharge.key IN ('capture-' || payments_payment.id, 'refund-' || payments_payment.id))",
}  # fmt: skip
TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)?|\d+ \w+ \d{4}, \d\d:\d\d")


@pytest.mark.django_db(databases="__all__")  # what it compares need not be committed
@pytest.mark.parametrize("coupon", ["", "SAIL5"])
@pytest.mark.parametrize("story", deck.STORIES, ids=lambda story: "-".join(story.steps) or "rejected")
def test_the_rows_are_those_that_handlers_would_have_written(story: deck.Story, coupon: str) -> None:
    seed(0)
    User.objects.create(pk=CUSTOMER_ID, username="x", first_name=NAME)
    lines = [("COF-001", 2), ("COF-010", 1)]
    if story.short:
        lines = [("GAR-010", 2 * Stock.objects.get(product="GAR-010").available), *lines]
    if story.refused:
        coupon = "LASTONE"
        place([("COF-001", 1)], coupon)

    order_id = place(lines, coupon)
    drain()
    for step in story.steps:
        take(step, order_id)
        drain()
    pretend_handled("integration")

    course = Course(
        order_id=ORDER_ID, customer_id=CUSTOMER_ID, tracking=TRACKING, basket=basket(lines, coupon, story),
        chance=random.Random(1),
    )  # fmt: skip
    for step in ("place", *story.steps):
        course.take(step)
    course.events = with_hashes(course.events)
    expected: dict[tuple[str, str, str], list[str]] = {}
    for (where, table, columns), values in all_rows(course):
        alias = shards.alias_of(order_id) if where == "shard" else where
        expected.setdefault((alias, table, columns), []).append(plain(columns, values, ORDER_ID))
    assert {key: sorted(rows) for key, rows in expected.items()} == {
        (alias, table, columns): stored(alias, table, columns, order_id) for alias, table, columns in expected
    }
    assert not Message.objects.filter(channel="email").exists()


def place(lines: list[tuple[str, int]], coupon: str) -> int:
    at = timezone.now() - 2 * TERM
    key = f"{timezone.now().timestamp()}"
    placement = checkout.place(CUSTOMER_ID, lines, coupon, key=key, metadata=CUSTOMER, at=at, payment_term=TERM)
    return placement.order_id


def take(step: str, order_id: int) -> None:
    at = timezone.now()
    match step:
        case "pay":
            checkout.pay(order_id, CUSTOMER_ID, "tok_ok", CUSTOMER)
        case "decline":
            checkout.pay(order_id, CUSTOMER_ID, "tok_declined", CUSTOMER)
        case "cancel":
            checkout.cancel(order_id, CUSTOMER_ID, CUSTOMER)
        case "ship":
            handlers.handle(ShipOrder(order_id=order_id, tracking=TRACKING, at=at), OPERATOR)
        case "deliver":
            handlers.handle(DeliverOrder(order_id=order_id, at=at), OPERATOR)
        case "refund":
            handlers.handle(RefundOrder(order_id=order_id, at=at), OPERATOR)
        case "withdraw":
            handlers.handle(CancelOrder(order_id=order_id, reason=CancelReason.OPERATOR, at=at), OPERATOR)
        case "expire":
            assert handlers.cancel_overdue(at, shards.alias_of(order_id), 10) == 1


def basket(lines: list[tuple[str, int]], coupon: str, story: deck.Story) -> Basket:
    known = {one.code: one for one in terms()}
    if story.refused:
        known[coupon] = replace(known[coupon], redeemed=known[coupon].total_limit)
    views = catalogue.products_by_sku(sku for sku, _ in lines)
    return Basket(
        lines=tuple(
            Line(sku=sku, name=views[sku].name, quantity=quantity, unit_price=views[sku].price)
            for sku, quantity in lines
        ),
        currency="EUR",
        coupon=known.get(coupon),
        short=story.short,
    )


def stored(alias: str, table: str, columns: str, order_id: int) -> list[str]:
    with connections[alias].cursor() as cursor:
        cursor.execute(f"SELECT {columns} FROM {table} WHERE {KEYS.get(table, 'order_id')} = %s", [order_id])
        return sorted(plain(columns, row, order_id) for row in cursor.fetchall())


def plain(columns: str, values: Iterable[Any], order_id: int) -> str:
    """A row without what is different each time."""
    named = zip(columns.replace('"', "").split(", "), values, strict=True)
    text = "\t".join(
        "<hash>" if value and name.endswith(("hash", "hashes")) else as_text(value) for name, value in named
    )
    text = RANDOM.sub("<random>", TIME.sub("<time>", text))
    text = text.replace(', "request": "<random>"', "")  # bulk orders are older than their idempotency keys would be
    return text.replace(str(order_id), "<id>").replace(numbers.to_text(order_id), "<number>")


def as_text(value: Any) -> str:
    if isinstance(value, str) and value.startswith("{"):
        return json.dumps(json.loads(value), sort_keys=True)
    return value.isoformat() if isinstance(value, datetime) else str(value)


# --- Pages --------------------------------------------------------------------------------------------------------


def test_the_pages_show_these_orders(client: Client) -> None:
    seed(300)
    operator = User.objects.get(username="admin")
    for status in ("delivered", "refunded", "rejected", "cancelled", "paid"):
        order = next(order for order in orders_in_all() if order.status == status)
        number = numbers.to_text(order.id)
        client.force_login(User.objects.get(pk=order.customer_id))
        for page in ("storefront:order", "storefront:behind"):
            answer = client.get(reverse(page, args=[number]))
            assert answer.status_code == 200
            assert number in answer.text
        token = {"Authorization": f"Bearer {tokens.issue(order.customer_id, timezone.now())}"}
        history = client.get(f"/api/v1/orders/{number}/events", headers=token).json()["items"]
        assert [event["version"] for event in history if event["id"].startswith("order-")] == list(
            range(1, order.version + 1)
        )
        assert client.get("/api/v1/orders", headers=token).json()["items"]
        assert client.get(reverse("storefront:inbox")).status_code == 200
        client.force_login(operator)
        assert client.get(reverse("admin:orders_order_change", args=[number])).status_code == 200
