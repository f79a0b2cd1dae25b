"""What the clock reports to operators."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from django.db import OperationalError
from django.test import Client
from django.utils import timezone

from monitoring import reports, stuck
from monitoring.models import DailySales, StuckOrder
from orders import statistics
from orders.domain import Status
from sharding import shards
from tests.factories import NOON, OperatorFactory
from tests.integration.order_samples import TOTAL, order_in

pytestmark = pytest.mark.django_db(databases="__all__")

TODAY = datetime(2026, 3, 1, 13, 0, tzinfo=UTC)
NEXT_DAY = datetime(2026, 3, 2, 0, 20, tzinfo=UTC)


def sales(day: date) -> dict[str, int]:
    fields = ("orders", "paid", "rejected", "cancelled", "refunded", "revenue")
    return DailySales.objects.values(*fields).get(day=day)


def test_the_sales_of_a_day_are_summed_up_over_all_shards() -> None:
    for customer_id, status in enumerate(Status, start=1):
        order_in(status, customer_id=customer_id * 20)
    order_in(Status.PAID, customer_id=7, at=datetime(2026, 3, 2, 0, 0, tzinfo=UTC))  # the next day

    assert reports.summarise_sales(NEXT_DAY, days=2) == 3

    ended = {"paid": 3, "rejected": 1, "cancelled": 1, "refunded": 1}
    assert sales(date(2026, 3, 1)) == {"orders": len(Status), **ended, "revenue": 3 * TOTAL}
    assert sales(date(2026, 3, 2)) == {
        "orders": 1,
        "paid": 1,
        "rejected": 0,
        "cancelled": 0,
        "refunded": 0,
        "revenue": TOTAL,
    }
    assert not DailySales.objects.filter(day=date(2026, 2, 28)).exists()


def test_today_is_counted_each_time_and_another_day_once_a_day() -> None:
    yesterday = date(2026, 3, 1)
    order_in(Status.PAID)
    reports.summarise_sales(TODAY)
    assert sales(yesterday)["orders"] == 1
    order_in(Status.SHIPPED, customer_id=8)
    reports.summarise_sales(TODAY)
    assert (sales(yesterday)["orders"], sales(yesterday)["revenue"]) == (2, 2 * TOTAL)

    order_in(Status.PAID, customer_id=9)
    reports.summarise_sales(NEXT_DAY)
    assert sales(yesterday)["orders"] == 3
    order_in(Status.PAID, customer_id=10)
    assert reports.summarise_sales(NEXT_DAY + timedelta(minutes=1)) == reports.DAYS  # but for yesterday, which has rows
    assert sales(yesterday)["orders"] == 3


def test_a_day_is_left_as_it_is_while_a_shard_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    order_in(Status.PAID)
    reports.summarise_sales(NEXT_DAY)
    before = sales(date(2026, 3, 1))
    order_in(Status.PAID, customer_id=8)
    ask = statistics.sales

    def last_one_is_down(alias: str, **window: datetime) -> object:
        if alias == shards.aliases()[-1]:
            raise OperationalError("gone")
        return ask(alias, **window)

    monkeypatch.setattr(statistics, "sales", last_one_is_down)
    assert reports.summarise_sales(NEXT_DAY) == 0
    assert sales(date(2026, 3, 1)) == before


def test_an_order_that_is_stuck_is_reported_with_what_it_waits_for_until_it_goes_on() -> None:
    now = timezone.now()
    late = order_in(Status.PLACED, at=now - timedelta(minutes=5))
    order_in(Status.PLACED, customer_id=8, at=now)
    order_in(Status.CONFIRMED, customer_id=9, at=now - timedelta(minutes=5))

    assert stuck.report_stuck_orders(now) == 1
    assert stuck.report_stuck_orders(now) == 1
    report = StuckOrder.objects.get()
    assert report.order_id == late
    assert "The stock check, by inventory." in report.waiting_for
    assert "The relay, to publish" in report.waiting_for

    StuckOrder.objects.update(order_id=order_in(Status.CONFIRMED, customer_id=10))
    assert stuck.report_stuck_orders(now) == 1
    assert StuckOrder.objects.get().order_id == late


def test_what_a_shard_reported_stays_while_it_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    now = timezone.now()
    late = order_in(Status.PLACED, at=now - timedelta(minutes=5))
    stuck.report_stuck_orders(now)

    def down(alias: str, **window: object) -> list[object]:
        raise OperationalError("gone")

    monkeypatch.setattr(statistics, "stuck", down)
    stuck.report_stuck_orders(now)
    assert StuckOrder.objects.get().order_id == late


def test_operators_read_both_reports(client: Client) -> None:
    now = timezone.now()
    order_in(Status.PAID, at=NOON)
    order_in(Status.PLACED, customer_id=8, at=now - timedelta(minutes=5))
    reports.summarise_sales(NEXT_DAY)
    stuck.report_stuck_orders(now)
    client.force_login(OperatorFactory.create())

    assert "€21.00" in client.get("/admin/monitoring/dailysales/").content.decode()
    assert "The stock check, by inventory." in client.get("/admin/monitoring/stuckorder/").content.decode()


def test_a_list_without_rows_says_why_and_offers_only_what_can_be_done(client: Client) -> None:
    client.force_login(OperatorFactory.create())

    empty = client.get("/admin/monitoring/dailysales/").content.decode()
    narrowed = client.get("/admin/monitoring/dailysales/", {"currency": "EUR"}).content.decode()

    assert "The orders of today are counted every minute" in empty
    assert "Nothing matches" in narrowed
    for page in (empty, narrowed):
        assert "Create a new item" not in page
        assert "/add/" not in page
        assert "Show all)" not in page


def test_lists_by_key_offer_no_page_of_all_rows(client: Client) -> None:
    client.force_login(OperatorFactory.create())
    for day in range(1, 29):
        DailySales.objects.bulk_create(
            DailySales(
                day=date(2026, month, day), currency="EUR", orders=1, paid=1, rejected=0, cancelled=0, refunded=0,
                revenue=1, counted_at=NOON,
            )
            for month in (1, 2)
        )  # fmt: skip

    page = client.get("/admin/monitoring/dailysales/").content.decode()

    assert page.count("2026-03-01 12:00:00 UTC") == 50
    assert "Show all" not in page
