"""The audit in portions: it looks at everything, a little at a time, and what it finds is measured and shown."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.db import OperationalError

from backoffice.monitoring import dashboard
from eventing.models import Event, OutboxMessage
from eventing.testing import drain
from inventory.models import Stock
from monitoring import audit_rounds, tasks
from monitoring.audit import audit, cases, portions, running
from monitoring.metrics import registry
from monitoring.models import AuditRound, AuditRun
from orders.commands import CancelOrder
from orders.events import CATEGORY as ORDER
from orders.events import CancelReason
from sharding import shards
from tests.flows.conftest import Shop
from tests.integration.test_admin import client_of, text
from tests.integration.test_audit import OTHERS, World, order_name, pretend_handled

pytestmark = [pytest.mark.django_db(databases="__all__"), pytest.mark.usefixtures("nothing_delayed")]

LATER = timedelta(seconds=70)  # by when everything has settled


@pytest.fixture
def world(db: None, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(cases, "NEIGHBOURS", 64)  # there is next to nothing to read
    return World(Shop(customer=User.objects.create_user("ann", "ann@example.org"), deliver=drain))


def whole_round() -> int:
    """Portions until a round is complete; returns how many it took."""
    for number in range(1, 1_000):
        if portion():
            return number
    raise AssertionError("a round never ends")


def portion() -> bool:
    before = AuditRound.objects.filter(finished_at__isnull=False).values_list("pk", flat=True).first()
    audit_rounds.go_on(datetime.now(UTC) + LATER)
    return AuditRound.objects.filter(finished_at__isnull=False).values_list("pk", flat=True).first() != before


def rewrite(world: World) -> Event:
    """Somebody changes who a stored event says it was."""
    events = Event.objects.using(shards.alias_of(world.paid))
    event = events.get(stream_id=world.paid, category=ORDER, version=2)
    events.filter(pk=event.pk).update(metadata={**event.metadata, "actor": "nobody"})
    return event


def measured() -> dict[str, float]:
    """The audit's metrics."""
    return {
        f"{sample.name}{list(sample.labels.values())}": sample.value
        for metric in registry().collect()
        for sample in metric.samples
        if sample.name.startswith("wharf_audit")
    }


def test_portions_go_on_where_the_last_has_ended_until_they_have_seen_everything(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(portions, "CASES", 2)

    def go_on(seconds: float) -> tuple[int, portions.Round]:
        state = portions.Round()
        for number in range(1, 1_000):
            if portions.go_on(state, datetime.now(UTC) + LATER, seconds=seconds):
                return number, state
        raise AssertionError("a round never ends")

    most, slowly = go_on(0)  # each of them does one thing
    few, quickly = go_on(600)

    assert few == 1
    assert most > len(running.CHECKS)
    assert slowly.cases == quickly.cases > 7
    assert slowly.found == quickly.found == {}
    assert slowly.skipped == []


def test_what_a_portion_finds_is_a_metric_until_it_is_repaired(world: World) -> None:
    assert measured() == {}
    whole_round()
    clean = measured()
    assert clean.pop("wharf_audit_last_run_timestamp_seconds['round']") > 0
    assert clean.pop("wharf_audit_last_run_timestamp_seconds['portion']") > 0
    assert clean == {f"wharf_audit_violations['{check.name}']": 0 for check in running.CHECKS}

    event = rewrite(world)
    whole_round()

    assert {name for name, value in measured().items() if value == 1} == {"wharf_audit_violations['events_as_written']"}
    assert audit_rounds.known().offenders == {"events_as_written": [event.event_id]}

    Event.objects.using(shards.alias_of(world.paid)).filter(pk=event.pk).update(metadata=event.metadata)
    whole_round()

    assert measured()["wharf_audit_violations['events_as_written']"] == 0


def test_the_dashboard_and_the_page_of_audits_show_what_is_known(world: World) -> None:
    event = rewrite(world)
    whole_round()
    office = client_of(User.objects.create_superuser("olga", "olga@example.org"))
    cache.delete(dashboard.CACHE_KEY)

    # The dashboard asks in threads, which do not see what a test has not committed.
    shown = dashboard._ask_database("default", datetime.now(UTC), datetime.now(UTC))

    assert shown.audits is not None
    assert shown.audits.broken == {"events_as_written": 1}
    assert "Known by now: 1 violation audited in portions all day" in text(office.get("/admin/monitoring/audit/"))
    assert event.event_id in text(office.get("/admin/monitoring/audit/"))


def test_an_audit_of_everything_that_is_newer_has_the_say(world: World) -> None:
    event = rewrite(world)
    whole_round()
    Event.objects.using(shards.alias_of(world.paid)).filter(pk=event.pk).update(metadata=event.metadata)

    report = audit(settle=timedelta(0))
    at = datetime.now(UTC) + 2 * LATER
    AuditRun.objects.create(started_at=at, finished_at=at, settle_seconds=0, was_clean=True, report=report.as_dict())

    assert audit_rounds.known().broken == {}
    assert audit_rounds.known().at["whole"] == at


@pytest.mark.parametrize("arrives", [True, False])
def test_who_seems_wrong_is_looked_at_again_by_the_next_portion(world: World, arrives: bool) -> None:
    cancelled = world.confirmed
    world.shop.command(CancelOrder(order_id=cancelled, reason=CancelReason.CUSTOMER, at=world.shop.now))
    alias, delivery = shards.alias_of(cancelled), f"inventory: {order_name(cancelled)}@4"
    [waiting] = OutboxMessage.objects.using(alias).all()
    waiting.delete(using=alias)  # as if it had been published just now
    whole_round()
    assert audit_rounds.known().broken == {}
    assert delivery in AuditRound.objects.get(finished_at=None).state["suspects"]["events_reach_subscribers"]

    if arrives:
        waiting.save(using=alias)
        drain()
        pretend_handled(OTHERS)
    portion()

    assert audit_rounds.known().broken == ({} if arrives else {"events_reach_subscribers": 5})


def test_a_check_that_takes_too_long_is_left_to_the_audit_of_everything(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(alias: str, moment: Any) -> Any:
        raise OperationalError("canceling statement due to user request")

    stock = next(check for check in running.CHECKS if check.name == "stock_matches_ledger")
    changed = [replace(check, of_database=slow) if check is stock else check for check in running.CHECKS]
    monkeypatch.setattr(portions, "CHECKS", changed)
    Stock.objects.filter(product="PEN").update(on_hand=1_000, available=1_000, reserved=0)

    whole_round()

    known = audit_rounds.known()
    assert "stock_matches_ledger" not in known.violations
    assert known.violations["stock_matches_reservations"] == 1


def test_the_clock_goes_on_with_it(world: World) -> None:
    looked_at = tasks.audit_portion()

    assert looked_at == sum(row.state["cases"] for row in AuditRound.objects.all()) > 7
