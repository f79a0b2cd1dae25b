"""Probes and metrics: what they say when everything is there, and when something is away."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from celery import current_app
from django.conf import settings
from django.db import OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.test import Client
from kombu import Connection
from pytest_django.fixtures import Settings

from caching.backend import FailOpenRedisCache
from eventing import schedules as periodic_rows
from eventing.inline import leading
from eventing.models import DeadLetter
from eventing.models import Event as EventRow
from eventing.publishing import Publisher
from eventing.wire import Message
from lab.harness.instances import free_port
from monitoring import checks, health, probes, schedules
from monitoring.health import Check, Impaired, Status, Unavailable
from monitoring.kept import Kept
from sharding import shards
from tests.integration.shop_api import Api, stock_the_shop
from tests.waiting import wait_until

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


@pytest.fixture(autouse=True)
def schedules_have_just_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """No beat runs here."""
    monkeypatch.setattr(schedules, "_stalled", lambda built: [])


@pytest.mark.django_db(databases="__all__", transaction=True)  # checks ask in threads, which see what is committed
def test_ready_names_every_dependency(client: Client, broker: None) -> None:
    periodic_rows.install()
    with leading(settings.DATABASES):
        response = client.get("/readyz")
    body = response.json()
    assert (response.status_code, body["status"]) == (200, "ok"), body
    assert {*settings.DATABASES, "installation", "relay", "broker", "cache", "schedules", "clocks"} <= set(
        body["dependencies"]
    )
    assert all(dependency["ok"] for dependency in body["dependencies"].values())
    assert body["impaired"] == {}
    assert body["dependencies"]["relay"]["detail"] == "at work on every database that answers"
    for name in (*settings.DATABASES, "broker", "cache"):
        assert body["dependencies"][name]["detail"].startswith("answers in ")


@pytest.mark.services
def test_a_database_without_a_relay_is_named(client: Client) -> None:
    alone, *others = settings.DATABASES
    with leading(others):
        response = client.get("/readyz")
        values = metrics(client)
    body = response.json()
    assert (response.status_code, body["status"]) == (200, "impaired")
    assert body["impaired"]["relay"] == {
        "ok": False,
        "detail": f"nobody publishes the events of {alone}",
        "still_works": "orders are accepted and go on later",
    }
    assert values[f'wharf_relay_leading{{database="{alone}"}}'] == 0
    assert all(values[f'wharf_relay_leading{{database="{alias}"}}'] == 1 for alias in others)


def test_metrics_tell_how_full_the_queues_are(client: Client, broker: None) -> None:
    assert metrics(client)['wharf_queue_messages{queue="notes"}'] == 0
    with Publisher() as publisher:
        publisher.send(Message(subscriber="notes", events=[], published_at=datetime.now(UTC)))
    values = metrics(client)
    assert values["wharf_broker_up"] == 1
    assert values['wharf_queue_messages{queue="notes"}'] == 1
    assert values['wharf_queue_messages{queue="inventory"}'] == 0


def test_without_the_default_database_nothing_can_be_served(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    take_away(monkeypatch, "default")
    response = client.get("/readyz")
    body = response.json()
    assert (response.status_code, body["status"]) == (503, "unavailable")
    assert body["impaired"]["default"] == {
        "ok": False,
        "detail": "no answer: OperationalError",
        "still_works": "nothing",
    }
    assert body["dependencies"][shards.aliases()[0]]["ok"] is True


def test_without_a_shard_the_others_are_served(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    gone, *others = shards.aliases()
    take_away(monkeypatch, gone)
    response = client.get("/readyz")
    body = response.json()
    assert (response.status_code, body["status"]) == (200, "impaired")
    assert body["impaired"][gone]["still_works"] == "the catalogue, and the customers of the other databases"
    assert all(body["dependencies"][alias]["ok"] for alias in others)
    assert b"10.0.0.7" not in response.content


def test_without_the_broker_orders_are_still_accepted(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(**options: Any) -> Connection:
        return Connection(f"amqp://guest:guest@{NOWHERE}//", **options)

    monkeypatch.setattr(current_app._get_current_object(), "connection_for_write", nowhere)
    response = client.get("/readyz")
    body = response.json()
    assert (response.status_code, body["status"]) == (200, "impaired")
    assert body["dependencies"]["broker"]["ok"] is False


def test_without_redis_everything_works_slower(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"OPTIONS": {"socket_connect_timeout": 0.25}}
    monkeypatch.setattr(checks, "cache", FailOpenRedisCache(f"redis://{NOWHERE}/0", options))
    response = client.get("/readyz")
    body = response.json()
    assert (response.status_code, body["status"]) == (200, "impaired")
    assert body["dependencies"]["cache"]["ok"] is False


# --- What can be asked, and does not work -------------------------------------------------------------------------


@contextmanager
def failed_over(alias: str) -> Iterator[None]:
    """Let the server take no more writes to this database: other connections to it are cut, and new ones read."""
    name = connections[alias].settings_dict["NAME"]
    with connections[alias].cursor() as cursor:
        cursor.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        cut = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
        cursor.execute(cut)
        try:
            yield
        finally:
            cursor.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE")
            cursor.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
            cursor.execute(cut)


@committed
@pytest.mark.services
def test_a_database_that_only_reads_is_named_with_what_still_works(client: Client) -> None:
    shard = shards.aliases()[1]
    with failed_over(shard):
        response = client.get("/readyz")
    assert (response.status_code, response.json()["status"]) == (200, "impaired")
    assert response.json()["impaired"][shard] == {
        "ok": False,
        "detail": "read-only: its settings say so",
        "still_works": "what is stored can be read",
    }


@pytest.mark.services
def test_a_default_database_that_only_reads_keeps_the_process_in_service(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "STATE", "SELECT true, true")  # as a standby says
    response = client.get("/readyz")
    assert (response.status_code, response.json()["status"]) == (200, "impaired")
    assert response.json()["impaired"]["default"]["detail"] == "read-only: a standby"


@pytest.mark.services
def test_a_full_disk_is_named(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    full = "DO $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$"
    monkeypatch.setattr(checks, "SPILL", full)
    response = client.get("/readyz")
    assert (response.status_code, response.json()["status"]) == (200, "impaired")
    assert {response.json()["impaired"][alias]["detail"] for alias in settings.DATABASES} == {"its disk is full"}


def test_a_data_folder_that_takes_no_files_is_named(settings: Settings) -> None:
    settings.DATA_DIR = Path("/proc")
    with pytest.raises(Impaired, match="nothing can be written"):
        checks.data_folder()


@committed
@pytest.mark.services
def test_events_that_wait_too_long_are_named(client: Client, settings: Settings) -> None:
    stock_the_shop()
    Api.of("ann", id=1).place(("BOOK", 1))
    shard = shards.alias_of_bucket(1)
    EventRow.objects.using(shard).update(recorded_at=datetime.now(UTC) - timedelta(minutes=2))
    settings.EVENTING_MAX_LAG_SECONDS = 30
    with leading(settings.DATABASES):
        response = client.get("/readyz")
    assert response.json()["impaired"]["relay"]["detail"] == f"events of {shard} have waited for more than 30 s"


def use(monkeypatch: pytest.MonkeyPatch, *wanted: Check) -> None:
    monkeypatch.setattr(health, "_sources", [lambda: wanted])


def test_a_check_that_hangs_is_late_alone_and_is_not_asked_twice(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    released = Event()

    def hang() -> str:
        asked.append("hanging")
        released.wait(timeout=30)
        return "at last"

    use(
        monkeypatch,
        Check(name="hanging", ask=hang, still_works="the rest", seconds=0.1),
        Check(name="other", ask=lambda: "fine", still_works=""),
    )
    try:
        for _ in range(2):
            body = client.get("/readyz").json()
            assert body["status"] == "impaired"
            assert body["impaired"] == {
                "hanging": {"ok": False, "detail": "no answer: nothing within 0.1 s", "still_works": "the rest"}
            }
            assert body["dependencies"]["other"] == {"ok": True, "detail": "fine", "still_works": ""}
        assert asked == ["hanging"]
    finally:
        released.set()
    wait_until(lambda: health._answers["hanging"].done())
    assert client.get("/readyz").json()["status"] == "ok"


@pytest.mark.parametrize(
    ("error", "needed", "status", "code"),
    [
        (Impaired("half of it"), False, Status.IMPAIRED, 200),
        (Impaired("half of it"), True, Status.IMPAIRED, 200),
        (OSError("10.0.0.7 refused"), False, Status.IMPAIRED, 200),
        (OSError("10.0.0.7 refused"), True, Status.UNAVAILABLE, 503),
        (Unavailable("all of it"), False, Status.UNAVAILABLE, 503),
        (ZeroDivisionError("a mistake of the check"), False, Status.IMPAIRED, 200),
    ],
)
def test_only_what_takes_everything_along_takes_the_process_out_of_service(
    client: Client, monkeypatch: pytest.MonkeyPatch, error: Exception, needed: bool, status: Status, code: int
) -> None:
    def fail() -> str:
        raise error

    use(
        monkeypatch,
        Check(name="part", ask=fail, still_works="the rest", needed=needed),
        Check(name="other", ask=lambda: "fine", still_works=""),
    )
    response = client.get("/readyz")
    assert (response.status_code, response.json()["status"]) == (code, status)
    assert response.json()["impaired"]["part"]["still_works"] == ("nothing" if code == 503 else "the rest")
    assert b"10.0.0.7" not in response.content


# --- Who is told, and what it costs -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "headers", "is_told"),
    [
        ("127.0.0.1", {}, True),
        ("10.1.2.3", {}, True),
        ("::ffff:192.168.0.9", {}, True),
        ("203.0.113.7", {}, False),
        ("2001:db8::7", {}, False),
        ("", {}, False),
        ("127.0.0.1", {"X-Forwarded-For": "203.0.113.7"}, False),
        ("127.0.0.1", {"Forwarded": "for=203.0.113.7"}, False),
    ],
)
def test_only_the_networks_of_probes_are_told_details(
    monkeypatch: pytest.MonkeyPatch, address: str, headers: dict[str, str], is_told: bool
) -> None:
    use(monkeypatch, Check(name="part", ask=lambda: "fine", still_works=""))
    client = Client(REMOTE_ADDR=address, headers=headers)
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json()["status"]) == (200, "ok")
    assert set(ready.json()) == ({"status", "dependencies", "impaired"} if is_told else {"status"})
    assert client.get("/metrics").status_code == (200 if is_told else 403)


def test_many_probes_cost_no_more_than_one(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    settings.PROBE_CACHE_SECONDS = 60
    asked: list[str] = []
    use(monkeypatch, Check(name="part", ask=lambda: asked.append("part") or "fine", still_works=""))
    monkeypatch.setattr(health, "_kept", Kept(health.measure))
    scraped: list[str] = []
    monkeypatch.setattr(probes, "_scrapes", {"": Kept(lambda: scraped.append("") or probes.healthz({}))})
    application = probes.Probes(lambda environ, start: pytest.fail("Django was asked"))

    def probe(number: int) -> list[bytes]:
        path = ("/readyz", "/metrics")[number % 2]
        environ = {"PATH_INFO": path, "REQUEST_METHOD": "GET", "REMOTE_ADDR": "127.0.0.1"}
        return list(application(environ, lambda status, headers: None))

    with ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(probe, range(400)))
    assert len(answers) == 400
    assert (asked, scraped) == (["part"], [""])


@pytest.mark.services
def test_probes_have_a_port_of_their_own_that_several_processes_share(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    use(monkeypatch, Check(name="part", ask=lambda: "fine", still_works=""))
    settings.HEALTH_PORT = free_port()
    servers = [probes.serve(), probes.serve()]
    # Whoever connects and says nothing takes a thread of his own.
    with socket.create_connection(("127.0.0.1", settings.HEALTH_PORT)):
        for path in (*probes.PROBES, "/"):
            with closing(HTTPConnection("127.0.0.1", settings.HEALTH_PORT, timeout=5)) as connection:
                connection.request("GET", path)
                assert connection.getresponse().status == (200 if path in probes.PROBES else 404)
    for server in servers:
        assert server is not None
        server.shutdown()
        server.server_close()
    settings.HEALTH_PORT = 0
    assert probes.serve() is None


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


def test_metrics_count_the_open_dead_letters(client: Client, broker: None) -> None:
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


def test_metrics_tell_what_readiness_looks_at(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    gone, *others = shards.aliases()
    take_away(monkeypatch, gone)
    values = metrics(client)
    assert values[f'wharf_check_ok{{check="{gone}"}}'] == 0
    assert all(values[f'wharf_check_ok{{check="{alias}"}}'] == 1 for alias in others)


def test_metrics_go_on_when_databases_are_away(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = shards.aliases()[0]
    take_away(monkeypatch, gone, "default")
    values = metrics(client)
    assert values[f'wharf_database_up{{database="{gone}"}}'] == 0
    assert values[f'wharf_database_up{{database="{shards.aliases()[-1]}"}}'] == 1
    assert f'wharf_outbox_events{{database="{gone}"}}' not in values
    assert "wharf_dead_letters_open" not in values


def test_metrics_of_several_processes_are_told_together(
    client: Client, broker: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = "from prometheus_client import Counter; Counter('tests', 'Of the test.').inc(3)"
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    for _ in range(2):
        subprocess.run([sys.executable, "-c", program], env=environment, check=True)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    values = metrics(client)
    assert values["tests_total"] == 6
    assert "wharf_dead_letters_open" in values
