"""The audit of a shop whose databases do not all answer."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError, connections

from eventing.testing import drain
from monitoring.audit import audit
from monitoring.selectors import Answer
from tests.flows.conftest import Shop
from tests.integration.test_admin import down
from tests.integration.test_audit import World, broken

pytestmark = pytest.mark.django_db(databases="__all__")


@pytest.fixture
def world(db: None) -> World:
    """Not to be shared: its connections are lost."""
    return World(Shop(customer=User.objects.create_user("ann", "ann@example.org"), deliver=drain))


def answers_but(away: str) -> Callable[..., Any]:
    """Stands in for the threads that ask, which have connections of their own."""
    return lambda questions, seconds: {
        alias: Answer(error="away") if alias == away else Answer(value=True) for alias in questions
    }


@pytest.mark.parametrize("alias", ["orders_1", "default"])
def test_a_database_that_does_not_answer_is_named_and_nothing_is_claimed_of_it(
    world: World, alias: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitoring.selectors.ask_all", answers_but(alias))
    with down(alias):
        report = audit(settle=timedelta(0))

    assert report.unavailable == (alias,)
    assert not report.clean
    assert broken(report) == {}
    not_done = {result.check.name for result in report.results if alias in result.unavailable}
    assert {"read_model_matches_events", "keys_have_one_order", "events_published"} <= not_done
    assert ("stock_adds_up" in not_done) == (alias == "default")


def test_a_database_that_goes_away_in_the_middle_is_named(world: World) -> None:
    asked = []

    def refuse_later(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        asked.append(sql)
        if "orders_order" in sql or len(asked) > 5:
            raise refusal
        return execute(sql, params, many, context)

    refusal = OperationalError("server closed the connection unexpectedly")
    with connections["orders_1"].execute_wrapper(refuse_later):
        report = audit(settle=timedelta(0))

    assert report.unavailable == ("orders_1",)
    assert broken(report) == {}
