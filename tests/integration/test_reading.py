"""The program that measures how fast orders are read: it reads the right things, and leaves nothing behind."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.test import Client

from backoffice import orders as orders_admin
from lab.bench import reading
from lab.bench.reading import BadPage, TooFewOrders
from lab.figures import Figure, at_most
from tests.factories import NOON, CustomerFactory, OperatorFactory
from tests.integration.order_samples import place
from tests.integration.test_admin import ORDERS, client_of, link, listed

pytestmark = [pytest.mark.once, pytest.mark.django_db(databases="__all__")]

committed = pytest.mark.django_db(databases="__all__", transaction=True)  # each request gives its connections back

PAGE = 3


@pytest.fixture
def office(db: None) -> Client:
    return client_of(OperatorFactory.create())


def many_orders(number: int) -> None:
    """Some of them of the same moment, on different shards."""
    for position in range(number):
        place(position * 37 % 200, at=NOON - timedelta(minutes=position // 3))


@pytest.mark.parametrize("number", [2, 5, 9])
def test_the_place_of_a_page_is_where_clicking_leads_to(
    office: Client, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    many_orders(PAGE * 8 + 2)
    monkeypatch.setattr(orders_admin, "PAGE_SIZE", PAGE)
    monkeypatch.setattr(reading, "CHUNK", 4)
    response = office.get(ORDERS)
    for _ in range(number - 1):
        response = office.get(ORDERS + str(link(response, "next")))

    place_of_page = reading.place_of_page(number, PAGE)

    assert listed(office.get(ORDERS, {"before": place_of_page})) == listed(response)
    assert len(listed(response)) == (PAGE if number < 9 else 2)


def test_a_page_behind_the_end_has_no_place() -> None:
    many_orders(7)

    assert reading.place_of_page(1, PAGE) is None
    assert reading.place_of_page(4, PAGE) is None


@committed
def test_everything_is_measured_and_nobody_stays_signed_in(monkeypatch: pytest.MonkeyPatch) -> None:
    customer = CustomerFactory.create(username="ann")
    for minutes in range(4):
        place(customer.pk, at=NOON + timedelta(minutes=minutes), coupon_code="TEN", discount=100)
    monkeypatch.setattr(reading, "FAR", 2)
    monkeypatch.setattr(orders_admin, "PAGE_SIZE", PAGE)

    figures = {figure.name: figure for figure in reading.measure(rounds=2, at_least=4)}

    assert figures["history of a customer, in the database, p95"].asked == at_most(5)
    assert figures["history of a customer, whole request, p95"].asked == at_most(25)
    assert figures["back office: first page, p95"].asked == at_most(150)
    assert figures["page 2 against page 1, p50"].asked == at_most(1.3)
    for what in ("search by number", "search by e-mail", "orders of a status and a day", "orders of a product"):
        assert figures[f"{what}, p50"].value > 0
    assert not Session.objects.exists()
    assert [user.username for user in User.objects.all()] == ["ann"]


def test_few_orders_are_refused_in_plain_words(capsys: pytest.CaptureFixture[str]) -> None:
    place()

    with pytest.raises(TooFewOrders, match=r"there are 1 orders .* asked for 1,000,000"):
        list(reading.measure())
    assert reading.main(["--rounds", "2"]) == 2
    assert "there are 1 orders" in capsys.readouterr().err


@committed
@pytest.mark.usefixtures("office")
def test_a_page_that_failed_is_no_figure() -> None:
    with reading.visitor(User.objects.get()) as visitor, pytest.raises(BadPage, match="404"):
        visitor.page("/nowhere/")


def test_figures_can_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    figures = [
        Figure(name="fast", runs=[1.0], unit="ms", asked=at_most(5)),
        Figure(name="slow", runs=[7.25], unit="ms", asked=at_most(5)),
        Figure(name="nobody asked", runs=[9.0], unit="ms"),
    ]
    monkeypatch.setattr(reading, "measure", lambda **options: figures)

    assert reading.main(["--json", str(tmp_path / "figures.json")]) == 1
    slow = json.loads((tmp_path / "figures.json").read_text())["figures"][1]
    assert (slow["name"], slow["median"], slow["met"]) == ("slow", 7.25, False)
    assert capsys.readouterr().out.splitlines()[2].split() == ["slow", "7.2", "ms", "≤", "5", "MISSED"]
    figures.pop(1)
    assert reading.main([]) == 0
