"""What a program of another version has left behind: in caches, sessions, carts and queues."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from celery import current_app
from django.contrib.sessions.models import Session
from django.core.cache import cache
from django.core.handlers.wsgi import WSGIHandler
from django.test import Client
from django.urls import reverse

from backoffice.monitoring import dashboard
from caching import two_level
from caching.sessions import SessionStore
from caching.two_level import TwoLevelCache
from config.responses import cached
from eventing import deadletters, queues, tasks, topology
from eventing.models import DeadLetter, InboxEntry
from eventing.publishing import Publisher
from eventing.wire import Message
from eventing.workers import _careful
from inventory import selectors as inventory
from monitoring.models import AuditRun
from storefront.cart import CART
from storefront.models import CustomerCart
from storefront.throttle import Limit
from tests.factories import CustomerFactory, OperatorFactory
from tests.integration.conftest import Notes
from tests.integration.shop_api import PASSWORD, stock_the_shop
from tests.integration.test_delivery import envelopes
from tests.integration.workers import working
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db(databases="__all__")


@dataclass(frozen=True, slots=True)
class OlderProduct:
    """A product as it was before it had a picture."""

    sku: str = "BOOK"
    name: str = "A book"


ODD = [
    OlderProduct(),
    {"sku": "BOOK"},
    [],
    "text",
    7,
    b"",
    b"\x00\xff",
    pickle.dumps(OlderProduct()),
    msgspec.msgpack.encode({"value": {"sku": "BOOK"}}),
    msgspec.msgpack.encode({"value": {"sku": "BOOK", "price": "a lot"}}),
    msgspec.msgpack.encode({}),
]


CACHES = ("categories", "catalogue", "product", "offer", "answers")


@pytest.fixture
def kept(settings: Any) -> Iterator[None]:
    """The caches of the catalogue are in use, and empty."""
    settings.CATALOGUE_CACHE_SECONDS = 60
    cached(WSGIHandler())  # makes the cache of answers, if there is none yet
    forget()
    yield
    forget()


def forget() -> None:
    for name in CACHES:
        two_level._caches[name].evict(keys_of(name))
    two_level.clear_memory()


def keys_of(name: str) -> list[str]:
    """What this process remembers; the shop's only products are those of `stock_the_shop`."""
    return [*two_level._caches[name]._memory, "BOOK", "PEN", "LAMP", "all"]


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_what_a_cache_cannot_read_is_loaded_anew(odd: Any, kept: None, client: Client) -> None:
    stock_the_shop()
    pages = ["/", "/products/BOOK/", "/api/v1/products", "/api/v1/products/BOOK"]
    fresh = [client.get(page).status_code for page in pages]
    assert fresh == [200, 200, 200, 200]
    prefixes = [
        *(name for name in two_level._caches if name in ("categories", "catalogue", "product", "offer", "answers"))
    ]
    for name in prefixes:
        keys = [*two_level._caches[name]._memory]
        two_level._caches[name].clear_memory()
        for key in keys:
            cache.set(f"{name}:{key}", odd, 60)
    cache.set("product:BOOK", odd, 60)

    assert [client.get(page).status_code for page in pages] == fresh
    found = inventory.product("BOOK")
    assert found is not None
    assert found.price == 1000


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_no_cache_answers_with_what_it_cannot_read(odd: Any, kept: None) -> None:
    for name in CACHES:
        cache.set(f"{name}:planted", odd, 60)
        assert two_level._caches[name].get("planted", lambda: None) is None
        two_level._caches[name].evict(["planted"])


def test_a_value_of_the_right_type_is_kept_and_so_is_that_there_is_none(kept: None) -> None:
    loads: list[str] = []
    cached: TwoLevelCache[inventory.Offer] = TwoLevelCache("offers-of-a-test", inventory.Offer, seconds=lambda: 60)
    offer = inventory.Offer(name="A book", price=1000, currency="EUR", active=True)

    def load(key: str, found: Any) -> Any:
        loads.append(key)
        return found

    for _ in range(2):
        assert cached.get("BOOK", lambda: load("BOOK", offer)) == offer
        assert cached.get("NONE", lambda: load("NONE", None)) is None
        cached.clear_memory()
    assert loads == ["BOOK", "NONE"]
    del two_level._caches[cached.name]


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_the_dashboard_of_an_older_version_is_measured_anew(odd: Any) -> None:
    client = Client()
    client.force_login(OperatorFactory.create())
    cache.set(dashboard.CACHE_KEY, odd, 60)

    assert client.get("/admin/").status_code == 200

    assert client.get("/admin/").status_code == 200  # and what has been kept since can be read
    cache.delete(dashboard.CACHE_KEY)


@pytest.mark.parametrize("odd", [value for value in ODD if not isinstance(value, int)], ids=repr)
def test_a_limit_whose_count_cannot_be_read_begins_anew(odd: Any) -> None:
    limit = Limit(name="test", attempts=2, seconds=60)
    cache.set(limit._key(("ann",)), odd, 60)
    assert [limit.spend("ann") for _ in range(3)] == [True, True, False]
    limit.forgive("ann")


# --- Sessions and carts ----------------------------------------------------------------------------------------------

CARTS: list[Any] = [
    "text",
    7,
    [],
    {"lines": []},
    {"lines": {"BOOK": 2}},
    {"lines": {"BOOK": [2]}},
    {"lines": {"BOOK": ["two", 1000, "EUR"]}},
    {"lines": {"BOOK": [-2, 1000, "EUR"]}},
    {"key": 7, "lines": {}},
    {"placed": [1, 2]},
    {"ordered": "0K4T9QXM2ZP7A"},
    {"ordered": {"lines": {}}},
]


@pytest.mark.parametrize("odd", CARTS, ids=repr)
def test_a_visitors_cart_of_another_shape_is_an_empty_cart(odd: Any) -> None:
    stock_the_shop()
    client = Client()
    session = client.session
    session[CART] = odd
    session.save()
    client.cookies["sessionid"] = str(session.session_key)

    assert [client.get(page).status_code for page in ("/", "/cart/", "/products/BOOK/")] == [200, 200, 200]
    assert client.post("/products/BOOK/add/", {"quantity": 1}).status_code == 302
    assert "A book" in client.get("/cart/").content.decode()


@pytest.mark.parametrize("odd", CARTS, ids=repr)
def test_a_customers_cart_of_another_shape_is_an_empty_cart(odd: Any) -> None:
    stock_the_shop()
    ann = CustomerFactory.create(username="ann")
    client = Client()
    client.force_login(ann)
    CustomerCart.objects.create(customer_id=ann.pk, content=odd)

    assert [client.get(page).status_code for page in ("/", "/cart/", "/orders/")] == [200, 200, 200]
    assert client.post("/products/BOOK/add/", {"quantity": 1}).status_code == 302
    assert "A book" in client.get("/cart/").content.decode()


@pytest.mark.parametrize(
    "payload",
    [
        {"_auth_user_id": "3f0c8a0e-uuid", "_auth_user_backend": "django.contrib.auth.backends.ModelBackend"},
        {"_auth_user_id": 1, "_auth_user_backend": "gone.Backend", "_auth_user_hash": "x"},
        {"_auth_user_id": None},
        {"_messages": "not json"},
        {"_messages": {"a": 1}},
        {"_messages": '[["__json_message"]]'},
        ["a", "list"],
        "text",
        None,
    ],
    ids=repr,
)
def test_a_session_of_another_shape_is_nobodys(payload: Any) -> None:
    store = SessionStore()
    store.create()
    Session.objects.filter(pk=store.session_key).update(session_data=SessionStore().encode(payload))
    client = Client()
    client.cookies["sessionid"] = str(store.session_key)

    assert [client.get(page).status_code for page in ("/", "/cart/", "/sign-in/", "/admin/login/")] == [200] * 4
    assert client.get("/orders/").status_code == 302
    CustomerFactory.create(username="ann", password=PASSWORD)
    assert client.post("/sign-in/", {"username": "ann", "password": PASSWORD}).status_code == 302


@pytest.mark.parametrize("raw", ["", "garbage", "a:b:c", "\u2603"])
def test_a_session_that_cannot_be_decoded_is_nobodys(raw: str) -> None:
    store = SessionStore()
    store.create()
    Session.objects.filter(pk=store.session_key).update(session_data=raw)
    client = Client()
    client.cookies["sessionid"] = str(store.session_key)
    assert [client.get(page).status_code for page in ("/", "/cart/")] == [200, 200]


@pytest.mark.parametrize("report", [[], "text", {}, {"checks": {}}, {"checks": [{"title": "old"}]}], ids=repr)
def test_an_audit_of_another_version_is_to_be_run_again(report: Any) -> None:
    client = Client()
    client.force_login(OperatorFactory.create())
    now = datetime.now(UTC)
    run = AuditRun.objects.create(started_at=now, finished_at=now, settle_seconds=60, was_clean=True, report=report)
    for page in (reverse("audit"), reverse("audit_run", args=[run.pk])):
        assert "in the form of another version. Run it again" in client.get(page).content.decode()


# --- Messages in queues ----------------------------------------------------------------------------------------------

MAY = "2026-05-01T12:00:00Z"


def envelope_of(notes: Notes) -> dict[str, Any]:
    notes.write(1, "a")
    return dict(msgspec.json.decode(msgspec.json.encode(envelopes()[0])))


def test_fields_that_only_a_newer_version_knows_are_left_out(notes: Notes) -> None:
    newer = {**envelope_of(notes), "tenant": "north"}
    tasks.deliver_message(subscriber="notes", events=[newer], published_at=MAY, attempt=1, priority=7)
    assert (notes.seen, DeadLetter.objects.count()) == (["a"], 0)


@pytest.mark.parametrize("name", ["stream_id", "version", "type", "data", "recorded_at"])
def test_an_event_without_a_field_is_a_dead_letter_that_names_it(name: str, notes: Notes) -> None:
    older = envelope_of(notes)
    del older[name]
    tasks.deliver_message(subscriber="notes", events=[older], published_at=MAY, attempt=1)
    found = DeadLetter.objects.get()
    assert (found.error, name in found.message) == ("WrongShape", True)
    assert not InboxEntry.objects.exists()


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"published_at": None}, "published_at"),
        ({"published_at": "soon"}, "published_at"),
        ({"attempt": "first"}, "attempt"),
        ({"events": "all"}, "events"),
        ({"subscriber": 7}, "subscriber"),
        ({"replay": {"forget": "perhaps"}}, "replay.forget"),
    ],
    ids=repr,
)
def test_a_message_of_another_shape_is_a_dead_letter_with_its_cause(
    changed: dict[str, Any], why: str, notes: Notes
) -> None:
    message = {"subscriber": "notes", "events": [envelope_of(notes)], "published_at": MAY, "attempt": 1} | changed
    tasks.deliver_message(**message)
    found = DeadLetter.objects.get()
    assert (found.error, why in found.message) == ("ValidationError", True), found.message
    assert MAY in found.data["body"] or "published_at" in changed


def test_a_message_without_a_part_or_with_arguments_by_place_is_a_dead_letter(notes: Notes) -> None:
    tasks.deliver_message("notes", [])
    tasks.deliver_message(subscriber="notes", events=[])
    assert {found.error for found in DeadLetter.objects.all()} == {"ValidationError"}


def test_a_replay_of_another_shape_is_not_redriven() -> None:
    event = {"stream_id": 1, "category": "order", "version": 1, "type": "order.placed", "schema_version": 1}
    now = datetime.now(UTC)
    found = DeadLetter.objects.create(
        **event, subscriber="inventory", data={}, metadata={}, attempts=1, recorded_at=now, failed_at=now,
        status="open", replay={"forget": "perhaps"},
    )  # fmt: skip
    client = Client()
    client.force_login(OperatorFactory.create())
    data = {"action": "redrive", "_selected_action": [found.pk]}
    page = client.post("/admin/eventing/deadletter/", data, follow=True).content.decode()
    assert "form that this version does not know" in page


ODD_MESSAGES: list[tuple[dict[str, Any], bytes, str]] = [
    ({"task": "eventing.deliver"}, b"\xff\xfe", "x-msgspec-json"),
    ({"task": "eventing.deliver", "id": "1"}, b"{", "x-msgspec-json"),
    ({"task": "eventing.deliver"}, b"[[], {}, {}]", "json"),
    ({"task": "gone.task"}, b"[[], {}, {}]", "json"),
    ({"task": "gone.task", "id": "2"}, b"[[], {}, {}]", "json"),
    ({"task": 7}, b"{}", "json"),
    ({}, b"no json", "json"),
    ({}, b"[]", "json"),
    ({"task": "eventing.deliver", "id": "3"}, b"x", "x-python-serialize"),
]


@pytest.mark.services
@pytest.mark.once
@pytest.mark.django_db(databases="__all__", transaction=True)
def test_a_worker_survives_every_message_and_gives_it_up(broker: None, notes: Notes) -> None:
    notes.write(1, "a")
    with current_app.connection_for_write() as connection, Publisher() as publisher:
        channel = connection.default_channel
        for headers, body, kind in ODD_MESSAGES:
            message = channel.prepare_message(
                body, headers=headers, content_encoding="utf-8", content_type=f"application/{kind}"
            )
            channel.basic_publish(message, exchange="", routing_key=topology.qualified("notes"))
        publisher.send(Message(subscriber="notes", events=envelopes(), published_at=datetime.now(UTC)))
    with working("notes"):
        wait_until(lambda: notes.seen == ["a"], seconds=30)
    collected: list[int] = []
    with current_app.connection_for_read() as connection:

        def has_all() -> bool:
            collected.append(deadletters.collect(connection, 100))
            return sum(collected) == len(ODD_MESSAGES)

        wait_until(has_all)
    assert {found.error for found in DeadLetter.objects.all()} == {"GivenUpByBroker"}
    assert {depth.name: depth.messages for depth in queues.depths(seconds=5)}["notes"] == 0


def test_a_lost_connection_is_not_taken_for_a_bad_message() -> None:
    consumer = SimpleNamespace(connection_errors=(ConnectionError,))

    def lost(message: Any) -> None:
        raise ConnectionResetError

    with suppress(ConnectionResetError):
        _careful(consumer, lost)(SimpleNamespace(acknowledged=False, headers={}))
        pytest.fail("it was swallowed")
