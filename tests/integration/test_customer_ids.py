"""Ids of customers are never used again, however an account is made, and an old token fits no new account."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection
from django.test import Client

from accounts import registration as accounts
from api import tokens
from monitoring.audit import audit
from sharding import numbers
from tests.integration.shop_api import Api, stock_the_shop

pytestmark = pytest.mark.django_db(databases="__all__")


def by_the_admin() -> None:
    client = Client()
    client.force_login(User.objects.create_superuser("olga"))
    form = {"username": "new", "usable_password": "false", "password1": "", "password2": ""}
    answer = client.post("/admin/auth/user/add/", form)
    assert answer.status_code == 302, answer.content


WAYS: dict[str, Callable[[], object]] = {
    "sign-up": lambda: accounts.register("new", "new@example.org", "a-long-password"),
    "admin": by_the_admin,
    "createsuperuser": lambda: call_command("createsuperuser", "--noinput", username="new", email="new@example.org"),
    "create_user": lambda: User.objects.create_user("new"),
    "get_or_create": lambda: User.objects.get_or_create(username="new"),
    "save": lambda: User(username="new").save(),
    "bulk": lambda: User.objects.bulk_create([User(username="new"), User(username="newer")]),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_an_account_gives_an_id_that_nobody_ever_had(way: str) -> None:
    WAYS[way]()
    user = User.objects.get(username="new")
    assert user.pk in numbers.CUSTOMER_IDS
    assert User.objects.filter(pk=user.pk).update(first_name="Ann") == 1
    assert User.objects.filter(pk__in=[user.pk, 1]).count() == 1


def test_ids_are_spread_evenly_over_the_buckets_and_exact_in_javascript() -> None:
    ids = [numbers.new_customer_id() for _ in range(12_800)]
    buckets = Counter(map(numbers.bucket_of_customer, ids))
    assert len(set(ids)) == len(ids)
    assert set(buckets) == set(range(numbers.BUCKETS))
    assert max(buckets.values()) < 200  # 100 are expected; so many come once in some 10^15 times
    assert all((1 << 33) <= one < (1 << 53) for one in ids)
    assert {numbers.bucket_of_customer(numbers.new_customer_id(bucket=77)) for _ in range(100)} == {77}


@pytest.mark.services
def test_columns_that_refer_to_users_hold_the_whole_id() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT conrelid::regclass::text, attname, format_type(atttypid, atttypmod) FROM pg_constraint"
            " JOIN pg_attribute ON attrelid = conrelid AND attnum = conkey[1]"
            " WHERE contype = 'f' AND confrelid = 'auth_user'::regclass"
        )
        narrow = [row for row in cursor.fetchall() if row[2] != "bigint"]
    assert narrow == []


def test_token_of_a_lost_customer_does_not_fit_the_account_that_has_the_id_now() -> None:
    lost = User.objects.create_user("ann")
    customer_id, token = lost.pk, tokens.issue(lost.pk, datetime.now(UTC))
    assert tokens._customer_of(token) == customer_id
    lost.delete()
    tokens.forget()
    with pytest.raises(tokens.Problem, match="does not exist"):
        tokens._customer_of(token)
    User.objects.create_user("bob", pk=customer_id)  # as a counter would have it
    tokens.forget()
    with pytest.raises(tokens.Problem, match="does not exist"):
        tokens._customer_of(token)


def test_new_customer_reads_nothing_of_those_who_were_lost_by_a_restore() -> None:
    stock_the_shop()
    lost = [Api.of(f"lost{number}") for number in range(3)]
    orders = [api.place(("BOOK", 1)) for api in lost]
    User.objects.filter(username__startswith="lost").delete()  # what restoring `default` to an earlier moment does
    new = [Api.of(f"new{number}") for number in range(20)]
    for api in new:
        assert api.get("/orders").json()["items"] == []
        assert {api.get(f"/orders/{number}").status_code for number in orders} == {404}
    tokens.forget()
    assert {api.get("/orders").status_code for api in lost} == {401}
    report = audit(settle=timedelta(0), only=["customers_have_accounts"])
    assert [result.violations for result in report.results] == [len(lost)]


def test_account_that_an_operator_has_deleted_is_not_missing(client: Client) -> None:
    stock_the_shop()
    api = Api.of("ann")
    api.place(("BOOK", 1))
    client.force_login(User.objects.create_superuser("olga"))
    assert client.post(f"/admin/auth/user/{api.customer.pk}/delete/", {"post": "yes"}).status_code == 302
    assert not User.objects.filter(pk=api.customer.pk).exists()
    report = audit(settle=timedelta(0), only=["customers_have_accounts"])
    assert [(result.checked, result.violations) for result in report.results] == [(1, 0)]
