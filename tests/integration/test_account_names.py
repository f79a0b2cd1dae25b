"""Names that differ only by capitals or by how a letter is written are one name, at every door and in the database."""

from __future__ import annotations

import importlib
from types import SimpleNamespace
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.core.cache import cache
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, transaction
from django.test import Client
from django.utils import timezone

from accounts import registration as accounts
from tests.integration.browser_forms import shown
from tests.integration.parallel import at_once
from tests.integration.shop_api import PASSWORD
from values.names import account_name

pytestmark = pytest.mark.django_db(databases="__all__")

WAYS = ["Zoe", "zoe", "ZOE", "ｚｏｅ", "ＺＯＥ"]


@pytest.fixture(autouse=True)
def no_throttle() -> None:
    cache.clear()


def register(name: str, number: int = 0) -> Any:
    form = {"username": name, "email": f"zoe{number}@example.org", "password1": PASSWORD, "password2": PASSWORD}
    return Client().post("/register/", form)


@pytest.mark.parametrize(
    "registered, typed", [("ｚｏｅ", "zoe"), ("Straße", "STRASSE"), ("Zoe\u0308", "zoë"), ("ΟΔΟΣ", "οδος")]
)
def test_whoever_registers_signs_in_by_every_door_however_the_name_is_written(registered: str, typed: str) -> None:
    assert register(registered).status_code == 302
    User.objects.update(is_staff=True)
    for name in (registered, typed):
        form = {"username": name, "password": PASSWORD}
        assert Client().post("/sign-in/", form).status_code == 302, name
        assert Client().post("/admin/login/?next=/admin/", form).status_code == 302, name
        answer = Client().post("/api/v1/token", form, content_type="application/json")
        assert answer.status_code == 200, name


@pytest.mark.parametrize("name", WAYS)
def test_a_name_that_is_taken_is_taken_in_every_way_of_writing_it(name: str, admin_client: Client) -> None:
    register("Zoe")
    answer = register(name, 1)
    assert answer.context["form"].errors == {"username": ["This user name is taken."]}
    form = {"username": name, "password1": PASSWORD, "password2": PASSWORD, "usable_password": "true"}
    assert "already exists" in str(admin_client.post("/admin/auth/user/add/", form).context["errors"])
    other = User.objects.create_user("other")
    page = f"/admin/auth/user/{other.pk}/change/"
    changed = admin_client.post(page, shown(admin_client.get(page)) | {"username": name})
    assert "already exists" in str(changed.context["errors"])
    with pytest.raises((CommandError, IntegrityError)), transaction.atomic():
        call_command("createsuperuser", username=name, email="x@example.org", interactive=False)
    with pytest.raises(IntegrityError), transaction.atomic():
        User.objects.create_user(name)
    names = User.objects.exclude(username="admin").order_by("username").values_list("username", flat=True)
    assert list(names) == ["other", "zoe"]


def test_what_writes_past_the_model_is_refused_other_capitals() -> None:
    User.objects.create_user("zoe")
    with pytest.raises(IntegrityError), transaction.atomic():
        User.objects.bulk_create([User(username="ZOE")])
    other = User.objects.create_user("other")
    with pytest.raises(IntegrityError), transaction.atomic():
        User.objects.filter(pk=other.pk).update(username="Zoe")


@pytest.mark.django_db(databases="__all__", transaction=True)
def test_of_many_registrations_at_once_one_gets_the_name_and_the_others_are_told() -> None:
    failed = at_once(
        [
            lambda name=WAYS[number % 5], number=number: accounts.register(name, f"zoe{number}@example.org", PASSWORD)
            for number in range(20)
        ],
        using="default",
    )
    assert [type(error) for error in failed] == [accounts.UsernameTaken] * 19
    assert [user.username for user in User.objects.all()] == ["zoe"]


def test_an_account_name_is_its_own_form() -> None:
    for name in (*WAYS, "Straße", "ΟΔΟΣ", "ŉ", "ﬃ", "İ", "ǰ"):
        assert account_name(account_name(name)) == account_name(name)


def test_names_of_an_older_version_that_become_one_are_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    migration = importlib.import_module("storefront.migrations.0006_account_names")
    with connection.cursor() as cursor:
        cursor.execute("DROP INDEX user_has_one_name")
    names = ("Ann", "ANN", "bob", "Bob", "Ｃy", "dan")
    made = User.objects.bulk_create([User(pk=100 + number, username=name) for number, name in enumerate(names)])
    User.objects.filter(pk=made[1].pk).update(last_login=timezone.now())
    migration.store_in_one_form(apps, SimpleNamespace(connection=connection))
    assert [User.objects.get(pk=user.pk).username for user in made] == [
        f"ann.{made[0].pk}",
        "ann",
        "bob",
        f"bob.{made[3].pk}",
        "cy",
        "dan",
    ]
    assert f"The account {made[0].pk} was called 'Ann'" in capsys.readouterr().out
