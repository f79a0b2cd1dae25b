"""What the shop does without its payment gateway and without its cache, and how operators see that."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit
from uuid import uuid4

import circuitbreaker
import pytest
from django.conf import settings as django_settings
from django.core.cache import cache
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from caching.backend import BREAKER as CACHE
from caching.backend import FailOpenRedisCache
from caching.breakers import State
from eventing import subscribers
from eventing.delivery import Delivery, deliver
from eventing.models import DeadLetter
from eventing.testing import drain, publish_all
from inventory import selectors as catalogue
from inventory.models import Product, Stock
from lab.harness.proxy import Proxy
from monitoring import circuits
from monitoring.models import OpenCircuit
from payments.gateway import BREAKER, Captured, Declined, GatewayUnavailable, Refunded
from tests.factories import OperatorFactory, ProductFactory
from tests.integration.shop_api import Api, stock_the_shop

pytestmark = pytest.mark.django_db(databases="__all__")
committed = pytest.mark.django_db(databases="__all__", transaction=True)


@pytest.fixture
def api() -> Api:
    stock_the_shop()
    drain()
    return Api.of("ann")


# --- The payment gateway -----------------------------------------------------------------------------------------


class SilentGateway:
    """Hears nothing, and counts how often it was asked."""

    asked: ClassVar[list[str]] = []

    def capture(self, *, idempotency_key: str, token: str, amount: int, currency: str) -> Captured | Declined:
        self.asked.append(idempotency_key)
        raise GatewayUnavailable("nobody there")

    def refund(self, *, idempotency_key: str, reference: str, amount: int, currency: str) -> Refunded:
        raise GatewayUnavailable("nobody there")


def confirmed(api: Api, number: int) -> list[str]:
    placed = [api.place(("BOOK", 1)) for _ in range(number)]
    drain()
    return placed


def deliver_payments() -> int:
    """Hand the workers of payments what the relay has for them, once; returns how many events are to come again."""
    retry = 0
    for message in publish_all():
        if message.subscriber == "payments":
            delivery = Delivery(subscriber=subscribers.get("payments"), attempt=1, published_at=message.published_at)
            retry += len(deliver(message.events, delivery).retry)
    return retry


def operator() -> Client:
    client = Client()
    client.force_login(OperatorFactory.create(username="operator"))
    return client


@committed
def test_a_silent_gateway_is_left_alone_and_no_payment_is_lost(
    api: Api, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    placed = confirmed(api, 8)
    settings.PAYMENT_GATEWAY = f"{__name__}.SilentGateway"
    SilentGateway.asked.clear()
    for number in placed:
        assert api.post(f"/orders/{number}/pay", {"payment_token": "tok_ok"}).status_code == 202

    assert deliver_payments() == len(placed), "all of them are asked for again"

    assert len(SilentGateway.asked) == 5, "and the gateway was left alone after five failures"
    assert BREAKER.state.name == "OPEN"
    assert not DeadLetter.objects.exists()
    order = api.get(f"/orders/{placed[0]}").json()
    assert (order["status"], order["payment"]["progress"]) == ("confirmed", "in_progress")

    # Its customer, the operator and Prometheus can see it, whichever process they ask.
    browser = Client()
    browser.force_login(api.customer)
    assert "The bank does not answer at the moment" in browser.get(f"/orders/{placed[0]}/").content.decode()
    [circuit] = [circuit for circuit in circuits.circuits() if circuit.name == "payment gateway"]
    assert (circuit.state, circuit.open, circuit.error) == (State.OPEN, 1, "GatewayUnavailable: nobody there")
    cache.clear() if django_settings.EMBEDDED else cache.delete("monitoring:dashboard")
    office = operator().get("/admin/dashboard/").content.decode()
    assert "open in 1 process" in " ".join(office.split())
    metrics = Client().get("/metrics").content.decode()
    assert 'wharf_circuits{service="payment gateway",state="open"} 1.0' in metrics

    # It answers again: the next call after the pause closes the circuit.
    settings.PAYMENT_GATEWAY = "payments.gateway.SandboxGateway"
    with monkeypatch.context() as later:
        later.setattr(circuitbreaker, "monotonic", lambda: 1e12)
        assert BREAKER.state.name == "HALF_OPEN"
        number = confirmed(api, 1)[0]
        api.post(f"/orders/{number}/pay", {"payment_token": "tok_ok"})
        drain()
    assert api.get(f"/orders/{number}").json()["status"] == "paid"
    assert BREAKER.state.name == "CLOSED"
    assert not OpenCircuit.objects.exists()
    assert circuits.is_closed("payment gateway")


def test_a_declined_payment_is_an_answer(api: Api) -> None:
    for number in confirmed(api, 7):
        api.post(f"/orders/{number}/pay", {"payment_token": "tok_declined"})
    drain()
    assert BREAKER.state.name == "CLOSED"


def test_a_circuit_of_a_process_that_died_is_forgotten() -> None:
    now = timezone.now()
    for process, ago in (("dead:1", timedelta(minutes=20)), ("alive:2", timedelta(seconds=1))):
        OpenCircuit.objects.create(name="a", process=process, since=now - ago, retry_at=now - ago, error="Gone")

    [circuit] = [circuit for circuit in circuits.circuits() if circuit.name == "a"]

    assert (circuit.state, circuit.open, circuit.half_open) == (State.HALF_OPEN, 0, 1)


# --- The cache -----------------------------------------------------------------------------------------------------


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    url = urlsplit(django_settings.REDIS_URL)
    with Proxy(url.hostname or "127.0.0.1", url.port or 6379) as proxy:
        yield proxy


def redis_through(proxy: Proxy) -> FailOpenRedisCache:
    url = urlsplit(django_settings.REDIS_URL)
    options = {"socket_connect_timeout": 0.25, "socket_timeout": 0.25}
    server = url._replace(netloc=f"127.0.0.1:{proxy.port}").geturl()
    return FailOpenRedisCache(server, {"KEY_PREFIX": uuid4().hex, "OPTIONS": options})


@pytest.mark.services
def test_no_operation_fails_while_redis_is_away(proxy: Proxy) -> None:
    redis = redis_through(proxy)
    proxy.cut()
    for _ in range(3):  # the last ones find the circuit open
        redis.set("key", 1)
        redis.set_many({"key": 1})
        redis.delete_many(["key"])
        redis.clear()
        assert redis.get_many(["key"]) == {}
        assert (redis.get("key"), redis.add("key", 1), redis.touch("key"), redis.delete("key")) == (None,) + (
            False,
        ) * 3
        assert (redis.has_key("key"), redis.incr("key")) == (False, 1)


@pytest.mark.services
def test_redis_is_asked_again_after_a_pause(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    redis = redis_through(proxy)
    redis.set("key", "value")
    proxy.cut()
    assert [redis.get("key", "nothing") for _ in range(5)] == ["nothing"] * 5
    assert CACHE.state.name == "OPEN"
    redis.set("key", "other")
    assert (redis.add("a", 1), redis.get_many(["key"]), redis.incr("count")) == (False, {}, 1)

    proxy.mend()
    assert redis.get("key") is None, "nobody asks before the pause is over"
    with monkeypatch.context() as later:
        later.setattr(circuitbreaker, "monotonic", lambda: 1e12)
        assert redis.get("key") == "value"
        assert CACHE.state.name == "CLOSED"
    redis.delete("key")


class Vanishing:
    """A class that the next program does not have."""


@pytest.mark.services
def test_what_an_older_program_has_cached_is_not_there(proxy: Proxy) -> None:
    redis = redis_through(proxy)
    client = redis._cache.get_client()
    stale = pickle.dumps(Vanishing()).replace(b"Vanishing", b"Vanished!")
    for garbage in (stale, b"no pickle", b""):
        client.set(redis.make_and_validate_key("key"), garbage, ex=10)
        assert redis.get("key", "nothing") in (None, "nothing")
        assert redis.get_many(["key"]).get("key") is None
    assert CACHE.state.name == "CLOSED"


def test_a_cache_that_lies_about_prices_and_stock_changes_no_order(api: Api, settings: Settings) -> None:
    settings.CATALOGUE_CACHE_SECONDS = 60
    slug = f"lies-{uuid4().hex[:8]}"  # a page of the catalogue that nobody has cached before
    sku = f"LIE-{uuid4().hex[:8].upper()}"
    ProductFactory.create(sku=sku, category=slug, price=100, pieces=5)
    assert catalogue.catalogue(slug).items[0].price == 100

    Product.objects.filter(sku=sku).update(price=900)
    Stock.objects.filter(product_id=sku).update(on_hand=1, available=1)

    shown = catalogue.catalogue(slug).items[0]
    assert (shown.price, shown.available) == (100, 5), "this is what the cache says"
    order = api.order({"lines": [{"sku": sku, "quantity": 1}]}).json()
    assert (order["lines"][0]["unit_price"], order["total"]) == (900, 900)
    too_many = api.place((sku, 1))
    drain()
    assert api.get(f"/orders/{order['number']}").json()["status"] == "confirmed"
    assert api.get(f"/orders/{too_many}").json()["reason"] == "out_of_stock"


def test_only_what_is_shown_or_counted_is_cached() -> None:
    root = Path(django_settings.BASE_DIR)
    users = {
        str(path.relative_to(root))
        for app in root.iterdir()
        if app.is_dir() and not app.name.startswith(".") and app.name not in ("tests", "var")
        for path in app.rglob("*.py")
        if "django.core.cache import" in path.read_text()
    }
    assert users == {
        "caching/two_level.py",  # what the shop shows
        "caching/backend.py",  # which the dashboard keeps its numbers with
        "monitoring/checks.py",  # to see whether it is there
        "storefront/throttle.py",  # how often somebody has tried
    }


def test_sessions_and_carts_are_in_the_database() -> None:
    assert django_settings.SESSION_ENGINE == "caching.sessions"
