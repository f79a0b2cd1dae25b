"""Databases that are not the ones that the settings mean are refused by whatever starts, with their names."""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import Callable
from io import StringIO
from uuid import uuid4

import psycopg
import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.test import Client
from pytest_django.fixtures import Settings

from config import startup
from config.celery import refuse_wrong_databases
from eventing.models import DatabaseMark
from lab.harness import ROOT
from lab.harness.instances import free_port
from sharding import installation as installations
from sharding.checks import check_installation
from sharding.models import Bucket
from tests.integration.installations import Installation, server

databases = pytest.mark.django_db(databases="__all__")
services = pytest.mark.services

LEADS_TO = "The file of {} is" if settings.EMBEDDED else "The URL of {} leads to"


@pytest.fixture
def open_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """What starts closes the connections that it has used, and the test's transaction with them."""
    monkeypatch.setattr(startup.connections, "close_all", lambda: None)


def swap(one: str, other: str) -> None:
    for alias, now in ((one, other), (other, one)):
        DatabaseMark.objects.using(alias).update(alias=now)


@databases
def test_databases_of_this_installation_are_right() -> None:
    assert installations.mistakes() == []
    assert check_installation(databases=list(settings.DATABASES)) == []


@databases
def test_swapped_databases_are_named() -> None:
    swap("orders_0", "orders_1")
    assert installations.mistakes() == [
        f"{LEADS_TO.format('orders_0')} the database of orders_1.",
        f"{LEADS_TO.format('orders_1')} the database of orders_0.",
    ]
    assert [message.id for message in check_installation(databases=["orders_0"])] == ["sharding.E006"]


@databases
def test_one_database_under_two_aliases_is_named_once() -> None:
    DatabaseMark.objects.using("orders_1").update(alias="orders_0")
    assert installations.mistakes() == [f"{LEADS_TO.format('orders_1')} the database of orders_0."]


@databases
@pytest.mark.parametrize("alias", ["default", "orders_1"])
def test_database_of_another_installation_is_named(alias: str) -> None:
    DatabaseMark.objects.using(alias).update(installation=uuid4())
    assert installations.mistakes() == [f"{LEADS_TO.format(alias)} the database {alias} of another installation."]
    with pytest.raises(installations.WrongDatabases, match=f"{alias} of another installation"):
        installations.refuse_to_migrate(settings.DATABASES)


@databases
def test_database_without_a_mark_is_to_be_prepared() -> None:
    DatabaseMark.objects.using("orders_1").delete()
    (mistake,) = installations.mistakes()
    assert mistake.startswith("The database of orders_1 (")
    assert "`manage.py migrate_all` is to be run" in mistake
    installations.refuse_to_migrate(settings.DATABASES)
    installations.mark("orders_1")
    assert installations.mistakes() == []


@databases
def test_map_that_names_more_databases_than_the_settings_is_named() -> None:
    Bucket.objects.filter(bucket__gte=120).update(alias="orders_77")
    (mistake,) = installations.mistakes()
    assert mistake.startswith("The shard map names orders_77, which the settings lack")
    with pytest.raises(installations.WrongDatabases, match="names orders_77"):
        installations.refuse_to_migrate(settings.DATABASES)


@databases
@pytest.mark.parametrize(
    "start",
    [
        pytest.param(startup.check, marks=services, id="web"),
        pytest.param(lambda: refuse_wrong_databases(sender=None), id="worker and beat"),
        pytest.param(lambda: call_command("relay"), marks=services, id="relay"),
        pytest.param(lambda: call_command("audit"), id="audit"),
        pytest.param(lambda: call_command("migrate_all", stdout=StringIO()), id="set-up"),
    ],
)
def test_whatever_starts_refuses_swapped_databases(
    start: Callable[[], object], open_connections: None, settings: Settings
) -> None:
    settings.DEBUG = True
    swap("orders_0", "orders_1")
    with pytest.raises((SystemExit, CommandError), match=f"{LEADS_TO.format('orders_0')} the database of orders_1"):
        start()


@pytest.mark.django_db(databases="__all__", transaction=True)
def test_readiness_names_a_database_that_was_taken_for_another(client: Client) -> None:
    swap("orders_0", "orders_1")
    try:
        body = client.get("/readyz").json()
    finally:
        for alias in ("orders_0", "orders_1"):
            DatabaseMark.objects.using(alias).update(alias=alias)
    assert body["status"] != "ok"
    assert "the database of orders_1" in body["dependencies"]["installation"]["detail"]


@pytest.mark.slow
@services
def test_roles_end_with_one_line_when_urls_are_swapped_or_missing(installation: Installation) -> None:
    assert installation.manage("migrate_all").returncode == 0
    url = installation.environment["DATABASE_URL"]
    swapped = {"ORDER_SHARD_URLS": f"{url}_orders_1,{url}_orders_0"}
    programs = {
        **{role: [sys.executable, "manage.py", "run", role] for role in ("web", "relay", "worker", "beat")},
        "set-up": [sys.executable, "manage.py", "migrate_all"],
    }
    running = {
        name: subprocess.Popen(
            program, cwd=ROOT, env={**installation.environment, **swapped}, stderr=subprocess.PIPE, text=True
        )
        for name, program in programs.items()
    }
    for name, process in running.items():
        _, said = process.communicate(timeout=120)
        assert process.returncode != 0, name
        assert "The URL of orders_0 leads to the database of orders_1." in said, (name, said)
        assert "Traceback" not in said, (name, said)

    too_few = Installation(
        environment={**installation.environment, "ORDER_SHARDS": "1"}, names={}, directory=installation.directory
    )
    for command in ("migrate_all", "audit"):
        done = too_few.manage(command)
        assert done.returncode == 1
        assert "The shard map names orders_1, which the settings lack" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.slow
@services
def test_web_server_ends_with_one_line_when_a_login_of_the_demo_works(installation: Installation) -> None:
    assert installation.manage("migrate_all").returncode == 0
    make = "from django.contrib.auth.models import User\nUser.objects.create_user('admin', password='admin')"
    assert installation.manage("shell", "--command", make).returncode == 0
    done = subprocess.run(
        [sys.executable, "manage.py", "run", "web", f"--port={free_port()}"],
        cwd=ROOT,
        env={**installation.environment, "DEBUG": "0", "SECRET_KEY": secrets.token_urlsafe(50)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert "The login admin/admin of the demo works here, and DEBUG is off." in said
    assert "Traceback" not in said, said


@pytest.mark.slow
def test_databases_of_a_version_without_marks_get_theirs_unless_they_are_swapped(installation: Installation) -> None:
    assert installation.manage("migrate_all").returncode == 0
    for alias in ("default", "orders_0", "orders_1"):
        back = installation.manage("migrate", "eventing", "0007", "--database", alias, "--skip-checks")
        assert back.returncode == 0, back.stderr
    if installation.names:
        url = installation.environment["DATABASE_URL"]
        environment = {**installation.environment, "ORDER_SHARD_URLS": f"{url}_orders_1,{url}_orders_0"}
        other = Installation(environment=environment, names=installation.names, directory=installation.directory)
        refused = other.manage("migrate_all")
        assert refused.returncode == 1
        assert "The URL of orders_0 leads to the database of orders_1." in refused.stderr
    done = installation.manage("migrate_all")
    assert done.returncode == 0, done.stderr
    checked = installation.manage("check", "--database", "default", "--database", "orders_0", "--database", "orders_1")
    assert checked.returncode == 0, checked.stderr


@services
def test_database_that_does_not_exist_is_named(installation: Installation) -> None:
    assert installation.manage("migrate_all").returncode == 0
    with psycopg.connect(**server(), dbname="postgres", autocommit=True) as session:
        session.execute(f'DROP DATABASE "{installation.names["orders_1"]}" WITH (FORCE)')  # type: ignore[arg-type]
    audited = installation.manage("audit")
    assert audited.returncode == 1
    assert (
        f"The database of orders_1 ({installation.names['orders_1']}) does not exist on its server." in audited.stderr
    )
