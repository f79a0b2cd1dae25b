"""What pages may load and run: every answer says so, and no template breaks it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.conf import settings
from django.db import OperationalError, connections
from django.test import Client

from tests.factories import CustomerFactory, OperatorFactory

pytestmark = pytest.mark.django_db(databases="__all__")

HEADER = "Content-Security-Policy"
TEMPLATES = sorted(
    path
    for path in Path(settings.BASE_DIR).glob("*/templates/**/*.html")
    if path.name != "message.html"  # the frame of a mail, which is a document of its own
)


def policy(client: Client, path: str) -> dict[str, str]:
    parts = client.get(path).headers[HEADER].split("; ")
    return dict(part.split(" ", 1) for part in parts)


@pytest.mark.parametrize("path", ["/", "/sign-in/", "/no-such-page/", "/api/v1/docs", "/api/v1/orders", "/healthz"])
def test_nothing_but_the_shops_own_files_runs_in_a_page(client: Client, path: str) -> None:
    found = policy(client, path)

    assert found["default-src"] == found["script-src"] == found["style-src"] == "'self'"
    assert found["object-src"] == found["base-uri"] == found["frame-ancestors"] == "'none'"


@pytest.mark.parametrize("path", ["/admin/login/", "/admin/"])
def test_scripts_within_a_page_of_the_admin_do_not_run_either(client: Client, path: str) -> None:
    client.force_login(OperatorFactory.create())

    found = policy(client, path)

    assert found["script-src"] == "'self' 'unsafe-eval'"
    assert found["style-src"] == "'self' 'unsafe-inline'"
    assert found["default-src"] == "'self'"


def test_the_page_that_says_sorry_has_a_policy_too(client: Client) -> None:
    def away(*args: object) -> None:
        raise OperationalError("connection refused")

    client.force_login(CustomerFactory.create(username="ann"))
    with connections["default"].execute_wrapper(away):
        response = client.get("/")

    assert response.status_code == 503
    assert "script-src 'self';" in response.headers[HEADER]


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_templates_have_no_scripts_and_styles_of_their_own(template: Path) -> None:
    source = template.read_text()

    assert not re.search(r"<script(?![^>]*\bsrc=)", source)
    assert not re.search(r"<style\b|\sstyle=|\son[a-z]+=|javascript:|hx-on", source)
