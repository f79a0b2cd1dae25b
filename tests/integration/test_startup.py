"""The web server does not start with logins that everybody knows."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from pytest_django.fixtures import Settings

from config import startup

pytestmark = [pytest.mark.django_db(databases="__all__"), pytest.mark.services]


@pytest.fixture(autouse=True)
def open_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check closes the connections that it has used, and the test's transaction with them."""
    monkeypatch.setattr(startup.connections, "close_all", lambda: None)


@pytest.mark.parametrize("name", startup.DEMO_LOGINS)
def test_demo_login_is_refused_where_debug_is_off(settings: Settings, name: str) -> None:
    settings.DEBUG = False
    user = User.objects.create_user(name, password=name)
    with pytest.raises(SystemExit, match=f"^The login {name}/{name} "):
        startup.check()

    user.set_password("something else")
    user.save()
    startup.check()


def test_demo_login_is_fine_in_development(settings: Settings) -> None:
    settings.DEBUG = True
    User.objects.create_user("admin", password="admin")
    startup.check()


def test_too_many_connections_are_said_at_start(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    startup.check()
    assert "connections.too_many" not in caplog.text

    settings.CONNECTION_BUDGET = {"web": (1000, 2, True)}
    startup.check()
    assert "connections.too_many" in caplog.text
