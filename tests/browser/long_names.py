"""A shop in which everything that somebody may name has a name without a space, and the addresses of all its pages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

from django.apps import apps
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from django.db import models
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone

from checkout import service as checkout
from coupons import handlers as coupons
from coupons.domain import Kind
from eventing import deadletters
from eventing.recorded import Metadata
from eventing.wire import Envelope
from inventory import handlers as inventory
from orders import handlers as orders
from orders import selectors
from orders.commands import ShipOrder
from orders.domain import Status
from orders.events import Address
from sharding import numbers
from tests.waiting import wait_until

NAME = "Unbroken" * 25
SKU = "UNBROKEN" * 5
PARAMETER = re.compile(r"<(?:\w+:)?(\w+)>")


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    number: str
    event: str


def sign_in(username: str) -> str:
    """The key of a session of this user."""
    user = User.objects.get(username=username)
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.create()
    return str(session.session_key)


def plant() -> dict[str, Any]:
    """Write it, and return the key of a superuser's session and the number of an order that was shipped."""
    now, metadata = timezone.now(), Metadata(correlation_id=uuid4().hex)
    user = User.objects.create_superuser(NAME[:150], f"{'u' * 60}@example.org")
    user.first_name, user.last_name = NAME[:150], NAME[:150]
    user.save()
    inventory.add_category(slug="long", name=NAME[:80])
    inventory.add_product(sku=SKU, name=NAME, category="long", price=123_456_789_00, currency="EUR", description=NAME)
    inventory.receive_stock(SKU, 3, NAME, now, metadata)
    coupons.add_coupon(code=SKU, kind=Kind.PERCENTAGE, value=1000, currency="EUR")
    address = Address(name=NAME[:100], street=NAME, postal_code=NAME[:20], city=NAME[:100], country="DE")

    def place() -> int:
        return checkout.place(
            user.pk, [(SKU, 1)], SKU, key=uuid4().hex, metadata=checkout.metadata_for(user.pk), ship_to=address, at=now
        ).order_id

    place()
    shipped = place()
    wait_until(lambda: _status(shipped) is Status.CONFIRMED)
    checkout.pay(shipped, user.pk, "tok_ok", metadata)
    wait_until(lambda: _status(shipped) is Status.PAID)
    orders.handle(ShipOrder(order_id=shipped, tracking=NAME[:100], at=timezone.now()), metadata)
    park(now)
    return {"session": sign_in(user.username), "number": numbers.to_text(shipped)}


def _status(order_id: int) -> Status | None:
    order = selectors.get(order_id)
    return None if order is None else order.status


def park(at: datetime) -> None:
    data = {"at": "2026-05-01T00:00:00Z", "customer_id": 1, "tracking": NAME}
    envelope = Envelope(
        stream_id=77, category="order", version=1, type="order.shipped", schema_version=1, data=data,
        metadata={"correlation_id": NAME}, recorded_at=at,
    )  # fmt: skip
    deadletters.park(envelope, "notifications", ValueError(NAME), f"Traceback {NAME}", attempts=1)


def pages(number: str) -> list[str]:
    """The addresses of all pages that can be opened without more than what `plant` has written."""
    known = {"sku": SKU, "number": number, "name": f"order-{number}@1", "app_label": "auth", "bucket": "0"}
    found = dict.fromkeys(_addresses(get_resolver().url_patterns, "/", known))
    return [address for address in found if not re.search(r"\.svg$|/live/|/api/|jsi18n|/logout/|autocomplete", address)]


def _addresses(patterns: list[URLPattern | URLResolver], start: str, known: dict[str, str]) -> Iterator[str]:
    for pattern in patterns:
        route = start + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from _addresses(pattern.url_patterns, route, known)
            continue
        if "(?P" in route:
            continue
        values = known | _object_of(str(pattern.name), known["number"])
        names = PARAMETER.findall(route)
        if all(name in values for name in names):
            yield PARAMETER.sub("{}", route).format(*(values[name] for name in names))


def _object_of(name: str, number: str) -> dict[str, str]:
    """The last object of the model whose page has this name, for instance auth_user_change."""
    app, _, rest = name.partition("_")
    model = rest.partition("_")[0]
    if (app, model) == ("orders", "order"):
        return {"object_id": number}
    try:
        found: type[models.Model] = apps.get_model(app, model)
    except LookupError:
        return {}
    last = found._default_manager.order_by("-pk").values_list("pk", flat=True).first()
    return {} if last is None else {"object_id": str(last)}
