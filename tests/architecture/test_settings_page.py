"""What is written about settings is what config/environment.py declares."""

from __future__ import annotations

import re
import secrets
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from config.environment import COMPOSE, FOR_TESTS, SETTINGS, page
from config.secret_key import weakness
from lab.harness import read_dotenv

ROOT = Path(__file__).resolve().parent.parent.parent
DECLARED = {setting.name: setting for setting in (*SETTINGS, *COMPOSE, *FOR_TESTS)}
# Read by the programs of the embedded profile and by docker compose itself.
NOT_OF_CONTAINERS = {"DEMO_DIR", "PORT"}

pytestmark = pytest.mark.once


def test_page_of_settings_is_made_from_the_declarations() -> None:
    assert (ROOT / "docs" / "reference" / "settings.md").read_text().splitlines() == list(page())


def test_every_declared_setting_is_read_and_every_setting_that_is_read_is_declared() -> None:
    source = (ROOT / "config" / "settings.py").read_text()
    read = set(re.findall(r'env\.(?:text|texts|networks|integer|number|boolean)\("(\w+)"', source)) | {"PROFILE"}
    assert "env.own_database(" in source
    contexts = {name for name in DECLARED if name.endswith("_DATABASE_URL")}
    assert read | contexts == {setting.name for setting in (*SETTINGS, *FOR_TESTS)}


def test_example_environment_names_declared_settings_with_values_that_they_may_have() -> None:
    named = re.findall(r"(?:^|[# ])([A-Z][A-Z_]+)=(\S*)", (ROOT / ".env.example").read_text(), re.MULTILINE)
    assert len(named) > 15
    for name, value in named:
        DECLARED[name].form.read(value.rstrip(","))


def test_containers_get_every_setting_of_the_services_profile() -> None:
    handed_on = set(yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["web"]["environment"])
    assert {setting.name for setting in SETTINGS} - NOT_OF_CONTAINERS <= handed_on


def test_no_key_that_stands_in_the_repository_is_one_to_sign_with() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    text = "\n".join((ROOT / name).read_text(errors="replace") for name in tracked if not name.endswith(".png"))
    values = set(re.findall(r"SECRET_KEY[\"']?\s*[=:,]\s*[\"']?([^\s\"'$(){},]+)", text))
    assert read_dotenv(ROOT / ".env.example")["SECRET_KEY"] in values
    assert [value for value in values if not weakness(value)] == []


@pytest.mark.parametrize(
    "make", [lambda: secrets.token_urlsafe(50), lambda: secrets.token_hex(32), lambda: secrets.token_hex(25)]
)
def test_random_keys_are_good(make: Callable[[], str]) -> None:
    assert {weakness(make()) for _ in range(200)} == {""}


@pytest.mark.parametrize(
    "key",
    [
        "",
        "a",
        "Zk3vQ8xT1mB6yR0pW5nC2sL9hF4",  # good, but short
        "a" * 60,
        "abcdefghij" * 6,
        "wharf" * 12,
        "only-for-tests-" + "0" * 40,
        "Django-Insecure-Zk3vQ8xT1mB6yR0pW5nC2sL9hF4dJ7gK2aE8uX1iO6tY3",
    ],
)
def test_weak_keys_are_not(key: str) -> None:
    assert weakness(key)
