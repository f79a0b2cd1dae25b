"""A setting that cannot be is refused with one line that names it, its value and what it may be."""

from __future__ import annotations

import pytest

from config.environment import SETTINGS, Environment

pytestmark = pytest.mark.once

SERVICES = {"DATABASE_URL": "postgres://wharf:secret@db:5432/wharf"}


@pytest.mark.parametrize(
    ("name", "value", "may_be"),
    [
        *(
            ("ORDER_PAYMENT_TIMEOUT", value, "a whole number from 1 to 2592000")
            for value in ("0", "-5", "1000000000000", "9" * 5000, "abc", "", " ", "1.5", "1_0", "٣", "nan", "60\n")
        ),
        ("DATABASE_POOL_SIZE", "0", "a whole number from 1 to 1000"),
        *(("ORDER_SHARDS", value, "a whole number from 1 to 64") for value in ("0", "65", "129", "-1", "8.0")),
        *(("PORT", value, "a whole number from 1 to 65535") for value in ("0", "99999", "-1", "http", "")),
        ("EVENTING_MAX_ATTEMPTS", "0", "a whole number from 1 to 1000"),
        ("EVENTING_INBOX_RETENTION_DAYS", "0", "a whole number from 1 to 3650"),
        ("TASK_SOFT_TIME_LIMIT", "-1", "a whole number from 1 to 1500"),
        ("WEB_WORKERS", "0", "a whole number from 1 to 256"),
        *(
            ("EVENTING_MAX_LAG_SECONDS", value, "a number from 0 to 86400")
            for value in ("nan", "inf", "-inf", "-1", "1e9")
        ),
        *(("DATABASE_READ_SECONDS", value, "a number from 0.05 to 60") for value in ("0", "nan", "1e400", "")),
        ("EVENTING_POLL_SECONDS", "0", "a number from 0.001 to 10"),
        *(("DEBUG", value, "1, true, yes, on or 0, false, no, off") for value in ("maybe", "", "2", "None")),
        ("LOG_LEVEL", "LOUD", "DEBUG, INFO, WARNING, ERROR or CRITICAL"),
        ("PROFILE", "servces", "embedded or services"),
        ("ALLOWED_HOSTS", "", "names of hosts"),
        ("ALLOWED_HOSTS", "https://shop.example.com", "names of hosts"),
        ("ALLOWED_HOSTS", "a.example.com,", "names of hosts"),
        ("CSRF_TRUSTED_ORIGINS", "shop.example.com", "origins such as https://shop.example.com"),
        ("DEFAULT_FROM_EMAIL", "Shop <a@b>\nBcc: c@d", "an address such as"),
        ("DEFAULT_FROM_EMAIL", "nobody", "an address such as"),
        ("EMAIL_URL", "mail.example.com:25", "smtp://USER"),
        ("EMAIL_URL", "smtp://mail.example.com:99999", "smtp://USER"),
        ("DATABASE_URL", "", "postgres://USER"),
        ("DATABASE_URL", "mysql://db/wharf", "postgres://USER"),
        ("DATABASE_URL", "postgres://db", "postgres://USER"),
        ("DATABASE_URL", "postgres://db:port/wharf", "postgres://USER"),
        ("DATABASE_URL", "postgres://db:70000/wharf", "postgres://USER"),
        ("DATABASE_URL", "postgres://db:0/wharf", "postgres://USER"),
        ("DATABASE_URL", "postgres://[db/wharf", "postgres://USER"),
        (
            "DATABASE_URL",
            f"postgres://db/{'w' * 64}",
            "postgres://USER:PASSWORD@HOST:PORT/DATABASE with a name of at most 63 characters",
        ),
        ("ORDER_SHARD_URLS", "postgres://db/a,", "comma-separated"),
        ("INVENTORY_DATABASE_URL", "inventory", "postgres://USER"),
        ("CELERY_BROKER_URL", "redis://localhost/0", "amqp://USER"),
        ("CELERY_BROKER_URL", "amqp://", "amqp://USER"),
        ("REDIS_URL", "localhost:6379", "redis://HOST"),
        ("EVENTING_NAMESPACE", "a b", "up to 60 letters"),
        ("EVENTING_SOURCE", "", "a URI"),
        ("DEMO_DIR", "", "the path of a folder"),
    ],
)
def test_value_that_cannot_be_is_refused_in_one_line(name: str, value: str, may_be: str) -> None:
    with pytest.raises(SystemExit) as refused:
        Environment({**SERVICES, name: value})
    line = str(refused.value)
    assert line.startswith(f"{name} is ")
    assert f"; it can be {may_be}" in line
    assert line.isprintable()
    assert len(line) < 500


@pytest.mark.parametrize(
    "url", ["postgres://wharf:geheim@db:x/wharf", "postgres://wharf:ge,heim#1@db/wharf", "postgres://geheim", "geheim"]
)
def test_passwords_are_not_shown(url: str) -> None:
    for name in ("DATABASE_URL", "ORDER_SHARD_URLS"):
        with pytest.raises(SystemExit) as refused:
            Environment({**SERVICES, name: url})
        assert "heim" not in str(refused.value)


def test_embedded_profile_does_not_look_at_settings_of_services() -> None:
    values = Environment({"PROFILE": "embedded", "DATABASE_URL": "mysql://of-something-else", "WEB_WORKERS": "many"})
    assert values.profile == "embedded"


def test_defaults_depend_on_the_profile() -> None:
    assert Environment({}).integer("ORDER_PAYMENT_TIMEOUT") == 120
    assert Environment(SERVICES).integer("ORDER_PAYMENT_TIMEOUT") == 1800


def test_every_default_is_a_value_that_the_setting_may_have() -> None:
    for setting in SETTINGS:
        for value in (setting.default, setting.embedded):
            if value is not None:
                setting.form.read(value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "postgresql://wharf:p%40ss@[::1]:5433/wharf?sslmode=require"),
        ("DATABASE_URL", "postgres:///wharf"),
        ("CELERY_BROKER_URL", "amqp://a@one:5672//;amqp://a@two:5672//"),
        ("REDIS_URL", ""),
        ("REDIS_URL", "unix:///run/redis.sock"),
        ("EMAIL_URL", "smtp+tls://user:pass@mail.example.com:587"),
        ("EMAIL_URL", "consolemail://"),
        ("ALLOWED_HOSTS", "*"),
        ("ALLOWED_HOSTS", ".example.com,web-1,[::1],10.0.0.1"),
        ("CSRF_TRUSTED_ORIGINS", "https://*.example.com,http://localhost:8000"),
        ("DEBUG", "TRUE"),
        ("DATABASE_READ_SECONDS", "0.5"),
    ],
)
def test_value_that_may_be_is_taken(name: str, value: str) -> None:
    Environment({**SERVICES, name: value})
