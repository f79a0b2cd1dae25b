"""No page of the shop, the API or the back office costs more than thirty statements, over all databases together."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.core.cache import cache
from django.core.management import call_command
from django.test import Client
from django.urls import NoReverseMatch, URLPattern, URLResolver, get_resolver, reverse

from api import tokens
from backoffice.monitoring import dashboard
from eventing.models import RedriveRun
from inventory.models import Product
from monitoring import audit_runs, health
from monitoring.models import AuditRun
from orders.models import Order
from sharding import numbers, shards
from sharding.models import BucketMove
from tests.integration.statements import statements
from tests.integration.test_admin import park

# The dashboard asks in threads, which see only what is committed.
pytestmark = [pytest.mark.once, pytest.mark.django_db(databases="__all__", transaction=True)]

MOST = 30
REPEATED = 4  # a statement sent so often to one database is sent for each row

NOT_READ = {
    # Only for POST.
    "storefront:add", "storefront:remove", "storefront:pay", "storefront:cancel", "storefront:again",
    "storefront:logout", "storefront:quote", "admin:orders_order_act", "admin:logout", "admin:eventing_deadletter_move",
    # The admin's own; no page here leads to them.
    "admin:view_on_site", "admin:autocomplete", "admin:jsi18n", "api:api-root",
}  # fmt: skip


@pytest.fixture
def shop(settings: Any) -> Iterator[Order]:
    """A seeded shop with a dead letter; an order of `demo` that has come far."""
    settings.DEBUG = True
    call_command("seed", "--orders=60", verbosity=0)
    settings.DEBUG = False
    demo = User.objects.get(username="demo")
    alias = shards.alias_of_bucket(numbers.bucket_of_customer(demo.pk))
    order = Order.objects.using(alias).filter(customer_id=demo.pk).order_by("-version", "-id").first()
    assert order is not None
    park(order.id)
    RedriveRun.objects.create(
        selection={"status": "open"}, rate=1, total=1, started_at=order.placed_at, worked_at=order.placed_at
    )
    BucketMove.objects.create(bucket=0, source="orders_0", target="orders_1")
    audit_runs.perform(None)
    yield order
    cache.clear()


def names(patterns: list[Any], namespace: str | None = None) -> Iterator[str]:
    """The names of all addresses of the site."""
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            yield from names(pattern.url_patterns, pattern.namespace or namespace)
        elif isinstance(pattern, URLPattern) and pattern.name:
            yield f"{namespace}:{pattern.name}" if namespace else pattern.name


def arguments(name: str, order: Order) -> dict[str, Any]:
    """What can stand in the address: a row of its model, or something of the order."""
    number = numbers.to_text(order.id)
    given = {
        "number": number,
        "sku": Product.objects.filter(active=True).values_list("sku", flat=True)[0],
        "name": f"order-{number}@1",
        "app_label": "inventory",
        "run_id": AuditRun.objects.values_list("pk", flat=True).last(),
    }
    for model in admin.site._registry:
        if name.startswith(f"admin:{model._meta.app_label}_{model._meta.model_name}_"):
            row = None if model is Order else model._default_manager.first()
            given |= dict.fromkeys(("object_id", "id", "pk"), number if row is None else row.pk)
    if name in ("admin:eventing_deadletter_run", "admin:eventing_deadletter_progress"):
        given["pk"] = RedriveRun.objects.get().pk
    return given


def address(name: str, order: Order) -> str:
    given = arguments(name, order)
    for kwargs in ({}, *({key: value} for key, value in given.items())):
        try:
            return reverse(name, kwargs=kwargs)
        except NoReverseMatch:
            continue
    raise AssertionError(f"{name} has arguments that this test does not know")


def test_no_page_takes_more_than_thirty_statements(shop: Order, monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    monkeypatch.setattr(dashboard, "ANSWER_SECONDS", 60.0)
    settings.PROBE_CACHE_SECONDS = 600
    health.readiness()  # which is asked for once a second, however many look at the dashboard
    operator, shopper, caller = Client(), Client(), Client()
    operator.force_login(User.objects.get(username="admin"))
    shopper.force_login(User.objects.get(username="demo"))
    token = {"Authorization": f"Bearer {tokens.issue(shop.customer_id, datetime.now(UTC))}"}
    taken: dict[str, int] = {}
    wrong: list[str] = []
    for name in dict.fromkeys(names(get_resolver().url_patterns)):
        if name in NOT_READ:
            continue
        path = address(name, shop)
        cache.clear()
        with statements() as noted:
            if path.startswith("/api/"):
                response = caller.get(path, headers=token)
            else:
                response = (operator if path.startswith("/admin/") else shopper).get(path)
        taken[name] = noted.with_all_shards()
        refused = {"_add": 403, "_delete": 403, "token": 405, "pay_order": 405, "cancel_order": 405}
        if response.status_code not in (200, 302, *(code for end, code in refused.items() if name.endswith(end))):
            wrong.append(f"{path}: {response.status_code}")
        if taken[name] > MOST:
            wrong.append(f"{path}: {taken[name]} statements")
        wrong += [f"{path}: {statement}" for statement in noted.repeated(REPEATED)]

    assert not wrong, "\n".join(wrong)
    assert taken["dashboard"] > 8  # its threads are counted
    assert len(taken) > 80
    assert taken["admin:payments_payment_changelist"] > 2
