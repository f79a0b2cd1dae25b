"""Two operators have the same form open: the second one sees what the first has saved, and decides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, Permission, User
from django.db.models import Model
from django.test import Client, RequestFactory
from django.urls import reverse
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask

from backoffice.editing import INCOMPLETE, MEANWHILE, EditableModelAdmin
from coupons.models import Coupon
from inventory.models import Category, Product
from tests.factories import CouponFactory, CustomerFactory, OperatorFactory
from tests.integration.browser_forms import shown
from tests.integration.parallel import at_once
from tests.integration.shop_api import stock_the_shop

pytestmark = pytest.mark.django_db(databases="__all__")


@pytest.fixture
def operator(db: None) -> User:
    return OperatorFactory.create()


@pytest.fixture
def office(operator: User, client: Client) -> Client:
    client.force_login(operator)
    return client


@dataclass(frozen=True)
class Case:
    """A page, what the first operator changes on it, and what the second one does: fields as browsers send them."""

    row: Callable[[], Model]
    first: dict[str, Any]
    second: dict[str, Any]
    told: str


def product() -> Product:
    stock_the_shop()
    Product.objects.filter(sku="BOOK").update(description="Two lines\nand more")
    return Product.objects.get(sku="BOOK")


def coupon() -> Coupon:
    return CouponFactory.create()


def task() -> PeriodicTask:
    every, _ = IntervalSchedule.objects.get_or_create(every=7, period="days")
    return PeriodicTask.objects.create(name="A task", task="orders.tasks.cancel_overdue_orders", interval=every)


CASES = {
    "product, other fields": Case(product, {"price": "12.34"}, {"description": "New"}, "12.34"),
    "product, the same field": Case(product, {"name": "Tome"}, {"name": "Volume"}, "Tome"),
    "product, a checkbox": Case(product, {"active": None}, {"name": "Volume"}, "Changed meanwhile to: no"),
    "category": Case(lambda: Category.objects.create(slug="a", name="A"), {"name": "B"}, {"position": "7"}, "B"),
    "coupon, a time": Case(
        coupon, {"valid_until_0": "2031-02-03", "valid_until_1": "04:05:06"}, {"total_limit": "9"}, "2031-02-03"
    ),
    "coupon, an amount": Case(coupon, {"value": "20.00"}, {"value": "30.00"}, "20.00"),
    "user": Case(lambda: CustomerFactory.create(username="ann"), {"email": "a@b.org"}, {"first_name": "A"}, "a@b.org"),
    "user, groups": Case(
        lambda: Group.objects.create(name="packers") and CustomerFactory.create(username="ann"),
        {"groups": ["packers"]},
        {"first_name": "A"},
        "packers",
    ),
    "group, permissions": Case(
        lambda: Group.objects.create(name="packers"), {"permissions": ["view_product"]}, {"name": "senders"}, "product"
    ),
    "interval": Case(
        lambda: IntervalSchedule.objects.create(every=7, period="days"), {"every": "8"}, {"period": "hours"}, "8"
    ),
    "crontab": Case(lambda: CrontabSchedule.objects.create(minute="7", hour="1"), {"minute": "8"}, {"hour": "2"}, "8"),
    "task": Case(task, {"enabled": None}, {"description": "New"}, "Changed meanwhile to: no"),
}


def url_of(row: Model) -> str:
    return reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk])


def changed(fields: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The fields after somebody has typed; names of groups and permissions stand for their ids, None unticks."""
    by_name: dict[str, Callable[[str], int]] = {
        "groups": lambda name: Group.objects.get(name=name).pk,
        "permissions": lambda name: Permission.objects.get(codename=name).pk,
    }
    typed = {
        name: [by_name[name](one) for one in value] if name in by_name else value for name, value in changes.items()
    }
    return {name: value for name, value in (fields | typed).items() if value is not None}


def stored(row: Model) -> dict[str, Any]:
    row.refresh_from_db()
    many = {field.name: sorted(getattr(row, field.name).values_list("pk")) for field in row._meta.many_to_many}
    return {field.name: getattr(row, field.name) for field in row._meta.concrete_fields} | many


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_the_second_operator_sees_what_the_first_has_saved_and_decides(office: Client, case: Case) -> None:
    row = case.row()
    url = url_of(row)
    form = shown(office.get(url))

    assert office.post(url, changed(form, case.first)).status_code == 302
    of_the_first = stored(row)
    again = office.post(url, changed(form, case.second))

    assert again.status_code == 200
    assert MEANWHILE in again.content.decode()
    assert case.told in again.content.decode()
    assert stored(row) == of_the_first  # nothing is written yet
    assert office.post(url, shown(again)).status_code == 302
    of_both = stored(row)
    differ = {name for name in of_both if of_both[name] != of_the_first[name]} - {"updated_at", "date_changed"}
    assert differ == {name.removesuffix("_0").removesuffix("_1") for name in case.second}
    assert str(of_both[next(iter(differ))]) in (str(next(iter(case.second.values()))), "3000")


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_form_that_nobody_else_has_touched_is_saved_at_once(office: Client, case: Case) -> None:
    row = case.row()
    before = stored(row)

    assert office.post(url_of(row), shown(office.get(url_of(row)))).status_code == 302
    after = stored(row)

    assert {name for name in after if after[name] != before[name]} <= {"updated_at", "date_changed"}


def test_both_operators_may_have_made_the_same_change(office: Client) -> None:
    row = product()
    form = changed(shown(office.get(url_of(row))), {"price": "12.34"})

    assert office.post(url_of(row), form).status_code == 302
    assert office.post(url_of(row), form).status_code == 302
    assert Product.objects.get(pk=row.pk).price == 1234


def test_a_form_without_what_it_was_opened_with_saves_nothing(office: Client) -> None:
    row = product()
    form = {name: value for name, value in shown(office.get(url_of(row))).items() if name != "initial-price"}

    response = office.post(url_of(row), changed(form, {"price": "12.34"}))

    assert INCOMPLETE in response.content.decode()
    assert Product.objects.get(pk=row.pk).price == 1000


def test_positions_of_categories_are_guarded_in_their_list(office: Client) -> None:
    first, second = (Category.objects.create(slug=slug, name=slug) for slug in ("a", "b"))
    url = reverse("admin:inventory_category_changelist")
    form = {**shown(office.get(url)), "_save": "Save", "action": ""}
    index = {form[f"form-{number}-id"][0]: number for number in range(2)}

    assert office.post(url, {**form, f"form-{index[str(first.pk)]}-position": "5"}).status_code == 302
    again = office.post(url, {**form, f"form-{index[str(second.pk)]}-position": "6"})

    assert MEANWHILE in again.content.decode()
    assert dict(Category.objects.values_list("slug", "position")) == {"a": 5, "b": 0}
    assert office.post(url, {**shown(again), "_save": "Save", "action": ""}).status_code == 302
    assert dict(Category.objects.values_list("slug", "position")) == {"a": 5, "b": 6}


@pytest.mark.services
@pytest.mark.django_db(databases="__all__", transaction=True)
def test_of_two_forms_that_arrive_together_one_sees_the_other(operator: User) -> None:
    row = product()
    clients = [Client() for _ in range(2)]
    for client in clients:
        client.force_login(operator)
    forms = [
        changed(shown(client.get(url_of(row))), changes)
        for client, changes in zip(clients, ({"price": "12.34"}, {"name": "Tome"}), strict=True)
    ]

    answers: list[int] = []

    def send(client: Client, form: dict[str, Any]) -> None:
        answers.append(client.post(url_of(row), form).status_code)

    errors = at_once([partial(send, *pair) for pair in zip(clients, forms, strict=True)], using="default")

    assert (errors, sorted(answers)) == ([], [200, 302])


@pytest.mark.once
def test_every_form_of_the_back_office_is_guarded(operator: User) -> None:
    request = RequestFactory().get("/admin/")
    request.user = operator
    unguarded = {
        model._meta.label
        for model, page in admin.site._registry.items()
        if page.has_change_permission(request) and not isinstance(page, EditableModelAdmin)
    }

    assert unguarded == {"orders.Order"}  # whose actions are decided by its events
