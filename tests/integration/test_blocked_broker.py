"""A broker that takes connections and then nothing: whoever waits for a page does not wait for it."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from celery import current_app
from django.conf import settings
from django.db import connections
from django.test import Client
from django.urls import URLPattern, reverse
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from backoffice.base import pages
from eventing import topology, wire
from eventing.models import DeadLetter, OutboxMessage, RedriveRun
from eventing.publishing import Publisher, request_task
from eventing.queues import BrokerBlocked
from eventing.relay import Relay
from lab.harness.instances import set_memory_alarm, start_rabbitmq, stop
from monitoring.models import AuditRun
from notifications.models import Message
from sharding.models import BucketMove
from storefront.urls import urlpatterns
from tests.factories import OperatorFactory
from tests.integration.conftest import Notes
from tests.integration.shop_api import PASSWORD, Api, stock_the_shop
from tests.integration.test_delivery import envelopes
from tests.integration.test_pages import ADDRESS, hidden
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.django_db(databases="__all__", transaction=True),
    pytest.mark.services,
    pytest.mark.once,
]


@dataclass
class Deaf:
    """Takes connections and never says a word. Remembers how many there were, and who held a database meanwhile."""

    listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    held: list[dict[str, int]] = field(default_factory=list)
    taken: list[socket.socket] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.listener.getsockname()[1]}//"

    def run(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:  # closed
                return
            self.held.append(databases_in_use())
            self.taken.append(connection)


def databases_in_use() -> dict[str, int]:
    """Connections that are in neither pool nor nowhere."""
    found = {}
    for alias in settings.DATABASES:
        stats = connections[alias].pool.get_stats()  # type: ignore[attr-defined]
        if used := stats["pool_size"] - stats["pool_available"]:
            found[alias] = used
    return found


@pytest.fixture
def deaf(monkeypatch: pytest.MonkeyPatch) -> Iterator[Deaf]:
    broker = Deaf()
    for url in ("broker_url", "broker_read_url", "broker_write_url"):
        monkeypatch.setattr(current_app.conf, url, broker.url)
    thread = threading.Thread(target=broker.run)
    thread.start()
    yield broker
    broker.listener.shutdown(socket.SHUT_RDWR)
    broker.listener.close()
    thread.join(timeout=10)
    for connection in broker.taken:
        connection.close()


@pytest.fixture
def ann() -> Api:
    stock_the_shop()
    ann = Api.of("ann")
    ann.set_password()
    ann.client.force_login(ann.customer)
    return ann


@pytest.fixture
def office() -> Client:
    client = Client()
    client.force_login(OperatorFactory.create())
    return client


def test_no_page_and_no_form_of_the_shop_asks_the_broker(ann: Api, deaf: Deaf) -> None:
    number = ann.place(("BOOK", 1))
    values = {"sku": "BOOK", "number": number}
    for pattern in urlpatterns:
        assert isinstance(pattern, URLPattern)
        kwargs = {name: values[name] for name in pattern.pattern.converters}
        address = reverse(f"storefront:{pattern.name}", kwargs=kwargs)
        if pattern.name != "logout":
            ann.client.get(address)
            ann.client.post(address, {})
    shopper = ann.client
    shopper.post("/products/PEN/add/", {"quantity": 1})
    form = ADDRESS | hidden(shopper.get("/checkout/").content.decode())
    assert shopper.post("/checkout/", form | {"action": "place"}).status_code == 302
    shopper.post(f"/orders/{number}/pay/", {"token": "tok_ok"})
    shopper.post(f"/orders/{number}/cancel/", {})
    visitor = Client()
    registration = {"username": "zoe", "email": "zoe@example.org", "password1": PASSWORD, "password2": PASSWORD}
    assert visitor.post("/register/", registration).status_code == 302
    assert Message.objects.filter(about="welcome", status="pending").count() == 1, "the periodic run sends it"
    assert Client().post("/sign-in/", {"username": "ann", "password": PASSWORD}).status_code == 302

    assert deaf.held == []


def test_no_request_of_the_api_asks_the_broker(ann: Api, deaf: Deaf) -> None:
    answers = [
        ann.get("/products"),
        ann.get("/products/BOOK"),
        ann.get("/orders"),
        ann.order({"lines": [{"sku": "BOOK", "quantity": 1}]}),
    ]
    number = answers[-1].json()["number"]
    answers += [ann.get(f"/orders/{number}"), ann.post(f"/orders/{number}/pay", {"token": "tok_ok"})]
    answers.append(ann.post(f"/orders/{number}/cancel"))
    token = {"username": "ann", "password": PASSWORD}
    answers.append(Client().post("/api/v1/token", json.dumps(token), content_type="application/json"))

    assert [answer.status_code for answer in answers if answer.status_code >= 500] == []
    assert deaf.held == []


def test_every_list_of_the_back_office_opens(office: Client, deaf: Deaf) -> None:
    for page in (page for group in pages().values() for page in group):
        address = page.url or f"admin:{page.model.replace('.', '_')}_changelist"
        assert office.get(reverse(address)).status_code == 200, page.title


def letter() -> DeadLetter:
    event = {"stream_id": 1, "category": "order", "version": 1, "type": "order.placed", "schema_version": 1}
    now = datetime.now(UTC)
    return DeadLetter.objects.create(
        **event, subscriber="inventory", data={}, metadata={}, attempts=1, recorded_at=now, failed_at=now, status="open"
    )


def redrive(office: Client) -> Any:
    data = {
        "action": "redrive",
        "_selected_action": [
            letter().pk,
        ],
    }
    return office.post(reverse("admin:eventing_deadletter_changelist"), data, follow=True)


def redrive_all(office: Client) -> Any:
    letter()
    return office.post(reverse("admin:eventing_deadletter_redrive_all"), {"rate": 10}, follow=True)


def audit(office: Client) -> Any:
    return office.post(reverse("audit"), follow=True)


def run_task(office: Client) -> Any:
    hourly = IntervalSchedule.objects.create(every=1, period="hours")
    task = PeriodicTask.objects.create(name="Prune", task="eventing.prune_inbox", interval=hourly)
    data = {"action": "run_tasks", "_selected_action": [task.pk]}
    return office.post(reverse("admin:django_celery_beat_periodictask_changelist"), data, follow=True)


def move_bucket(office: Client) -> Any:
    return office.post("/admin/sharding/bucket/1/move/", {"to": "orders_1"}, follow=True)


@pytest.mark.parametrize("act", [redrive, redrive_all, audit, run_task, move_bucket])
def test_what_an_operator_asks_for_keeps_no_database_and_says_that_the_broker_is_away(
    act: Any, office: Client, deaf: Deaf
) -> None:
    response = act(office)

    assert response.status_code == 200
    assert "The broker does not answer" in response.content.decode()
    assert deaf.held, "nobody has asked it"
    assert deaf.held[0] == {}
    assert not AuditRun.objects.exists()
    assert not BucketMove.objects.exists()
    assert RedriveRun.objects.filter(state="running").exists() is (act is redrive_all), "it goes on with the broker"


# --- A memory alarm ---------------------------------------------------------------------------------------------------


@pytest.fixture
def alarmed(tmp_path: Path, notes: Notes, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The directory of a broker that answers everybody and takes no messages."""
    instance = start_rabbitmq(tmp_path)
    for url in ("broker_url", "broker_read_url", "broker_write_url"):
        monkeypatch.setattr(current_app.conf, url, instance.url)
    topology.install(current_app)
    with current_app.connection_for_write() as connection:
        topology.declare(connection)
    set_memory_alarm(tmp_path, on=True)
    yield tmp_path
    stop(instance)
    topology.install(current_app)


def test_publishers_notice_an_alarm_at_once_and_the_relay_goes_on_after_it(alarmed: Path, notes: Notes) -> None:
    notes.write(1, "a")
    relay = Relay("default")
    with Publisher() as publisher:
        with pytest.raises(BrokerBlocked, match="takes no messages"):
            publisher.send(wire.Message(subscriber="notes", events=envelopes(), published_at=datetime.now(UTC)))
        with pytest.raises(BrokerBlocked):
            request_task("eventing.prune_inbox")
    stopping = threading.Event()
    thread = threading.Thread(target=relay.run, args=[stopping], name=f"relay-{uuid4().hex}")
    thread.start()
    try:
        wait_until(lambda: relay.leading)
        set_memory_alarm(alarmed, on=False)
        wait_until(lambda: not OutboxMessage.objects.exists(), seconds=30)
    finally:
        stopping.set()
        thread.join(timeout=30)
