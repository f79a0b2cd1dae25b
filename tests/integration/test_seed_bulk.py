"""Orders in bulk: the rows that people's orders would have, as many as were asked for, whatever happens in between."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from io import StringIO
from itertools import count
from typing import Any
from uuid import uuid4

import pytest
from django.apps import apps
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
from eventing.locks import SessionLock
from eventing.models import Event, OutboxMessage
from eventing.recorded import Metadata
from eventing.testing import drain
from inventory import selectors as catalogue
from inventory.models import Stock
from monitoring.audit import audit
from notifications.models import Message
from orders.events import Line
from orders.models import Order
from seed.bulk import run, writing
from seed.bulk.played import NAME, SHARD, TERM, Basket, play
from seed.bulk.templates import RANDOM, Table, Template, template_of
from seed.management.commands import seed as command
from seed.models import BulkBatch
from seed.scenarios import SCENARIOS, Scenario, take
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

CUSTOMER_ID = 2_070_707_071
CUSTOMER = Metadata(correlation_id="1" * 32, actor=f"customer:{CUSTOMER_ID}")
KEYS = {  # of rows of an order, where it is not in a column `order_id` or `stream_id`
    "orders_order": "id",
    "payments_sandboxcharge": "(SELECT order_id FROM payments_payment"
    " WHERE payments_sandboxcharge.key IN ('capture-' || payments_payment.id, 'refund-' || payments_payment.id))",
}  # fmt: skip
# Bulk orders are published, and older than their idempotency keys would be.
WITHOUT = {"eventing_outbox", "orders_idempotencykey"}
TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)?|\d+ \w+ \d{4}, \d\d:\d\d")
TRACKING = re.compile(r"WH\d{9}")
IN_BULK = [scenario for scenario in SCENARIOS if scenario.share_in_bulk]


@pytest.mark.django_db(databases="__all__")  # what it compares need not be committed
@pytest.mark.parametrize("coupon", ["", "SAIL5"])
@pytest.mark.parametrize("scenario", IN_BULK, ids=lambda scenario: "-".join(scenario.steps) or "rejected")
def test_the_rows_are_those_that_handlers_would_have_written(scenario: Scenario, coupon: str) -> None:
    seed(0)
    User.objects.create(pk=CUSTOMER_ID, username="x", first_name=NAME)
    coupon = scenario.coupon or coupon
    lines = [("COF-001", 2), ("COF-010", 1)]
    if scenario.short:
        lines = [("GAR-010", 2 * Stock.objects.get(product="GAR-010").available), *lines]
    basket = basket_of(lines, coupon, scenario)
    if scenario.coupon:
        place([("COF-001", 1)], coupon)

    order_id = place(lines, coupon)
    drain()
    for step in scenario.steps:
        take(step, order_id, CUSTOMER_ID, correlation_id=uuid4().hex, card="tok_ok", tracking="WH000000000")
        drain()
    pretend_handled("integration")
    before = Stock.objects.count(), Order.objects.using(shards.alias_of(order_id)).count(), Message.objects.count()
    [played] = play(scenario, [basket])
    assert before == (
        Stock.objects.count(), Order.objects.using(shards.alias_of(order_id)).count(), Message.objects.count(),
    )  # fmt: skip
    copy_id = copy(template_of(played))

    expected = {place: rows for place, rows in stored(order_id).items() if rows}
    assert {table for _, table in expected} >= {"eventing_event", "eventing_inbox", "orders_order", "orders_orderline"}
    assert {place: rows for place, rows in stored(copy_id).items() if rows} == expected
    assert not Message.objects.filter(channel="email").exists()


def copy(template: Template) -> int:
    """Write an order from a template, all of it; returns its number."""
    at = timezone.now() - timedelta(days=20)
    order_id = numbers.new_order_id(CUSTOMER_ID, at)
    values = run.Run(orders=1, hot=0, days=30)._values(order_id, (CUSTOMER_ID, NAME), int(at.timestamp()), template)
    texts: dict[Table, bytearray] = defaultdict(bytearray)
    template.fill(texts, values, inbox=True)
    for alias, is_shard in ((shards.alias_of(order_id), True), ("default", False)):
        writing._copy(alias, {table: text for table, text in texts.items() if (table[0] == SHARD) is is_shard})
    return order_id


def place(lines: list[tuple[str, int]], coupon: str) -> int:
    at = timezone.now() - 2 * TERM
    key = f"{timezone.now().timestamp()}"
    placement = checkout.place(CUSTOMER_ID, lines, coupon, key=key, metadata=CUSTOMER, at=at, payment_term=TERM)
    return placement.order_id


def basket_of(lines: list[tuple[str, int]], coupon: str, scenario: Scenario) -> Basket:
    views = catalogue.products_by_sku(sku for sku, _ in lines)
    return Basket(
        lines=tuple(
            Line(sku=sku, name=views[sku].name, quantity=quantity, unit_price=views[sku].price)
            for sku, quantity in lines
        ),
        currency="EUR",
        coupon={one.code: one for one in terms()}.get(coupon),
        scarce=(lines[0][0],) if scenario.short else (),
    )


def stored(order_id: int) -> dict[tuple[str, str], list[str]]:
    """The rows about an order in every table that has an order's number, without what is different each time."""
    rows: dict[tuple[str, str], list[str]] = {}
    for model in apps.get_models():
        meta = model._meta
        columns = [field.column for field in meta.concrete_fields if field is not meta.auto_field]
        key = KEYS.get(meta.db_table) or next((one for one in ("order_id", "stream_id") if one in columns), None)
        if key is None or meta.db_table in WITHOUT:
            continue
        for alias in ("default", shards.alias_of(order_id)):
            if meta.db_table in connections[alias].introspection.table_names():
                rows[alias, meta.db_table] = stored_in(alias, meta.db_table, columns, key, order_id)
    return rows


def stored_in(alias: str, table: str, columns: list[str], key: str, order_id: int) -> list[str]:
    with connections[alias].cursor() as cursor:
        cursor.execute(f"SELECT {', '.join(columns)} FROM {table} WHERE {key} = %s", [order_id])
        return sorted(plain(columns, row, order_id) for row in cursor.fetchall())


def plain(columns: list[str], values: Iterable[Any], order_id: int) -> str:
    """A row without what is different each time."""
    text = "\t".join(
        "<hash>" if value and name.endswith(("hash", "hashes")) else as_text(value)
        for name, value in zip(columns, values, strict=True)
    )
    text = TRACKING.sub("<tracking>", RANDOM.sub("<random>", TIME.sub("<time>", text)))
    text = text.replace(', "request": "<random>"', "")  # of the idempotency key
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
