"""Probes and metrics: what they say when everything is there, and when something is away."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from celery import current_app
from django.conf import settings
from django.db import OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.test import Client
from kombu import Connection

from config.cache import FailOpenRedisCache
from eventing.inline import leading
from eventing.models import DeadLetter
from eventing.publishing import Publisher
from monitoring import health
from sharding import shards
from tests.integration.shop_api import Api, stock_the_shop

pytestmark = pytest.mark.django_db(databases="__all__")
committed = pytest.mark.django_db(databases="__all__", transaction=True)

NOWHERE = "127.0.0.1:1"


def take_away(monkeypatch: pytest.MonkeyPatch, *aliases: str) -> None:
    """Let these databases not answer, in whichever thread they are asked."""
    cursor = BaseDatabaseWrapper.cursor

    def away(self: BaseDatabaseWrapper) -> Any:
        if self.alias in aliases:
            raise OperationalError(f"connection to {self.alias} at 10.0.0.7 refused for user wharf")
        return cursor(self)

    monkeypatch.setattr(BaseDatabaseWrapper, "cursor", away)


def test_the_process_is_alive_whatever_is_away(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    take_away(monkeypatch, *settings.DATABASES)
    response = client.get("/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})
    assert "no-store" in response.headers["Cache-Control"]


def test_ready_names_every_dependency(client: Client) -> None:
    with leading(settings.DATABASES):
        response = client.get("/readyz")
    body = response.json()
    assert (response.status_code, body["status"]) == (200, "ok"), body
    assert set(body["dependencies"]) == {*settings.DATABASES, "relay", "broker", "cache"}
    assert all(dependency["ok"] for dependency in body["dependencies"].values())
    assert body["dependencies"].pop("relay")["detail"] == "at work on every database that answers"
    for dependency in body["dependencies"].values():
        assert dependency["detail"].startswith("answers in ")


@pytest.mark.services
def test_a_database_without_a_relay_is_named(client: Client) -> None:
    alone, *others = settings.DATABASES
    with leading(others):
        response = client.get("/readyz")
        values = metrics(client)
    body = response.json()
    assert (response.status_code, body["status"]) == (200, "degraded")
    assert body["dependencies"]["relay"] == {"ok": False, "detail": f"nobody publishes the events of {alone}"}
    assert values[f'wharf_relay_leading{{database="{alone}"}}'] == 0
    assert all(values[f'wharf_relay_leading{{database="{alias}"}}'] == 1 for alias in others)


def test_metrics_tell_how_full_the_queues_are(client: Client, broker: None) -> None:
    assert metrics(client)['wharf_queue_messages{queue="notes"}'] == 0
    with Publisher() as publisher:
        publisher.send("notes", [], published_at=datetime.now(UTC))
    values = metrics(client)
    assert values["wharf_broker_up"] == 1
    assert values['wharf_queue_messages{queue="notes"}'] == 1
    assert values['wharf_queue_messages{queue="inventory"}'] == 0


def test_without_the_default_database_nothing_can_be_served(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    take_away(monkeypatch, "default")
    response = client.get("/readyz")
    body = response.json()
    assert (response.status_code, body["status"]) == (503, "unavailable")
    assert body["dependencies"]["default"] == {"ok": False, "detail": "no answer: OperationalError"}
    assert body["dependencies"][shards.aliases()[0]]["ok"] is True


def test_without_a_shard_the_others_are_served(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    gone, *others = shards.aliases()
    take_away(monkeypatch, gone)
    response = client.get("/readyz")
    body = response.json()
    assert (response.status_code, body["status"]) == (200, "degraded")
    assert body["dependencies"][gone]["ok"] is False
    assert all(body["dependencies"][alias]["ok"] for alias in others)
    assert b"10.0.0.7" not in response.content


def test_without_the_broker_orders_are_still_accepted(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(**options: Any) -> Connection:
        return Connection(f"amqp://guest:guest@{NOWHERE}//", **options)

    monkeypatch.setattr(current_app._get_current_object(), "connection_for_write", nowhere)
    response = client.get("/readyz")
    body = response.json()
    assert (response.status_code, body["status"]) == (200, "degraded")
    assert body["dependencies"]["broker"]["ok"] is False


def test_without_redis_everything_works_slower(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"OPTIONS": {"socket_connect_timeout": 0.25}}
    monkeypatch.setattr(health, "cache", FailOpenRedisCache(f"redis://{NOWHERE}/0", options))
    response = client.get("/readyz")
    body = response.json()
    assert (response.status_code, body["status"]) == (200, "degraded")
    assert body["dependencies"]["cache"]["ok"] is False


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_probes_only_read(client: Client, path: str) -> None:
    assert client.head(path).status_code == 200
    assert client.post(path).status_code == 405


def metrics(client: Client) -> dict[str, float]:
    response = client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/plain")
    lines = [line for line in response.content.decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


@committed
def test_metrics_tell_how_far_the_relay_is_behind_in_each_database(client: Client) -> None:
    stock_the_shop()
    before = metrics(client)
    api = Api.of("ann", id=1)
    api.place(("BOOK", 1))
    api.place(("PEN", 1))
    after = metrics(client)

    shard = shards.alias_of_bucket(1)
    changed = {name for name in before if name.startswith("wharf_outbox_events") and before[name] != after[name]}
    assert changed == {f'wharf_outbox_events{{database="{shard}"}}'}
    assert after[f'wharf_outbox_events{{database="{shard}"}}'] == 2
    assert 0 < after[f'wharf_outbox_oldest_seconds{{database="{shard}"}}'] < 60
    for alias in settings.DATABASES:
        assert after[f'wharf_database_up{{database="{alias}"}}'] == 1


def test_metrics_count_the_open_dead_letters(client: Client) -> None:
    assert metrics(client)["wharf_dead_letters_open"] == 0
    now = datetime.now(UTC)
    for version, status in ((1, DeadLetter.Status.OPEN), (2, DeadLetter.Status.OPEN), (3, DeadLetter.Status.ARCHIVED)):
        DeadLetter.objects.create(
            stream_id=1,
            category="order",
            version=version,
            subscriber="inventory",
            type="order.placed",
            schema_version=1,
            data={},
            metadata={},
            recorded_at=now,
            error="ValueError",
            message="",
            traceback="",
            attempts=1,
            status=status,
            failed_at=now,
        )
    assert metrics(client)["wharf_dead_letters_open"] == 2


def test_metrics_go_on_when_databases_are_away(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = shards.aliases()[0]
    take_away(monkeypatch, gone, "default")
    values = metrics(client)
    assert values[f'wharf_database_up{{database="{gone}"}}'] == 0
    assert values[f'wharf_database_up{{database="{shards.aliases()[-1]}"}}'] == 1
    assert f'wharf_outbox_events{{database="{gone}"}}' not in values
    assert "wharf_dead_letters_open" not in values


def test_metrics_of_several_processes_are_told_together(
    client: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = "from prometheus_client import Counter; Counter('tests', 'Of the test.').inc(3)"
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    for _ in range(2):
        subprocess.run([sys.executable, "-c", program], env=environment, check=True)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    values = metrics(client)
    assert values["tests_total"] == 6
    assert "wharf_dead_letters_open" in values
