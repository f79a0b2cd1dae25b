"""A delivered order earns points once; run by tests/flows/test_new_context.py where `loyalty` is installed."""

from __future__ import annotations

from datetime import timedelta
from random import Random
from typing import Any

import pytest
from celery import current_app
from django.apps import apps
from django.contrib.auth.models import User
from django.test import Client
from django_celery_beat.models import PeriodicTask

from eventing import periodic, schedules, topology
from eventing.testing import deliver_shuffled
from monitoring.audit import CHECKS, audit
from orders import selectors
from orders.commands import DeliverOrder, ShipOrder
from sharding import numbers
from tests.flows.conftest import Shop
from timeline import picture
from timeline.timeline import timeline_of

# Programs outside are told nothing here.
PROMISES = {check.name for check in CHECKS} - {"events_published", "events_reach_subscribers"}

pytestmark = pytest.mark.django_db(databases="__all__", transaction=True)


@pytest.fixture
def points(shop: Shop) -> Any:
    """The only row of points, of the only order, which is delivered; every event has arrived twice."""
    shop.stock("LAMP", 5)
    order_id = shop.place(("LAMP", 1))
    shop.deliver()
    shop.pay(order_id)
    shop.deliver()
    shop.command(ShipOrder(order_id=order_id, tracking="T-1", at=shop.now))
    shop.command(DeliverOrder(order_id=order_id, at=shop.now))
    deliver_shuffled(Random(1), times=2)
    row = apps.get_model("loyalty", "Points").objects.get()
    assert row.order_id == order_id
    return row


def test_delivered_order_earns_points_once(points: Any) -> None:
    assert points.points == 10


def test_wrong_points_are_named_by_the_audit(points: Any) -> None:
    type(points).objects.update(points=99)
    results = audit(settle=timedelta(0), only=PROMISES).results
    found = {one.check.name: one.offenders for one in results if one.violations}
    assert found == {"points_match_events": (f"points of order {numbers.to_text(points.order_id)}",)}
    points.save()


def test_events_of_points_are_known_to_the_audit(points: Any) -> None:
    """They are in no other database than that of loyalty, and the last of their stream."""
    results = {one.check.name: one for one in audit(settle=timedelta(0), only=PROMISES).results}
    assert results["points_match_events"].checked == 1
    assert results["rows_in_their_database"].violations == results["nothing_after_the_end"].violations == 0


def test_loyalty_has_a_lane_in_the_timeline(points: Any) -> None:
    timeline = timeline_of(points.order_id)
    assert "loyalty.points_earned" in [entry.type for entry in timeline.entries]
    order = selectors.get(points.order_id)
    assert order is not None
    drawn = picture.draw(timeline, order, operator=True, link=lambda moment: "#", invitation="")
    assert "Loyalty" in drawn
    assert "points_earned" in drawn


def test_loyalty_has_a_queue() -> None:
    assert topology.qualified("loyalty") in topology.queue_names()
    assert topology.qualified("loyalty") in current_app.amqp.queues  # so a worker can consume from it


def test_loyalty_has_a_schedule(db: None) -> None:
    assert periodic.by_title()["Expire loyalty points"].task == "loyalty.tasks.expire_points"
    schedules.install()
    assert PeriodicTask.objects.filter(name="Expire loyalty points", enabled=True).exists()


def test_loyalty_has_a_page_in_the_navigation(points: Any, client: Client) -> None:
    client.force_login(User.objects.create_superuser("operator"))
    page = "/admin/loyalty/points/"
    assert {"title": "Loyalty points", "link": page}.items() <= {
        key: value
        for group in client.get("/admin/").context["sidebar_navigation"]
        for item in group["items"]
        if item["link"] == page
        for key, value in item.items()
    }.items()
    assert numbers.to_text(points.order_id) in client.get(page).content.decode()
